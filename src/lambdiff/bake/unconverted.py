"""A pipeline for the diffusers engine: its components are copied as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lambdiff.bake import pipeline_folder, text_models, weight_files
from lambdiff.bake.parameters import Progress
from lambdiff.bake.pipeline_folder import ModelTraits, PipelineConfig


def copy(folder: Path, destination: Path, pipeline: PipelineConfig, progress: Progress) -> ModelTraits:
    """Copy the required components; the index lists the others as absent.

    Args:
        folder: a checked diffusers folder.
        destination: an existing folder.
        pipeline: the pipeline's configuration.
        progress: called before.

    Raises:
        ModelError: a configuration is missing or incomplete.
    """
    progress("copying")
    index = pipeline.index
    for component in pipeline_folder.required_components(index):
        weight_files.copy_component(folder / component, destination / component)
    absent: dict[str, Any] = {name: [None, None] for name in pipeline_folder.UNUSED_COMPONENTS if name in index}
    if "safety_checker" in index:
        absent["requires_safety_checker"] = False
    (destination / "model_index.json").write_text(json.dumps(index | absent, indent=2) + "\n", encoding="utf-8")
    return ModelTraits(
        precision="f32",
        latents=pipeline.latents,
        max_length=text_models.prompt_length(folder, index),
        tiny_decoder=pipeline.tiny_decoder,
    )

"""Build the manifest of a baked folder, from the model's files, the caller's choices, and defaults for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from lambdiff.bake.defaults import InferredDefaults
from lambdiff.bake.families import PROMPT_SYNTAXES
from lambdiff.bake.pipeline_folder import ModelTraits, PipelineConfig
from lambdiff.bake.provenance import BAKED_BY, NO_SAFETY_CHECKER, Provenance
from lambdiff.bake.scheduler_config import SchedulerConfig
from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import Approximations, EngineName, InferencePrecision, Manifest, Text
from lambdiff.protocol.contract import Limits


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The parameters of `bake` that the manifest records. `static_shapes` is decided, not None."""

    engine: EngineName
    approximations: Approximations
    static_shapes: bool
    inference_precision: InferencePrecision
    native_size: tuple[int, int] | None
    vocabulary: Sequence[str]
    notes: str


def build_manifest(
    provenance: Provenance,
    pipeline: PipelineConfig,
    traits: ModelTraits,
    scheduler: SchedulerConfig,
    inferred: InferredDefaults,
    notes: Sequence[str],
    choices: Choices,
) -> Manifest:
    """Return the manifest, with an empty list of files because the folder is not final yet."""
    # A model with a list of its words was trained on short texts of these.
    syntaxes = ("plain",) if choices.vocabulary else PROMPT_SYNTAXES.get(pipeline.pipeline_class, ("plain",))
    return Manifest(
        format=manifests.FORMAT,
        name=provenance.name,
        revision=provenance.revision,
        license=provenance.license,
        engine=choices.engine,
        precision=traits.precision,
        defaults=msgspec.structs.replace(inferred.defaults, prompt_syntax=syntaxes[-1]),
        limits=Limits(schedulers=scheduler.supported, prompt_syntaxes=syntaxes),
        files=[],
        diffusion=scheduler.diffusion,
        latents=traits.latents,
        text=Text(max_length=traits.max_length, vocabulary=sorted(choices.vocabulary)),
        native_size=choices.native_size,
        static_shapes=choices.static_shapes,
        inference_precision=choices.inference_precision,
        approximations=choices.approximations,
        guidance_embedding=pipeline.guidance_embedding,
        tiny_decoder=traits.tiny_decoder,
        sources=list(provenance.files),
        origin=list(provenance.origin),
        notes=" ".join(filter(None, (choices.notes, *notes, NO_SAFETY_CHECKER))),
        baked_by=BAKED_BY,
        baked_on=datetime.now(UTC).date().isoformat(),
    )

"""Build the manifest of a baked folder, from the model's files, the caller's choices, and defaults for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lambdiff.bake.defaults import InferredDefaults
from lambdiff.bake.pipeline_folder import ModelTraits, PipelineConfig
from lambdiff.bake.provenance import BAKED_BY, NO_SAFETY_CHECKER, Provenance
from lambdiff.bake.scheduler_config import SchedulerConfig
from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import Approximations, EngineName, InferencePrecision, Manifest, Text


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The parameters of `bake` that the manifest records. `static_shapes` is decided, not None."""

    engine: EngineName
    approximations: Approximations
    static_shapes: bool
    inference_precision: InferencePrecision
    winograd: bool
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
    return Manifest(
        format=manifests.FORMAT,
        name=provenance.name,
        revision=provenance.revision,
        license=provenance.license,
        engine=choices.engine,
        precision=traits.precision,
        defaults=inferred.defaults,
        limits=inferred.limits,
        files=[],
        family=traits.family,
        diffusion=scheduler.diffusion,
        latents=traits.latents,
        text=Text(
            max_length=traits.max_length,
            vocabulary=sorted(choices.vocabulary),
            zeros_for_empty_negative=traits.zeros_for_empty_negative,
        ),
        native_size=choices.native_size,
        static_shapes=choices.static_shapes,
        inference_precision=choices.inference_precision,
        winograd=choices.winograd,
        approximations=choices.approximations,
        guidance_embedding=pipeline.guidance_embedding,
        inpainting=pipeline.inpainting,
        tiny_decoder=traits.tiny_decoder,
        sources=list(provenance.files),
        origin=list(provenance.origin),
        notes=" ".join(filter(None, (choices.notes, *notes, NO_SAFETY_CHECKER))),
        baked_by=BAKED_BY,
        baked_on=datetime.now(UTC).date().isoformat(),
    )

"""Build the manifest of a baked folder, from the model's files, the caller's choices, and defaults for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from lambdiff.bake.catalogue import CatalogueEntry
from lambdiff.bake.parameters import DefaultOverrides
from lambdiff.bake.pipeline_folder import ModelTraits
from lambdiff.bake.provenance import BAKED_BY, NO_SAFETY_CHECKER, Provenance
from lambdiff.bake.scheduler_config import SchedulerConfig
from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import Approximations, EngineName, InferencePrecision, Manifest, Text
from lambdiff.protocol.contract import Defaults

_STEPS: Final = 25
_GUIDANCE_SCALE: Final = 7.5


def build_manifest(
    provenance: Provenance,
    traits: ModelTraits,
    scheduler: SchedulerConfig,
    *,
    engine: EngineName,
    defaults: Defaults,
    approximations: Approximations,
    static_shapes: bool,
    inference_precision: InferencePrecision,
    native_size: tuple[int, int] | None,
    vocabulary: Sequence[str],
    notes: str,
) -> Manifest:
    """Return the manifest, with an empty list of files because the folder is not final yet."""
    return Manifest(
        format=manifests.FORMAT,
        name=provenance.name,
        revision=provenance.revision,
        license=provenance.license,
        engine=engine,
        precision=traits.precision,
        defaults=defaults,
        files=[],
        diffusion=scheduler.diffusion,
        latents=traits.latents,
        text=Text(max_length=traits.max_length, vocabulary=sorted(vocabulary)),
        native_size=native_size,
        static_shapes=static_shapes,
        inference_precision=inference_precision,
        approximations=approximations,
        guidance_embedding=traits.guidance_embedding,
        tiny_decoder=traits.tiny_decoder,
        origin=list(provenance.origin),
        notes=" ".join(filter(None, (notes, NO_SAFETY_CHECKER))),
        baked_by=BAKED_BY,
        baked_on=datetime.now(UTC).date().isoformat(),
    )


def default_parameters(
    entry: CatalogueEntry | None,
    traits: ModelTraits,
    scheduler: SchedulerConfig,
    native_size: tuple[int, int] | None,
    overrides: DefaultOverrides | None,
) -> Defaults:
    """Return the defaults from the catalogue or the model's own files, with the caller's overrides.

    Raises:
        msgspec.ValidationError: an override is out of the contract's range.
    """
    if entry:
        defaults: dict[str, Any] = msgspec.to_builtins(entry.defaults)
    else:
        side = traits.sample_size * traits.latents.factor
        width, height = native_size or (side, side)
        defaults = {
            "num_inference_steps": _STEPS,
            "guidance_scale": _GUIDANCE_SCALE,
            "width": width,
            "height": height,
            "scheduler": scheduler.default_scheduler,
        }
    return msgspec.convert(defaults | dict(overrides or {}), Defaults)

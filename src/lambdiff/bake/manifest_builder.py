"""Build the manifest of a baked folder, from the model's files, the caller's choices, and defaults for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The parameters of `bake` that the manifest records. `static_shapes` is decided, not None."""

    engine: EngineName
    approximations: Approximations
    static_shapes: bool
    inference_precision: InferencePrecision
    native_size: tuple[int, int] | None
    defaults: DefaultOverrides | None
    vocabulary: Sequence[str]
    notes: str


def build_manifest(
    provenance: Provenance,
    traits: ModelTraits,
    scheduler: SchedulerConfig,
    choices: Choices,
    entry: CatalogueEntry | None,
) -> Manifest:
    """Return the manifest, with an empty list of files because the folder is not final yet.

    Raises:
        msgspec.ValidationError: a default is out of the contract's range.
    """
    return Manifest(
        format=manifests.FORMAT,
        name=provenance.name,
        revision=provenance.revision,
        license=provenance.license,
        engine=choices.engine,
        precision=traits.precision,
        defaults=_default_parameters(entry, traits, scheduler, choices.native_size, choices.defaults),
        files=[],
        diffusion=scheduler.diffusion,
        latents=traits.latents,
        text=Text(max_length=traits.max_length, vocabulary=sorted(choices.vocabulary)),
        native_size=choices.native_size,
        static_shapes=choices.static_shapes,
        inference_precision=choices.inference_precision,
        approximations=choices.approximations,
        guidance_embedding=traits.guidance_embedding,
        tiny_decoder=traits.tiny_decoder,
        origin=list(provenance.origin),
        notes=" ".join(filter(None, (choices.notes, NO_SAFETY_CHECKER))),
        baked_by=BAKED_BY,
        baked_on=datetime.now(UTC).date().isoformat(),
    )


def _default_parameters(
    entry: CatalogueEntry | None,
    traits: ModelTraits,
    scheduler: SchedulerConfig,
    native_size: tuple[int, int] | None,
    overrides: DefaultOverrides | None,
) -> Defaults:
    """Return the defaults from the catalogue or the model's own files, with the caller's overrides."""
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

"""The parameters that requests to a baked model get by default, from the catalogue or inferred from the model's files.

Ordinary models need guidance and some twenty steps. A model that was distilled to few steps gives itself away by its
scheduler, its UNet or its decoder; the rules follow the cards of the models that introduced each method.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from lambdiff.bake import families
from lambdiff.bake.catalogue import CatalogueEntry
from lambdiff.bake.parameters import DefaultOverrides
from lambdiff.bake.pipeline_folder import PipelineConfig
from lambdiff.bake.scheduler_config import SchedulerConfig
from lambdiff.engine import schedulers
from lambdiff.protocol.contract import MAX_SIZE, MIN_SIZE, Defaults, Limits, PictureUse

_STEPS: Final = 25
_GUIDANCE_SCALE: Final = 7.5


@dataclass(frozen=True)
class InferredDefaults:
    """The default parameters, and why.

    Attributes:
        defaults: the parameters.
        limits: what requests may ask for instead.
        notes: one sentence for each value that was inferred or changed.
    """

    defaults: Defaults
    limits: Limits = field(default_factory=Limits)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _FewSteps:
    """Steps and guidance of a model that was distilled to few steps, and what marks it as such."""

    steps: int
    guidance_scale: float
    reason: str


def choose(
    entry: CatalogueEntry | None,
    pipeline: PipelineConfig,
    scheduler: SchedulerConfig,
    native_size: tuple[int, int] | None,
    overrides: DefaultOverrides,
    vocabulary: Collection[str] = (),
    pictures: PictureUse = "unsupported",
) -> InferredDefaults:
    """Return the catalogue's defaults, or those that the model's own files suggest, with the caller's overrides.

    Args:
        entry: the catalogue's entry, if the model is in the catalogue.
        pipeline: the pipeline's configuration.
        scheduler: its scheduler.
        native_size: (width, height) in pixels of a model that can only generate one size.
        overrides: the caller's values.
        vocabulary: the words that the model knows; empty if unknown.
        pictures: whether requests may have a start image and a mask.

    Raises:
        InvalidRequest: the model does not support the values.
    """
    syntaxes = families.prompt_syntaxes(pipeline.pipeline_class, vocabulary)
    limits = Limits(schedulers=scheduler.supported, prompt_syntaxes=syntaxes, image=pictures, mask=pictures)
    overrides = {"prompt_syntax": syntaxes[-1], **overrides}
    inferred = _of_entry(entry, overrides) if entry else _infer(pipeline, scheduler, native_size, overrides)
    generation = inferred.defaults.sample_request("a cat in a top hat", limits).resolve(inferred.defaults)
    limits.check(generation)
    schedulers.for_request(generation, scheduler.diffusion)  # checks the number of steps
    return replace(inferred, limits=limits)


def _of_entry(entry: CatalogueEntry, overrides: DefaultOverrides) -> InferredDefaults:
    chosen = msgspec.to_builtins(entry.defaults) | dict(overrides)
    if "scheduler" in overrides and "sigma_schedule" not in overrides:
        chosen["sigma_schedule"] = "normal"
    return InferredDefaults(msgspec.convert(chosen, Defaults))


def _infer(
    pipeline: PipelineConfig,
    scheduler: SchedulerConfig,
    native_size: tuple[int, int] | None,
    overrides: DefaultOverrides,
) -> InferredDefaults:
    few_steps = _few_steps(pipeline, scheduler)
    width, height = native_size or _trained_size(pipeline)
    fields: dict[str, Any] = {
        "num_inference_steps": few_steps.steps if few_steps else _STEPS,
        "guidance_scale": few_steps.guidance_scale if few_steps else _GUIDANCE_SCALE,
        "width": width,
        "height": height,
        "scheduler": scheduler.default_scheduler,
        "sigma_schedule": scheduler.sigma_schedule,
    }
    if overrides.get("scheduler", scheduler.default_scheduler) != scheduler.default_scheduler:
        fields["sigma_schedule"] = "normal"
    return InferredDefaults(
        msgspec.convert(fields | dict(overrides), Defaults), notes=_notes(pipeline, fields, few_steps, overrides)
    )


def _few_steps(pipeline: PipelineConfig, scheduler: SchedulerConfig) -> _FewSteps | None:
    """Return steps and guidance of a model that was distilled to few steps, or None for an ordinary model."""
    name, diffusion = scheduler.default_scheduler, scheduler.diffusion
    if pipeline.guidance_embedding:
        return _FewSteps(4, 8.0, "its UNet takes the guidance scale as an input")
    if name == "lcm":
        return _FewSteps(4, 1.0, "its scheduler is LCM's")
    if name == "tcd":
        return _FewSteps(4, 0.0, "its scheduler is TCD's")
    if pipeline.tiny_decoder:
        return _FewSteps(1, 0.0, "its own decoder is an AutoencoderTiny")
    samples_noise = diffusion.prediction_type == "epsilon"
    if diffusion.timestep_spacing == "trailing" and samples_noise and name in ("euler", "euler_ancestral"):
        return _FewSteps(4, 0.0, f"its scheduler is {name} with trailing timesteps")
    return None


def _trained_size(pipeline: PipelineConfig) -> tuple[int, int]:
    """Return (width, height) in pixels that the UNet was trained on, limited to what a request may ask for."""
    height, width = (side * pipeline.latents.factor for side in pipeline.sample_size)
    largest = max(width, height)
    scale = min(1.0, MAX_SIZE / largest)
    step = pipeline.latents.factor * pipeline.latents.multiple

    def fitted(side: int) -> int:
        pixels = side if scale == 1.0 else int(side * scale) // step * step
        return -(-max(pixels, MIN_SIZE) // 8) * 8

    return fitted(width), fitted(height)


def _notes(
    pipeline: PipelineConfig, fields: dict[str, Any], few_steps: _FewSteps | None, overrides: DefaultOverrides
) -> tuple[str, ...]:
    notes = []
    if few_steps and not {"num_inference_steps", "guidance_scale"} <= overrides.keys():
        guidance = f"guidance {few_steps.guidance_scale:g}" if few_steps.guidance_scale > 1 else "no guidance"
        steps = "1 step" if few_steps.steps == 1 else f"{few_steps.steps} steps"
        notes.append(f"Defaults of {steps} and {guidance}, because {few_steps.reason}.")
    height, width = (side * pipeline.latents.factor for side in pipeline.sample_size)
    if (width, height) != (fields["width"], fields["height"]) and not {"width", "height"} <= overrides.keys():
        notes.append(f"The model was trained at {width}x{height}; the default is {fields['width']}x{fields['height']}.")
    return tuple(notes)

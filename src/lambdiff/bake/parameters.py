"""The types of `bake`'s parameters, and the checks that need no model."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, TypedDict, cast

from lambdiff.bake.pipeline_folder import PipelineConfig
from lambdiff.engine.manifest import Approximations, EngineName
from lambdiff.errors import InvalidRequest, MissingExtra, ModelError
from lambdiff.protocol.contract import Defaults, PictureUse, PromptSyntax, SchedulerName, SigmaSchedule
from lambdiff.protocol.validation import raise_for, validate_fields

StoragePrecision = Literal["f32", "f16", "int8", "w8a8"]
"""How weights are stored."""
Precision = Literal["auto", "f32", "f16", "int8", "w8a8"]
"""`StoragePrecision`, or `auto`, which is f16."""
Prediction = Literal["epsilon", "v"]
"""What a UNet predicts: the noise, or v."""
LoraFile = tuple[str | Path, float]
"""A LoRA and the factor of its changes."""
EmbeddingFile = tuple[str | None, str | Path]
"""The word that stands for an embedding, or None for the name of the file; and the file."""
Progress = Callable[[str], None]
"""Called with a short message, such as `comparing unet`, when a step begins."""

MIN_CALIBRATION_PROMPTS: Final = 8

_REQUIRED_MODULES: Final[dict[EngineName, tuple[str, ...]]] = {
    "openvino": ("torch", "diffusers", "transformers", "safetensors", "peft", "nncf", "openvino"),
    "diffusers": ("torch", "diffusers", "transformers", "safetensors", "peft"),
}


class DefaultOverrides(TypedDict, total=False):
    """Fields of the contract's `Defaults` that differ from the model's own. `width` and `height` are in pixels."""

    num_inference_steps: int
    guidance_scale: float
    width: int
    height: int
    scheduler: SchedulerName
    sigma_schedule: SigmaSchedule
    prompt_syntax: PromptSyntax
    negative_prompt: str


def discard(_message: str) -> None:
    """Ignore a progress message."""


def check_calibration(calibration: Sequence[str] | None, precision: Precision) -> None:
    """Reject calibration prompts that would not be used, and too few of them.

    Raises:
        InvalidRequest: the precision is not w8a8, or fewer than 8 of the prompts differ.
    """
    if calibration is None:
        return
    if precision != "w8a8":
        raise InvalidRequest("Only w8a8 is calibrated.", fix='Pass `precision="w8a8"`, or leave out `calibration=`.')
    if (count := len(set(calibration))) < MIN_CALIBRATION_PROMPTS:
        raise InvalidRequest(
            f"{count} distinct prompts are too few to calibrate.", fix=f"Pass {MIN_CALIBRATION_PROMPTS} or more."
        )


def check_defaults(overrides: DefaultOverrides | None) -> DefaultOverrides:
    """Return the defaults that the caller chose, validated.

    Raises:
        InvalidRequest: a field is unknown or out of range.
    """
    values, problems = validate_fields(Defaults, dict(overrides or {}))
    if problems:
        details = "; ".join(f"{name} {detail}" for name, detail in problems)
        raise InvalidRequest(f"The defaults are not valid: {details}.", fix="Correct `defaults=`.", problems=problems)
    return cast(DefaultOverrides, values)


def make_approximations(guidance_interval: tuple[float, float], deepcache_interval: int) -> Approximations:
    """Return the approximations, validated.

    Raises:
        InvalidRequest: a value is out of range.
    """
    given = {"guidance_interval": guidance_interval, "deepcache_interval": deepcache_interval}
    values, problems = validate_fields(Approximations, given)
    raise_for(problems)
    try:
        return Approximations(**values)
    except ValueError as error:
        raise InvalidRequest(f"{error}.") from None


def check_unconverted(
    precision: Precision,
    decoder: str | Path,
    approximations: Approximations,
    static_shapes: bool | None,
    inference_precision: str,
    winograd: bool,
) -> None:
    """Reject options that only the OpenVINO engine supports: the diffusers engine runs the original files.

    Raises:
        InvalidRequest: an approximation, static shapes or another arithmetic was requested.
        ModelError: a storage precision or another decoder was requested.
    """
    if approximations != Approximations() or static_shapes or inference_precision != "auto" or not winograd:
        raise InvalidRequest(
            "The diffusers engine supports no approximations.",
            fix="Leave out `guidance_interval=`, `deepcache_interval=`, `static_shapes=`, `inference_precision=` and "
            "`winograd=`.",
        )
    if precision != "auto" or decoder != "full":
        raise ModelError(
            "The diffusers engine keeps the files as they are.", fix="Leave out `precision=` and `decoder=`."
        )


def choose_pictures(image_to_image: bool | None, pipeline: PipelineConfig) -> PictureUse:
    """Return whether requests may, or must, have a start image and a mask.

    Raises:
        InvalidRequest: the caller does not want them, and the model needs them.
    """
    if not pipeline.inpainting:
        return "unsupported" if image_to_image is False else "optional"
    if image_to_image is False:
        raise InvalidRequest(
            "The model is one for inpainting, which needs a start image.", fix="Leave out `image_to_image=False`."
        )
    return "required"


def choose_static_shapes(
    static_shapes: bool | None,
    engine: EngineName,
    precision: Precision,
    approximations: Approximations,
    native_size: tuple[int, int] | None,
) -> bool:
    """Return the caller's choice, or by default whether static shapes make the model faster."""
    if static_shapes is not None:
        return static_shapes
    # With an interval the UNet would be compiled twice, with and without guidance.
    always_guided = approximations.guidance_interval == (0.0, 1.0)
    return engine == "openvino" and native_size is None and precision != "w8a8" and always_guided


def find_libraries(engine: EngineName) -> None:
    """Look for the libraries that baking needs without importing them, which takes seconds.

    Raises:
        MissingExtra: the `bake` extra is not installed.
    """
    if not all(importlib.util.find_spec(module.partition(".")[0]) for module in _REQUIRED_MODULES[engine]):
        raise MissingExtra("A library that `lambdiff bake` needs", "bake")


def check_libraries(engine: EngineName) -> None:
    """Import the libraries that baking needs, so that a missing one is reported before any work, and silence them.

    Raises:
        MissingExtra: the `bake` extra is not installed.
    """
    # OpenVINO and NNCF send usage statistics unless this package cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        modules = [importlib.import_module(module) for module in _REQUIRED_MODULES[engine]]
    except ImportError:
        raise MissingExtra("A library that `lambdiff bake` needs", "bake") from None
    for module in modules:
        if module.__name__ in ("diffusers", "transformers"):
            module.utils.logging.disable_progress_bar()
            module.utils.logging.set_verbosity_error()

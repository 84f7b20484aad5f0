"""A pipeline's `scheduler_config.json`: the noise process of its training, and its default scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lambdiff.bake import pipeline_folder
from lambdiff.engine.manifest import Diffusion
from lambdiff.errors import ModelError
from lambdiff.protocol.contract import SchedulerName

SCHEDULERS: Final[dict[str, SchedulerName]] = {
    "PNDMScheduler": "pndm",
    "DDIMScheduler": "ddim",
    "LCMScheduler": "lcm",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
}
"""diffusers' scheduler class -> the contract's name of the same scheduler."""
FALLBACK: Final[SchedulerName] = "euler"
"""The default for a model whose scheduler class is not in `SCHEDULERS`; the noise process does not depend on it."""

_UNSUPPORTED_KEYS: Final = ("trained_betas", "rescale_betas_zero_snr", "thresholding", "use_flow_sigmas")
_FIX: Final = "Bake a model trained with a linear or scaled linear noise schedule."


@dataclass(frozen=True)
class SchedulerConfig:
    """The noise process and the scheduler of a model.

    Attributes:
        diffusion: the noise process that the weights were trained with.
        default_scheduler: the contract's name of the pipeline's own scheduler, or `FALLBACK`.
    """

    diffusion: Diffusion
    default_scheduler: SchedulerName


def read(folder: Path) -> SchedulerConfig:
    """Read the scheduler's configuration of a diffusers folder. Missing keys take the defaults of diffusers' class.

    Raises:
        ModelError: the configuration is missing, or describes a noise process that no engine supports.
    """
    import diffusers

    stored = pipeline_folder.read_json(folder / "scheduler" / "scheduler_config.json")
    class_name = str(stored.get("_class_name"))
    try:
        config = dict(getattr(diffusers, class_name).from_config(stored).config)
        fields = {key: config[key] for key in Diffusion.__struct_fields__ if key in config}
        diffusion = msgspec.convert(fields, Diffusion)
    except (AttributeError, ValueError, NotImplementedError, msgspec.ValidationError) as error:
        raise ModelError(f"The scheduler {class_name} of {folder} is not supported: {error}", fix=_FIX) from None
    if unsupported := [key for key in _UNSUPPORTED_KEYS if config.get(key)]:
        raise ModelError(f"The scheduler of {folder} sets {unsupported[0]}, which is not supported.", fix=_FIX)
    return SchedulerConfig(diffusion, SCHEDULERS.get(class_name, FALLBACK))

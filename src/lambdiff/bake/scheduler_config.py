"""A pipeline's `scheduler_config.json`: the noise process of its training, and its default scheduler.

Nothing in the file is dropped silently. A setting is honored, or the nearest supported one is used and named in a
note, or the model is refused because no sampler could generate its images.
"""

from __future__ import annotations

import inspect
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from lambdiff.bake import pipeline_folder
from lambdiff.engine.manifest import Diffusion, EngineName
from lambdiff.errors import ModelError
from lambdiff.protocol.contract import SIGMA_SCHEDULED, SchedulerName, SigmaSchedule

SCHEDULERS: Final[dict[str, SchedulerName]] = {
    "DDIMParallelScheduler": "ddim",
    "DDIMScheduler": "ddim",
    "DDPMParallelScheduler": "ddpm",
    "DDPMScheduler": "ddpm",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "EulerDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun",
    "LCMScheduler": "lcm",
    "PNDMScheduler": "pndm",
    "TCDScheduler": "tcd",
    "UniPCMultistepScheduler": "unipc",
}
"""diffusers' scheduler class -> the contract's name of the same scheduler."""
NEAREST: Final[dict[str, SchedulerName]] = {
    "DEISMultistepScheduler": "dpmpp_2m",
    "DPMSolverSDEScheduler": "dpmpp_2m_sde",
    "DPMSolverSinglestepScheduler": "dpmpp_2m",
    "KDPM2AncestralDiscreteScheduler": "euler_ancestral",
    "KDPM2DiscreteScheduler": "heun",
    "LMSDiscreteScheduler": "dpmpp_2m",
    "SASolverScheduler": "dpmpp_2m_sde",
}
"""diffusers' classes of other samplers for the same noise process -> the most similar scheduler."""

_SDE: Final = "sde-dpmsolver++"
# Settings that change what the model's inputs or outputs mean: value without effect.
_REFUSED: Final[dict[str, Any]] = {
    "use_flow_sigmas": False,
    "timestep_type": "discrete",
}
# Settings of a sampler that only change how well it approximates the same process: values without effect.
_NOT_HONORED: Final[dict[str, tuple[Any, ...]]] = {
    "algorithm_type": ("dpmsolver++", _SDE),
    "disable_corrector": ([], None),
    "interpolation_type": ("linear",),
    "lambda_min_clipped": (-math.inf, None),
    "predict_x0": (True,),
    "sigma_max": (None,),
    "sigma_min": (None,),
    "skip_prk_steps": (True,),
    "solver_p": (None,),
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False, None),
    "variance_type": ("fixed_small", "fixed_small_log", None),
}
_SIGMA_SCHEDULES: Final[dict[str, SigmaSchedule]] = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
}
_FIX: Final = (
    "Bake a model that predicts noise, v or the clean sample in discrete timesteps, or save another scheduler."
)
_ONLY: Final[dict[str, tuple[SchedulerName, ...]]] = {"LatentConsistencyModelPipeline": ("lcm",)}
"""diffusers' class of a pipeline -> the schedulers that it can run, if it cannot run all."""
_CORRECTED_PIPELINES: Final = ("StableDiffusionPipeline",)
_CORRECTIONS: Final = {"steps_offset": 1, "clip_sample": False}
"""What diffusers' pipeline sets in the configuration of its scheduler when it is loaded."""


@dataclass(frozen=True)
class SchedulerConfig:
    """The noise process and the scheduler of a model.

    Attributes:
        diffusion: the noise process that the weights were trained with.
        default_scheduler: the contract's name of the pipeline's own scheduler, or of the nearest one.
        sigma_schedule: how the pipeline's own scheduler spaces the noise levels.
        replaced: one sentence for each setting of the pipeline's own scheduler that is not honored.
        only: the schedulers that the engine can run with this class of pipeline; empty if it runs all.
    """

    diffusion: Diffusion
    default_scheduler: SchedulerName
    sigma_schedule: SigmaSchedule = "normal"
    replaced: tuple[str, ...] = ()
    only: tuple[SchedulerName, ...] = ()

    @property
    def supported(self) -> tuple[SchedulerName, ...]:
        """The schedulers that can generate with this noise process."""
        unsupported: tuple[str, ...] = ()
        if self.diffusion.rescale_betas_zero_snr:
            unsupported = ("pndm",)  # divides by the share of the clean sample, which begins at zero
        elif self.diffusion.prediction_type == "sample":
            unsupported = ("euler_ancestral", "pndm")  # diffusers' classes refuse it
        return tuple(name for name in self.only or get_args(SchedulerName) if name not in unsupported)


def read(folder: Path, index: dict[str, Any], engine: EngineName = "openvino") -> SchedulerConfig:
    """Read the scheduler's configuration of a diffusers folder, as diffusers itself reads it.

    Args:
        folder: the pipeline's folder.
        index: the content of its `model_index.json`, which decides the scheduler's class.
        engine: the engine that will run the model.

    Raises:
        ModelError: the configuration is missing, or describes a noise process that no engine supports.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    stored = pipeline_folder.read_json(path)
    named = str(stored.get("_class_name"))
    class_name = pipeline_folder.component_class(index, "scheduler") or named
    name = SCHEDULERS.get(class_name) or NEAREST.get(class_name)
    if name is None:
        raise ModelError(f"The scheduler {class_name} of {folder} is not supported.", fix=_FIX)
    config = _complete(stored, class_name, path)
    _check_supported(config, folder)
    if class_name == "DPMSolverMultistepScheduler" and config["algorithm_type"].startswith("sde-"):
        name = "dpmpp_2m_sde"
    replaced = _replaced(config, class_name, name) + _replace_unstable(config, name)
    if named not in (class_name, "None"):
        replaced.append(f"The scheduler is {class_name}, as in model_index.json; scheduler_config.json says {named}.")
    if pipeline_folder.text_to_image_class(index) in _CORRECTED_PIPELINES:
        config |= {key: value for key, value in _CORRECTIONS.items() if key in config}
    only = _ONLY.get(str(index.get("_class_name")), ()) if engine == "diffusers" else ()
    if only and name not in only:
        raise ModelError(
            f"The scheduler of {folder} is a {class_name}, with which diffusers' {index['_class_name']} cannot run.",
            fix='Pass `engine="openvino"`.',
        )
    found = SchedulerConfig(_diffusion(config, folder), name, _sigma_schedule(config, name), tuple(replaced), only)
    if name not in found.supported:
        raise ModelError(f"The scheduler {class_name} of {folder} cannot generate with this noise process.", fix=_FIX)
    return found


def _complete(stored: dict[str, Any], class_name: str, path: Path) -> dict[str, Any]:
    """Return the settings that diffusers' class takes from a stored configuration, with its own for missing keys."""
    import diffusers

    scheduler_class: Any = getattr(diffusers, class_name)
    if not issubclass(scheduler_class, diffusers.SchedulerMixin):  # a stand-in for one whose library is missing
        scheduler_class = diffusers.KDPM2DiscreteScheduler
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()  # it warns about keys of other classes
    try:
        with warnings.catch_warnings(action="ignore"):  # deprecated settings are told or refused below
            config = scheduler_class.from_config(stored).config
    except Exception as error:  # the classes check their settings in many ways
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{path} is not supported: {class_name} refuses it: {reason[:200]}", fix=_FIX) from None
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)
    return {key: config[key] for key in inspect.signature(scheduler_class.__init__).parameters if key in config}


def _check_supported(config: dict[str, Any], folder: Path) -> None:
    refused = [key for key, neutral in _REFUSED.items() if config.get(key, neutral) not in (neutral, None)]
    if config.get("variance_type") in ("learned", "learned_range"):
        refused.append("variance_type")
    if config.get("rescale_betas_zero_snr") and config["prediction_type"] == "epsilon":
        # At the first step there is nothing but noise, from which the clean sample cannot be computed.
        refused.append("rescale_betas_zero_snr without v prediction")
    if refused:
        raise ModelError(f"The scheduler of {folder} sets {refused[0]}, which is not supported.", fix=_FIX)


def _replaced(config: dict[str, Any], class_name: str, name: SchedulerName) -> list[str]:
    """Return a sentence for each setting that the scheduler `name` does not honor."""
    sentences = []
    not_honored = dict(_NOT_HONORED)
    if class_name in NEAREST:
        sentences.append(f"The scheduler {class_name} is replaced by {name}, the most similar one.")
        del not_honored["algorithm_type"]  # the names of other samplers' variants
    for key, neutral in not_honored.items():
        if key in config and config[key] not in neutral:
            sentences.append(f"{key}={config[key]!r} of {class_name} is not honored; {name} is used without it.")
    sentences += [
        f"{key} of {class_name} is not honored with {name}."
        for key in _SIGMA_SCHEDULES
        if config.get(key) and name not in SIGMA_SCHEDULED
    ]
    return sentences


def _replace_unstable(config: dict[str, Any], name: SchedulerName) -> list[str]:
    """Replace settings with which diffusers' own samplers fail, and return a sentence for each."""
    sentences = []
    if name == "dpmpp_2m_sde" and config.get("solver_order") == 3:
        # The constant of the second difference has the wrong sign there.
        config["solver_order"] = 2
        sentences.append("solver_order 3 of the SDE solver is replaced by 2.")
    ends_at_zero = config.get("final_sigmas_type", "zero") == "zero"
    if name == "unipc" and ends_at_zero and not config.get("lower_order_final", True):
        # The last step, to zero noise, is infinitely long.
        config["lower_order_final"] = True
        sentences.append("lower_order_final=False of UniPC is replaced by True.")
    if name == "unipc" and ends_at_zero and config.get("solver_type") == "bh1":
        # diffusers multiplies the last step's correction, which is zero, with its infinite length.
        sentences.append("solver_type bh1 of UniPC is used without a correction in the last step.")
    return sentences


def _sigma_schedule(config: dict[str, Any], name: SchedulerName) -> SigmaSchedule:
    if name not in SIGMA_SCHEDULED:
        return "normal"
    return next((schedule for key, schedule in _SIGMA_SCHEDULES.items() if config.get(key)), "normal")


def _diffusion(config: dict[str, Any], folder: Path) -> Diffusion:
    fields = {key: config[key] for key in Diffusion.__struct_fields__ if key in config}
    # `clip_sample_range` has a value even if the scheduler does not clip.
    fields["clip_sample_range"] = config.get("clip_sample_range", 1.0) if config.get("clip_sample") else None
    if fields.get("solver_type") == "logrho":  # DEIS
        del fields["solver_type"]
    betas, count = fields.get("trained_betas"), fields.get("num_train_timesteps")
    if isinstance(betas, list) and len(betas) != count:
        detail = f"has {len(betas)} trained_betas for {count} timesteps, which is not supported"
        raise ModelError(f"The scheduler of {folder} {detail}.", fix=_FIX)
    try:
        return msgspec.convert(fields, Diffusion)
    except msgspec.ValidationError as error:
        raise ModelError(f"The scheduler of {folder} is not supported: {error}.", fix=_FIX) from None

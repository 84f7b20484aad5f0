"""Samplers in numpy: from the model's output at each timestep to the next, less noisy sample.

Each class follows its paper and agrees, step by step, with diffusers' class. An object serves one request, because it
counts its steps.

To add a sampler, write its class in a file here, add its name to `contract.SchedulerName`, and add both to `make`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lambdiff.engine.latents import StepNoise, step_noise
from lambdiff.engine.schedulers.base import Scheduler
from lambdiff.engine.schedulers.consistency import LCM, TCD
from lambdiff.engine.schedulers.ddim import DDIM
from lambdiff.engine.schedulers.ddpm import DDPM
from lambdiff.engine.schedulers.dpmpp_2m import DPMSolverPlusPlus
from lambdiff.engine.schedulers.euler import Euler
from lambdiff.engine.schedulers.euler_ancestral import EulerAncestral
from lambdiff.engine.schedulers.heun import Heun
from lambdiff.engine.schedulers.pndm import PNDM
from lambdiff.engine.schedulers.unipc import UniPC
from lambdiff.protocol.contract import strength_problems
from lambdiff.protocol.validation import raise_for

if TYPE_CHECKING:
    from lambdiff.engine.manifest import Diffusion
    from lambdiff.protocol.contract import Generation, SchedulerName, SigmaSchedule

__all__ = ["Scheduler", "for_request", "make"]


def for_request(generation: Generation, diffusion: Diffusion) -> Scheduler:
    """Return the sampler that a request asks for, with the noise of its seed, at the first step that runs.

    Args:
        generation: the request.
        diffusion: the noise process that the weights were trained with.

    Raises:
        InvalidRequest: more steps than the teacher of LCM or TCD had, or no step that the strength leaves.
    """
    raise_for(strength_problems(generation))
    scheduler = make(
        generation.scheduler,
        diffusion,
        generation.num_inference_steps,
        step_noise(generation.seed),
        generation.sigma_schedule,
    )
    scheduler.skip(generation.num_inference_steps - generation.steps)
    return scheduler


def make(
    name: SchedulerName,
    diffusion: Diffusion,
    num_inference_steps: int,
    noise: StepNoise,
    sigma_schedule: SigmaSchedule = "normal",
) -> Scheduler:
    """Return a sampler for one request.

    Args:
        name: the contract's name of the sampler.
        diffusion: the noise process that the weights were trained with.
        num_inference_steps: at least 1.
        noise: the request's noise of each step, for the samplers that add some.
        sigma_schedule: how the noise levels are spaced; only samplers in `contract.SIGMA_SCHEDULED` take another than
            `normal`.

    Raises:
        InvalidRequest: more steps than the teacher of LCM or TCD had.
    """
    steps = num_inference_steps
    if name in _DETERMINISTIC:
        return _DETERMINISTIC[name](diffusion, steps)
    if name in _NOISY:
        return _NOISY[name](diffusion, steps, noise)
    if name == "dpmpp_2m_sde":
        return DPMSolverPlusPlus(diffusion, steps, sigma_schedule, noise)
    return _SIGMA_SCHEDULED[name](diffusion, steps, sigma_schedule)


_DETERMINISTIC: Final[dict[str, type[DDIM | PNDM]]] = {"ddim": DDIM, "pndm": PNDM}
_NOISY: Final[dict[str, type[DDPM | EulerAncestral | LCM | TCD]]] = {
    "ddpm": DDPM,
    "euler_ancestral": EulerAncestral,
    "lcm": LCM,
    "tcd": TCD,
}
_SIGMA_SCHEDULED: Final[dict[str, type[DPMSolverPlusPlus | Euler | Heun | UniPC]]] = {
    "dpmpp_2m": DPMSolverPlusPlus,
    "euler": Euler,
    "heun": Heun,
    "unipc": UniPC,
}

"""Samplers in numpy: from the model's output at each timestep to the next, less noisy sample. One file each.

Each class follows its paper and agrees, step by step, with diffusers' class of the same name in the settings that
Stable Diffusion pipelines use. An object serves one request, because it counts its steps.

To add a sampler, write its class in a file here, add its name to `contract.SchedulerName`, and add both to `make`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lambdiff.engine.schedulers.base import Scheduler
from lambdiff.engine.schedulers.ddim import DDIM
from lambdiff.engine.schedulers.dpmpp_2m import DPMSolverPlusPlus2M
from lambdiff.engine.schedulers.euler import Euler
from lambdiff.engine.schedulers.lcm import LCM
from lambdiff.engine.schedulers.pndm import PNDM

if TYPE_CHECKING:
    import numpy as np

    from lambdiff.engine.manifest import Diffusion
    from lambdiff.protocol.contract import SchedulerName

__all__ = ["Scheduler", "make"]


def make(name: SchedulerName, diffusion: Diffusion, num_inference_steps: int, noise: np.random.Generator) -> Scheduler:
    """Return a sampler for one request.

    Args:
        name: the contract's name of the sampler.
        diffusion: the noise process that the weights were trained with.
        num_inference_steps: at least 1.
        noise: the request's generator; only LCM draws from it.

    Raises:
        InvalidRequest: more steps than LCM's teacher had.
    """
    if name == "lcm":
        return LCM(diffusion, num_inference_steps, noise)
    return _DETERMINISTIC[name](diffusion, num_inference_steps)


_DETERMINISTIC: Final[dict[str, type[DDIM | PNDM | Euler | DPMSolverPlusPlus2M]]] = {
    "ddim": DDIM,
    "dpmpp_2m": DPMSolverPlusPlus2M,
    "euler": Euler,
    "pndm": PNDM,
}

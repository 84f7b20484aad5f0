"""DPM-Solver++: Lu and others 2022, "DPM-Solver++", the multistep solvers for the ODE and, in appendix A, the SDE."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from lambdiff.engine.schedulers.base import MultistepScheduler

if TYPE_CHECKING:
    from lambdiff.engine.latents import StepNoise
    from lambdiff.engine.manifest import Diffusion
    from lambdiff.engine.schedulers.base import Array
    from lambdiff.protocol.contract import SigmaSchedule

_FEW_STEPS: Final = 15
"""With fewer steps than this, the last steps are of lower order, which is more stable."""


class DPMSolverPlusPlus(MultistepScheduler):
    """Multistep solver of order 2, or of the order in the model's own configuration.

    Args:
        diffusion: the noise process that the weights were trained with.
        steps: at least 1.
        sigma_schedule: how the noise levels are spaced.
        noise: the request's noise of each step, to solve the SDE; None to solve the ODE.
    """

    def __init__(
        self,
        diffusion: Diffusion,
        steps: int,
        sigma_schedule: SigmaSchedule = "normal",
        noise: StepNoise | None = None,
    ) -> None:
        super().__init__(diffusion, steps, sigma_schedule)
        self.fresh_noise = noise

    def step(self, output: Array, sample: Array) -> Array:
        """Solve the linear part exactly, and extrapolate the clean sample from the last steps."""
        index = self.done
        self.keep(self.clean_sample(output, sample))
        order = min(self._order(index), len(self.outputs))
        _, sigma = self.coefficients(index)
        next_alpha, next_sigma = self.coefficients(index + 1)
        # The SDE's solution is that of an ODE with twice the step, plus the noise that was added on the way.
        width = self.log_snr(index + 1) - self.log_snr(index)
        doubled = width if self.fresh_noise is None else 2 * width
        decay = math.exp(-doubled)
        kept = next_sigma / sigma * (1 if self.fresh_noise is None else math.exp(-width))
        moved: Array = kept * sample + next_alpha * (1 - decay) * self.outputs[-1]
        for weight, difference in zip(self._weights(order, doubled), self._differences(order), strict=True):
            moved = moved + next_alpha * weight * difference
        if self.fresh_noise is not None and next_sigma > 0:
            moved = moved + next_sigma * math.sqrt(1 - decay) * self.fresh_noise(index, sample.shape)
        self.done += 1
        return moved

    def _order(self, index: int) -> int:
        """Return the order of a step."""
        diffusion, left = self.diffusion, self.steps - index
        lower = diffusion.lower_order_final and self.steps < _FEW_STEPS
        if left == 1 and (lower or diffusion.euler_at_final or diffusion.final_sigmas_type == "zero"):
            return 1
        return min(self.order, 2) if left == 2 and lower else self.order

    def _weights(self, order: int, width: float) -> tuple[float, ...]:
        """Return the weights of the scaled first and second differences of the clean sample."""
        if order == 1:
            return ()
        first = (math.exp(-width) - 1) / width + 1
        if order == 3:
            return first, 0.5 - (math.exp(-width) - 1 + width) / width**2
        return (first if self.diffusion.solver_type == "heun" else (1 - math.exp(-width)) / 2,)

    def _differences(self, order: int) -> tuple[Array, ...]:
        """Return the first and second differences of the clean sample, in units of the coming step."""
        if order == 1:
            return ()
        index = self.done
        width = self.log_snr(index + 1) - self.log_snr(index)
        ratio = (self.log_snr(index) - self.log_snr(index - 1)) / width
        newest = (self.outputs[-1] - self.outputs[-2]) / ratio
        if order == 2:
            return (newest,)
        older_ratio = (self.log_snr(index - 1) - self.log_snr(index - 2)) / width
        older = (self.outputs[-2] - self.outputs[-3]) / older_ratio
        change = (newest - older) / (ratio + older_ratio)
        return newest + ratio * change, change

"""UniPC: Zhao and others 2023, "UniPC: a unified predictor-corrector framework", in the clean sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lambdiff.engine.schedulers.base import MultistepScheduler

if TYPE_CHECKING:
    from lambdiff.engine.manifest import Diffusion
    from lambdiff.engine.schedulers.base import Array
    from lambdiff.protocol.contract import SigmaSchedule


class UniPC(MultistepScheduler):
    """Multistep predictor; each call of the model also corrects the sample that it was called with."""

    def __init__(self, diffusion: Diffusion, steps: int, sigma_schedule: SigmaSchedule = "normal") -> None:
        super().__init__(diffusion, steps, sigma_schedule)
        self.previous: tuple[Array, int] | None = None

    def step(self, output: Array, sample: Array) -> Array:
        """Correct the sample with the model's output, then predict the next one."""
        index = self.done
        clean = self.clean_sample(output, sample)
        if self.previous is not None:
            start, order = self.previous
            sample = self._move(start, index - 1, order, corrected_with=clean)
        self.keep(clean)
        order = min(self.order, len(self.outputs))
        if self.diffusion.lower_order_final:
            order = min(order, self.steps - index)
        self.previous = (sample, order)
        self.done += 1
        return self._move(sample, index, order)

    def _move(self, sample: Array, index: int, order: int, *, corrected_with: Array | None = None) -> Array:
        """Return the sample at step `index + 1`.

        Args:
            sample: the sample at step `index`.
            index: the step to start from; `outputs[-1]` is its clean sample.
            order: the number of clean samples to combine.
            corrected_with: the clean sample at step `index + 1`, if it is known.
        """
        alpha, sigma = self.coefficients(index + 1)
        width = self.log_snr(index + 1) - self.log_snr(index)
        moved: Array = sigma / self.coefficients(index)[1] * sample - alpha * math.expm1(-width) * self.outputs[-1]
        ratios = [(self.log_snr(index - n) - self.log_snr(index)) / width for n in range(1, order)]
        differences = [
            (self.outputs[-1 - n] - self.outputs[-1]) / ratio for n, ratio in zip(range(1, order), ratios, strict=True)
        ]
        if corrected_with is not None:
            ratios.append(1.0)
            differences.append(corrected_with - self.outputs[-1])
        if not differences:
            return moved
        scale = -width if self.diffusion.solver_type == "bh1" else math.expm1(-width)
        for weight, difference in zip(_weights(ratios, width, scale), differences, strict=True):
            moved = moved - alpha * scale * weight * difference
        return moved


def _weights(ratios: list[float], width: float, scale: float) -> list[float]:
    """Return the weights of the differences: the solution of the paper's equation 5.

    Args:
        ratios: where each difference was taken, in units of the step.
        width: the step in the logarithm of the signal-to-noise ratio.
        scale: the paper's B(h).
    """
    count = len(ratios)
    if count == 1:
        return [0.5]  # as in the authors' code: the solution's limit for small steps
    phi, factorial, right = math.expm1(-width) / -width - 1, 1.0, []
    for n in range(1, count + 1):
        right.append(phi * factorial / scale)
        factorial *= n + 1
        phi = phi / -width - 1 / factorial
    solution: list[float] = np.linalg.solve(np.vander(ratios, increasing=True).T, right).tolist()
    return solution

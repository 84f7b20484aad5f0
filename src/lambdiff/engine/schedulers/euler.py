"""Euler: Karras and others 2022, "Elucidating the design space of diffusion-based generative models", algorithm 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdiff.engine.schedulers.base import UnscaledSigmaScheduler

if TYPE_CHECKING:
    from lambdiff.engine.schedulers.base import Array


class Euler(UnscaledSigmaScheduler):
    """Euler's method on the probability-flow equation, without churn."""

    def step(self, output: Array, sample: Array) -> Array:
        """Follow the tangent to the next noise level."""
        sigma, next_sigma = self.sigmas[self.done], self.sigmas[self.done + 1]
        slope = self.slope(output, sample)
        self.done += 1
        moved: Array = sample + (next_sigma - sigma) * slope
        return moved

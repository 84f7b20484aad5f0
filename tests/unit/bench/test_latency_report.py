"""The report of a latency benchmark (bench/latency_report.py)."""

from __future__ import annotations

from lambdiff.bench.latency_report import ConfigurationResult, StepFit, fit_steps
from lambdiff.bench.stats import Stats


def result(steps: int, seconds: float | None, width: int = 64) -> ConfigurationResult:
    """Return a result with the fields that a fit needs."""
    return ConfigurationResult(
        num_inference_steps=steps, width=width, height=64, images=1, cold_starts=0, engine_seconds=None,
        latency_seconds=None if seconds is None else Stats(median=seconds, min=seconds, max=seconds),
        phase_seconds={}, dollars_per_image=None,
    )  # fmt: skip


def test_a_line_is_fitted_through_the_medians() -> None:
    """Each size with two or more step counts gets a least-squares fit that leaves out failed configurations."""
    results = [result(4, 1.4), result(8, 2.2), result(12, 3.0), result(4, 9.0, 128), result(8, None, 128)]
    assert fit_steps(results) == [StepFit(width=64, height=64, fixed_seconds=0.6, seconds_per_step=0.2)]
    (fit,) = fit_steps([result(1, 1.0), result(2, 2.0), result(3, 6.0)])
    assert (fit.seconds_per_step, fit.fixed_seconds) == (2.5, -2.0)

"""Other tools' names of samplers and noise schedules, translated to lambdiff's schedulers.

Examples of names: `DPM++ 2M Karras` (web UI), `dpmpp_2m` with `karras` (ComfyUI), `dpmpp_2m_k` (InvokeAI),
`k_dpmpp_2m` (NovelAI), `dpm++2m` (stable-diffusion.cpp).
"""

from __future__ import annotations

import re
from typing import Final

from lambdiff.protocol.a1111 import SAMPLERS
from lambdiff.protocol.contract import SchedulerName


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp"))


_SCHEDULERS: Final[dict[str, SchedulerName]] = {
    **{_normal(name): name for name in SAMPLERS},  # type: ignore[misc]
    **{_normal(label): name for name, label in SAMPLERS.items()},  # type: ignore[misc]
}
_SCHEDULES: Final = ("karras", "polyexponential", "exponential", "sgm uniform", "simple", "uniform", "beta")
"""Schedules that some tools append to the sampler's name."""
_USUAL: Final = frozenset({"", "automatic", "normal", "default", "none", "native", "uniform", "simple", "discrete"})
"""Schedules that follow the model's own timesteps, as lambdiff does."""


def translate(sampler: str, schedule: str = "") -> tuple[SchedulerName | None, list[str]]:
    r"""Return lambdiff's scheduler, and a note for each part of the name that lambdiff does not support.

    Args:
        sampler: the tool's name of the sampler; empty if the image does not record one.
        schedule: its name of the noise schedule, if it is separate.

    Example:
        >>> translate("DPM++ 2M")
        ('dpmpp_2m', [])
        >>> translate("DPM++ 2M Karras")
        ('dpmpp_2m', ['The noise schedule "Karras" is not supported: the model\'s own is used.'])
        >>> translate("Euler a")
        (None, ['The sampler "Euler a" is not supported: without `scheduler=`, the model\'s default is used.'])
    """
    if not sampler:
        return None, []
    name, appended = _split(sampler)
    schedule = schedule or appended
    scheduler = _SCHEDULERS.get(_normal(name).removeprefix("k") or "-") or _SCHEDULERS.get(_normal(name))
    if scheduler is None:
        shown = sampler if appended or not schedule else f"{sampler}, {schedule}"
        return None, [
            f"The sampler {_shown(shown)} is not supported: without `scheduler=`, the model's default is used."
        ]
    if schedule.lower() in _USUAL or scheduler == "lcm":  # LCM's timesteps are those of its training
        return scheduler, []
    return scheduler, [f"The noise schedule {_shown(schedule)} is not supported: the model's own is used."]


def _split(sampler: str) -> tuple[str, str]:
    """Separate a noise schedule from the end of a sampler's name."""
    words = re.sub(r"[_\s]+", " ", sampler.strip())
    for schedule in _SCHEDULES:
        if words.lower().endswith(f" {schedule}"):
            return words[: -len(schedule) - 1], words[-len(schedule) :]
    return (words[:-2], "Karras") if words.lower().endswith(" k") else (words, "")


def _shown(name: str) -> str:
    return f'"{name[:60]}"'

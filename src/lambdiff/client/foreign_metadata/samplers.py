"""Other tools' names of samplers and noise schedules, translated to lambdiff's.

Examples of names: `DPM++ 2M Karras` (web UI), `dpmpp_2m` with `karras` (ComfyUI), `dpmpp_2m_k` (InvokeAI),
`k_dpmpp_2m` (NovelAI), `dpm++2m` (stable-diffusion.cpp).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from lambdiff.protocol.a1111 import SAMPLERS
from lambdiff.protocol.contract import SIGMA_SCHEDULED, SchedulerName, SigmaSchedule


class Sampler(NamedTuple):
    """A sampler in lambdiff's terms.

    Attributes:
        scheduler: the contract's name; None if lambdiff does not have the sampler.
        sigma_schedule: how it spaces the noise levels; None without a scheduler.
        notes: one sentence for each part of the name that lambdiff does not support.
    """

    scheduler: SchedulerName | None
    sigma_schedule: SigmaSchedule | None
    notes: list[str]


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp"))


_SCHEDULERS: Final[dict[str, SchedulerName]] = {
    **{_normal(name): name for name in SAMPLERS},
    **{_normal(label): name for name, label in SAMPLERS.items()},
    "dpmpp2msdegpu": "dpmpp_2m_sde",  # ComfyUI
    "unipcbh2": "unipc",  # ComfyUI; the variant that a model gets by default
}
_NEAREST: Final[dict[str, SchedulerName]] = {
    "deis": "dpmpp_2m",
    "dpm2": "heun",
    "dpm2a": "euler_ancestral",
    "dpm2ancestral": "euler_ancestral",
    "dpmadaptive": "dpmpp_2m",
    "dpmfast": "dpmpp_2m",
    "dpmpp2msdeheun": "dpmpp_2m_sde",
    "dpmpp2s": "dpmpp_2m",
    "dpmpp2sa": "euler_ancestral",
    "dpmpp2sancestral": "euler_ancestral",
    "dpmpp3msde": "dpmpp_2m_sde",
    "dpmpp3msdegpu": "dpmpp_2m_sde",
    "dpmppsde": "dpmpp_2m_sde",
    "dpmppsdegpu": "dpmpp_2m_sde",
    "heunpp2": "heun",
    "ipndm": "pndm",
    "lms": "dpmpp_2m",
    "restart": "heun",
}
"""Names of samplers that lambdiff does not have -> the most similar one."""
_SCHEDULES: Final = ("karras", "polyexponential", "exponential", "sgm uniform", "simple", "uniform", "beta")
"""Schedules that some tools append to the sampler's name."""
_SUPPORTED: Final[dict[str, SigmaSchedule]] = {"karras": "karras", "exponential": "exponential"}
_USUAL: Final = frozenset({"", "automatic", "normal", "default", "none", "native", "uniform", "simple", "discrete"})
"""Schedules that follow the model's own timesteps, as lambdiff does."""


def translate(sampler: str, schedule: str = "") -> Sampler:
    """Return lambdiff's sampler and schedule, and a note for each part of the name that lambdiff does not support.

    Args:
        sampler: the tool's name of the sampler; empty if the image does not record one.
        schedule: its name of the noise schedule, if it is separate.

    Example:
        >>> translate("DPM++ 2M Karras")[:2]
        ('dpmpp_2m', 'karras')
        >>> translate("Euler a")[:2]
        ('euler_ancestral', 'normal')
        >>> translate("Restart").notes[0][-29:]
        'The most similar one is heun.'
    """
    if not sampler:
        return Sampler(None, None, [])
    name, appended = _split(sampler)
    schedule = schedule or appended
    scheduler = _find(name, _SCHEDULERS)
    if scheduler is None:
        shown = sampler if appended or not schedule else f"{sampler}, {schedule}"
        note = f"The sampler {_shown(shown)} is not supported: without `scheduler=`, the model's default is used."
        similar = nearest(sampler)
        return Sampler(None, None, [f"{note} The most similar one is {similar}." if similar else note])
    sigma_schedule = _SUPPORTED.get(schedule.lower())
    if sigma_schedule and scheduler in SIGMA_SCHEDULED:
        return Sampler(scheduler, sigma_schedule, [])
    # The timesteps of models that were distilled to few steps are those of their training.
    if schedule.lower() in _USUAL or scheduler in ("lcm", "tcd"):
        return Sampler(scheduler, "normal", [])
    note = f"The noise schedule {_shown(schedule)} is not supported with {scheduler}: the model's own is used."
    return Sampler(scheduler, "normal", [note])


def nearest(sampler: str) -> SchedulerName | None:
    """Return the scheduler that is most similar to one that lambdiff does not have; None for unknown names.

    Example:
        >>> nearest("DPM++ SDE Karras")
        'dpmpp_2m_sde'
    """
    return _find(_split(sampler)[0], _NEAREST)


def _find(name: str, table: dict[str, SchedulerName]) -> SchedulerName | None:
    return table.get(_normal(name).removeprefix("k") or "-") or table.get(_normal(name))


def _split(sampler: str) -> tuple[str, str]:
    """Separate a noise schedule from the end of a sampler's name."""
    words = re.sub(r"[_\s]+", " ", sampler.strip())
    for schedule in _SCHEDULES:
        if words.lower().endswith(f" {schedule}"):
            return words[: -len(schedule) - 1], words[-len(schedule) :]
    return (words[:-2], "Karras") if words.lower().endswith(" k") else (words, "")


def _shown(name: str) -> str:
    return f'"{name[:60]}"'

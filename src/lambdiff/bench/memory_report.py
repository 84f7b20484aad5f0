"""The report of `lambdiff bench --memory`: latency and cost of an image at each memory setting of a function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct

from lambdiff.bench.stats import Stats


class MemorySetting(Struct, frozen=True, kw_only=True):
    """What was measured at one memory setting.

    Attributes:
        memory_mb: the setting.
        current: whether it is the function's own setting.
        images: how many images the statistics include; cold starts are excluded.
        cold_start_seconds: how long the caller waited for the first image; None if the model was already in memory.
        latency_seconds: how long the caller waits.
        billed_seconds: median.
        billed_source: its source: Lambda's `log`, or the handler's `timings`.
        dollars_per_image: the price of `billed_seconds`.
        relative_latency, relative_cost: compared with the current setting; 0.5 is half.
        error, fix: why figures are missing, and what to do about it.
    """

    memory_mb: int
    current: bool
    images: int = 0
    cold_start_seconds: float | None = None
    latency_seconds: Stats | None = None
    billed_seconds: float | None = None
    billed_source: Literal["log", "timings"] | None = None
    dollars_per_image: float | None = None
    relative_latency: float | None = None
    relative_cost: float | None = None
    error: str | None = None
    fix: str = ""


class MemorySweepReport(Struct, frozen=True, kw_only=True):
    """The report, as `lambdiff bench --memory ... --json` prints it.

    Attributes:
        name: the deployment's name.
        current_memory_mb: the function's own setting.
        restored: whether the function has that setting again.
        cheapest_memory_mb, fastest_memory_mb: the best measured settings; None if nothing was measured.
        settings: in ascending order of memory.
        prices_as_of: the date and region of the price list.
        notes: limitations of the figures.
    """

    name: str
    function: str
    region: str
    architecture: str
    num_inference_steps: int
    width: int
    height: int
    current_memory_mb: int
    restored: bool
    cheapest_memory_mb: int | None
    fastest_memory_mb: int | None
    settings: list[MemorySetting]
    prices_as_of: str
    notes: list[str]


def compare(settings: Iterable[MemorySetting]) -> list[MemorySetting]:
    """Add each setting's latency and cost relative to the current one, and sort by memory."""
    ordered = sorted(settings, key=lambda setting: setting.memory_mb)
    current = next((setting for setting in ordered if setting.current), None)
    if current is None or current.latency_seconds is None:
        return ordered
    compared = []
    for setting in ordered:
        relative = {}
        if setting.latency_seconds:
            relative["relative_latency"] = round(setting.latency_seconds.median / current.latency_seconds.median, 3)
        if current.dollars_per_image and setting.dollars_per_image is not None:
            relative["relative_cost"] = round(setting.dollars_per_image / current.dollars_per_image, 3)
        compared.append(msgspec.structs.replace(setting, **relative))
    return compared


def cheapest(settings: Iterable[MemorySetting]) -> int | None:
    """The memory in MB at which an image costs the least; None if no cost is known."""
    costs = [
        (setting.dollars_per_image, setting.memory_mb) for setting in settings if setting.dollars_per_image is not None
    ]
    return min(costs)[1] if costs else None


def fastest(settings: Iterable[MemorySetting]) -> int | None:
    """The memory in MB at which the caller waits the least; None if nothing was measured."""
    times = [(setting.latency_seconds.median, setting.memory_mb) for setting in settings if setting.latency_seconds]
    return min(times)[1] if times else None

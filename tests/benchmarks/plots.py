"""The plots of the report, as SVG files that depend on the results only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

from benchmarks import plan
from benchmarks.measured import Measured

mpl.use("svg")
from matplotlib import pyplot

_STYLE: Final = {
    "svg.hashsalt": "lambdiff",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}
_PHASES: Final = ("load", "encode", "denoise", "decode")
_COLOURS: Final = {
    "imports": "#76b7b2",
    "load": "#9c755f",
    "loading": "#9c755f",
    "encode": "#59a14f",
    "denoise": "#4e79a7",
    "decode": "#f28e2b",
    "rest": "#bab0ac",
}


def write(measured: Measured, stem: Path) -> list[Path]:
    """Write `STEM-warm.svg`, `STEM-cold.svg`, `STEM-avx2.svg` and `STEM-scaling.svg`, if there are figures for them."""
    with mpl.rc_context(_STYLE):
        figures = {
            "warm": _stacked(measured, "native", "warm", _warm_parts, "A warm request"),
            "cold": _stacked(measured, "native", "cold", _cold_parts, "Process start to first image"),
            "avx2": _stacked(measured, "avx2", "warm", _warm_parts, "A warm request, limited to AVX2"),
            "scaling": _scaling(measured),
        }
        paths = []
        for name, figure in figures.items():
            if figure is not None:
                path = stem.with_name(f"{stem.name}-{name}.svg")
                figure.savefig(path, metadata={"Date": None, "Creator": None}, bbox_inches="tight")
                pyplot.close(figure)
                paths.append(path)
    return paths


def _warm_parts(measured: Measured, row: str, isa: str) -> dict[str, float]:
    stats = {phase: measured.stats(row, isa, phase) for phase in _PHASES}
    return {phase: each.median for phase, each in stats.items() if each}


def _cold_parts(measured: Measured, row: str, isa: str) -> dict[str, float]:
    stats = {part: measured.stats(row, isa, part) for part in ("imports", "loading")}
    return {part: each.median for part, each in stats.items() if each}


def _stacked(measured: Measured, isa: str, quantity: str, parts: Any, title: str) -> Any:
    """Plot bars of seconds, the longest on top, divided into the parts that are known."""
    totals = {row.name: measured.stats(row.name, isa, quantity) for row in plan.ROWS}
    found = sorted(((each.median, name) for name, each in totals.items() if each), reverse=True)
    if not found:
        return None
    figure, axes = pyplot.subplots(figsize=(7.5, 0.8 + 0.28 * len(found)))
    for place, (total, name) in enumerate(found):
        known = parts(measured, name, isa)
        left = 0.0
        for part, seconds in (known | {"rest": max(0.0, total - sum(known.values()))}).items():
            axes.barh(place, seconds, left=left, color=_COLOURS[part], label=part)
            left += seconds
        axes.text(left, place, f" {total:.1f}", va="center")
    axes.set_yticks(range(len(found)), [name for _, name in found])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_title(title, loc="left")
    handles, labels = axes.get_legend_handles_labels()
    handle = dict(zip(labels, handles, strict=True))
    shown = [part for part in _COLOURS if part in handle]
    axes.legend([handle[part] for part in shown], shown, loc="lower right", frameon=False)
    return figure


def _scaling(measured: Measured) -> Any:
    """Plot the seconds of a warm request over each swept quantity."""
    found = [(sweep, measured.runs(sweep.row, sweep=sweep.quantity)) for sweep in plan.SWEEPS]
    found = [(sweep, runs) for sweep, runs in found if len(runs) > 1]
    if not found:
        return None
    figure, row = pyplot.subplots(1, len(found), figsize=(7.5, 2.4), squeeze=False)
    for axes, (sweep, runs) in zip(row[0], found, strict=True):
        points = sorted((run[sweep.quantity], measured.value(run, "warm")) for run in runs)
        axes.plot(*zip(*points, strict=True), marker="o", color=_COLOURS["denoise"])
        axes.set_xticks([value for value, _ in points])
        axes.set_ylim(bottom=0)
        axes.set_xlabel(
            {"size": "pixels a side", "steps": f"steps, {sweep.size}x{sweep.size}"}.get(sweep.quantity, "threads")
        )
        axes.set_ylabel("seconds")
    figure.tight_layout()
    return figure

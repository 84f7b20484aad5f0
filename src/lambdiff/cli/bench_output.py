"""What `lambdiff bench` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lambdiff.cli import echo_json
from lambdiff.cli.flags import with_flags
from lambdiff.cli.text import counted
from lambdiff.printable import printable

if TYPE_CHECKING:
    from lambdiff.bench.latency import Bench
    from lambdiff.bench.latency_report import ConfigurationResult, LatencyReport
    from lambdiff.bench.memory_report import MemorySetting, MemorySweepReport
    from lambdiff.bench.stats import Stats


def announcement(bench: Bench) -> str:
    """Return how many images will be generated, and what is known about their cost."""
    from lambdiff.pricing import dollars

    endpoint = bench.client.endpoint
    task = f"Generating {counted(bench.images, 'image')}, {len(bench.series)} of them to warm up"
    if endpoint.local:
        return with_flags(f"{task}, on {endpoint}.")
    if expected := bench.expected_cost():
        seconds, each = expected
        return f"{task}: about {dollars(bench.images * each)}, since the last image took {seconds:.1f} s."
    if (second := endpoint.price(1.0)) is not None:
        return f"{task}. Each second costs {dollars(second)}; how long an image takes is not known yet."
    return with_flags(f"{task}, at {endpoint}. The cost is unknown, because the function's memory size is.")


def show_latency(report: LatencyReport, *, as_json: bool) -> None:
    """Print the report of a benchmark; problems go to stderr."""
    if as_json:
        echo_json(report)
        return
    startup = report.startup
    server = f"{printable(report.model)}, {printable(report.engine)}, {report.threads} threads"
    click.echo(f"{server}: {with_flags(report.endpoint)}")
    rounds = counted(report.rounds, "round")
    sampler = report.scheduler if report.sigma_schedule == "normal" else f"{report.scheduler} {report.sigma_schedule}"
    click.echo(f"{sampler}, guidance {report.guidance_scale:g}; medians of {rounds}, in seconds")
    if startup.first_image_seconds is not None:
        load = startup.load_seconds
        loading = "the model was in memory" if load is None else f"{load:.2f} s of it to load the model"
        click.echo(
            f"first image {startup.first_image_seconds:.2f} s ({loading}), health {startup.health_seconds:.2f} s"
        )
    click.echo(f"\n{_latency_table(report)}\n")
    for fit in report.fits:
        click.echo(f"{fit.width}x{fit.height}: {fit.fixed_seconds:.3f} s plus {fit.seconds_per_step:.3f} s per step")
    if report.prices_as_of:
        click.echo(
            f"Cents per image exclude cold starts; time in the engine at us-east-1 prices as of {report.prices_as_of}."
        )
    for result in report.results:
        name = f"{counted(result.num_inference_steps, 'step')}, {result.width}x{result.height}"
        if result.cold_starts:
            click.echo(f"{name}: {counted(result.cold_starts, 'cold start')} not counted.", err=True)
        _show_error(name, result)


def _latency_table(report: LatencyReport) -> str:
    phases = list(dict.fromkeys(name for result in report.results for name in result.phase_seconds))
    priced = report.prices_as_of is not None
    rows = [["steps", "size", "seconds", "min..max", "engine", *phases, *(["cents"] if priced else [])]]
    for result in report.results:
        row = [str(result.num_inference_steps), f"{result.width}x{result.height}", *_stats(result.latency_seconds)]
        row += [_stats(result.engine_seconds)[0], *(_seconds(result.phase_seconds.get(name)) for name in phases)]
        rows.append([*row, *([_cents(result.dollars_per_image)] if priced else [])])
    return _table(rows)


def show_memory(report: MemorySweepReport, *, as_json: bool) -> None:
    """Print the report of a memory sweep; problems go to stderr."""
    if as_json:
        echo_json(report)
        return
    click.echo(
        f"{report.function}, {report.architecture}: {counted(report.num_inference_steps, 'step')}, "
        f"{report.width}x{report.height}; prices as of {report.prices_as_of}\n"
        "first: a new environment's first image; seconds: the caller's wait; cents: for the billed seconds\n"
    )
    click.echo(f"{_memory_table(report)}\n")
    for setting in report.settings:
        _show_error(f"{setting.memory_mb:,} MB", setting)
    for note in report.notes:
        click.echo(f"Note: {with_flags(note)}", err=True)
    for name, memory_mb in (("cheapest", report.cheapest_memory_mb), ("fastest", report.fastest_memory_mb)):
        if memory_mb is not None:
            click.echo(f"{name}  {memory_mb:,} MB{_trade_off(report, memory_mb)}")
    if report.restored:
        click.echo(
            f"The memory is {report.current_memory_mb:,} MB again; change it with `lambdiff deploy --memory MB`."
        )


def _memory_table(report: MemorySweepReport) -> str:
    rows = [["memory", "first", "seconds", "min..max", "billed", "cents", "time", "cost"]]
    for setting in report.settings:
        row = [f"{setting.memory_mb:,} MB", _seconds(setting.cold_start_seconds), *_stats(setting.latency_seconds)]
        changes = [_change(setting.relative_latency), _change(setting.relative_cost)]
        row += [_seconds(setting.billed_seconds), _cents(setting.dollars_per_image)]
        rows.append([*row, *(["current", "current"] if setting.current else changes)])
    return _table(rows)


def _show_error(name: str, of: ConfigurationResult | MemorySetting) -> None:
    if of.error:
        click.echo(with_flags(f"Error: {name}: {of.error}" + (f"\n  {of.fix}" if of.fix else "")), err=True)


def _trade_off(report: MemorySweepReport, memory_mb: int) -> str:
    setting = next(setting for setting in report.settings if setting.memory_mb == memory_mb)
    if setting.current:
        return ", the current setting"
    if setting.relative_latency is None or setting.relative_cost is None:
        return ""
    return f": {_change(setting.relative_latency)} time, {_change(setting.relative_cost)} cost"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Align the columns to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _stats(stats: Stats | None) -> list[str]:
    return [f"{stats.median:.2f}", f"{stats.min:.2f}..{stats.max:.2f}"] if stats else ["-", "-"]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _cents(dollars: float | None) -> str:
    return "-" if dollars is None else f"{100 * dollars:.4f}"


def _change(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * (ratio - 1):+.0f}%"

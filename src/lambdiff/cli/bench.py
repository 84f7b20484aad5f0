"""`lambdiff bench`: seconds and cents of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import Size, endpoint_options, json_option, make_confirm
from lambdiff.protocol import contract

if TYPE_CHECKING:
    from lambdiff.bench.latency import Bench, LatencyReport, Point, Stats
    from lambdiff.bench.memory_sweep import MemorySweepReport, Setting

    _ParamType = click.ParamType[list[Any]]
else:
    _ParamType = click.ParamType  # not generic at run time before click 8.4


class Listed(_ParamType):
    """Several values of a type, with commas between them."""

    def __init__(self, each: Any) -> None:
        self.each = each
        self.name = f"{each.name},..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        """The values, in their order."""
        return [self.each.convert(part.strip(), param, ctx) for part in str(value).split(",")]


@click.command()
@click.option(
    "--steps", "--num-inference-steps", "steps", type=Listed(click.INT), metavar="N,N",
    help="Denoising steps.  [default: half of the model's, and the model's]",
)  # fmt: skip
@click.option("--size", "sizes", type=Listed(Size()), metavar="WxH,WxH", help="Sizes.  [default: the model's]")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100), help="Pictures of each kind.")
@click.option(
    "--memory", "memory", type=Listed(click.IntRange(128, 10_240)), metavar="MB,MB",
    help="Find the cheapest and the fastest memory setting: try these on the deployment, then set it as it was.",
)  # fmt: skip
@click.option("--prompt", metavar="TEXT", help="What to draw.")
@click.option("--guidance", "--guidance-scale", "guidance_scale", type=float, help="0..30; 1 or less: no guidance.")
@click.option("--scheduler", type=click.Choice(get_args(contract.SchedulerName)), help="The sampler.")
@click.option("--local", is_flag=True, help="Measure this machine.")
@click.option(
    "--model-dir", type=click.Path(path_type=Path), help="With --local: a baked model folder (LAMBDIFF_MODEL_DIR)."
)
@click.option("--yes", "-y", is_flag=True, help="With --memory: answer the question with yes.")
@endpoint_options
@json_option
def bench(
    steps: list[int] | None, sizes: list[tuple[int, int]] | None, rounds: int, memory: list[int] | None,
    prompt: str | None, local: bool, model_dir: Path | None, yes: bool, url: str | None, region: str | None,
    profile: str | None, deployment: str | None, as_json: bool, **parameters: Any,
) -> int:  # fmt: skip
    """Measure seconds and cents of a picture by steps and size, where `lambdiff generate` would draw it.

    Each kind of picture is drawn once to warm up, then once a round; medians are shown. With --memory, one kind is
    drawn at several memory settings of a deployment, after a question.

    \b
    lambdiff bench --local --steps 4,8,12
    lambdiff bench --steps 8,25 --size 256x256,512x512
    lambdiff bench --memory 3008,5120,10240 --steps 8
    """
    from lambdiff.bench import latency as measuring
    from lambdiff.client.client import Client

    def plan(client: Client) -> measuring.BenchPlan:
        chosen = measuring.PROMPT if prompt is None else prompt
        return measuring.plan(client, chosen, steps=steps or (), sizes=sizes or (), **parameters)

    if memory:
        if local or model_dir or url or region:
            raise click.UsageError("--memory is for a deployment: leave out --local, --model-dir, --url and --region.")
        if len(steps or ()) > 1 or len(sizes or ()) > 1:
            raise click.UsageError("--memory takes one number of steps and one size.")
        from lambdiff.aws.deployment import select
        from lambdiff.bench import memory_sweep
        from lambdiff.stages import Stages

        chosen = select(deployment, profile)
        with Client(deployment=chosen.deployment.value.name, profile=profile) as client:
            tuner = memory_sweep.MemorySweep(chosen, client, plan(client), memory, rounds=rounds)
            try:
                tuner.run(Stages(), make_confirm(yes=yes, as_json=as_json))
            finally:
                # What was paid for is shown, even if the rest failed or was interrupted.
                if tuner.begun:
                    _show_tuning(tuner.report(), as_json=as_json)
        return max((error.exit_code for error in tuner.errors.values()), default=0)
    with Client(url, region=region, deployment=deployment, profile=profile, local=local, model_dir=model_dir) as client:
        measured = measuring.Bench(client, plan(client), rounds=rounds)
        click.echo(_announcement(measured), err=True)
        try:
            _run(measured)
        finally:
            if measured.begun:
                _show(measured.report(), as_json=as_json)
    return max((each.error.exit_code for each in measured.measured if each.error), default=0)


def _announcement(measured: Bench) -> str:
    """How many pictures will be asked for, and what they cost."""
    target = measured.client.endpoint
    said = f"Generating {measured.pictures} pictures, {len(measured.measured)} of them to warm up"
    if target.local:
        return f"{said}, on {target}."
    if expected := measured.expectation():
        from lambdiff.pricing import dollars

        seconds, each = expected
        return f"{said}: about {dollars(measured.pictures * each)}, as the last one took {seconds:.1f} s."
    if (second := target.price(1.0)) is not None:
        from lambdiff.pricing import dollars

        return f"{said}. Each second of theirs costs {dollars(second)}; how many they take is not known yet."
    return f"{said}, at {target}. What they cost is not known: the function's memory is not."


def _run(measured: Bench) -> None:
    from lambdiff.cli import progress
    from lambdiff.client.progress import expected_seconds

    with progress.terminal(expected_seconds(measured.client.transport.url), measured.pictures) as bar:
        measured.run(bar.advance)


def _show(report: LatencyReport, *, as_json: bool) -> None:
    if as_json:
        echo_json(report)
        return
    start = report.start
    click.echo(f"{report.model}, {report.engine}, {report.threads} threads: {report.endpoint}")
    click.echo(f"{report.scheduler}, guidance {report.guidance_scale:g}; median of {report.rounds}, in seconds")
    if start.first is not None:
        load = "the model was loaded already" if start.load is None else f"{start.load:.2f} s of it to load the model"
        click.echo(f"first picture {start.first:.2f} s ({load}), {start.health:.2f} s to find out what answers")
    phases = list(dict.fromkeys(name for point in report.points for name in point.phases))
    priced = report.prices_of is not None
    rows = [["steps", "size", "seconds", "min..max", "in engine", *phases, *(["cents"] if priced else [])]]
    for point in report.points:
        row = [str(point.num_inference_steps), f"{point.width}x{point.height}", *_spread(point.seconds)]
        row += [_spread(point.engine)[0], *(_seconds(point.phases.get(name)) for name in phases)]
        rows.append([*row, *([_cents(point.dollars_per_image)] if priced else [])])
    click.echo("\n" + _table(rows) + "\n")
    for fit in report.fits:
        click.echo(f"{fit.width}x{fit.height}: {fit.fixed:.3f} s and {fit.per_step:.3f} s a step")
    if priced:
        click.echo(f"Cents a picture once warm, by the time in the engine and prices of us-east-1, {report.prices_of}.")
    for point in report.points:
        what = f"{point.num_inference_steps} steps, {point.width}x{point.height}"
        if point.cold:
            click.echo(f"{what}: {point.cold} cold starts in between are not counted.", err=True)
        _show_error(what, point)


def _show_tuning(report: MemorySweepReport, *, as_json: bool) -> None:
    if as_json:
        echo_json(report)
        return
    click.echo(
        f"{report.function}, {report.architecture}: {report.num_inference_steps} steps, "
        f"{report.width}x{report.height}; prices of {report.prices_of}\n"
        "seconds: what the caller waits, first: for a new environment's first picture; cents: for the billed seconds\n"
    )
    rows = [["memory", "first", "seconds", "min..max", "billed", "cents", "time", "cost"]]
    for each in report.settings:
        row = [f"{each.memory_mb:,} MB", _seconds(each.cold), *_spread(each.seconds), _seconds(each.billed)]
        changes = ["now", "now"] if each.current else [_change(each.time), _change(each.cost)]
        rows.append([*row, _cents(each.dollars_per_image), *changes])
    click.echo(_table(rows) + "\n")
    for each in report.settings:
        _show_error(f"{each.memory_mb:,} MB", each)
    for note in report.notes:
        click.echo(f"Note: {note}", err=True)
    for name, best in (("cheapest", report.cheapest), ("fastest", report.fastest)):
        if best is not None:
            click.echo(f"{name}  {best:,} MB{_trade_off(report, best)}")
    if report.restored:
        click.echo(f"The memory is {report.memory_mb:,} MB, as before; `lambdiff deploy --memory MB` keeps another.")


def _show_error(what: str, of: Point | Setting) -> None:
    if of.error:
        click.echo(f"Error: {what}: {of.error}" + (f"\n  {of.fix}" if of.fix else ""), err=True)


def _trade_off(report: MemorySweepReport, memory_mb: int) -> str:
    each = next(setting for setting in report.settings if setting.memory_mb == memory_mb)
    if each.current:
        return ", as it is now"
    return f": {_change(each.time)} time, {_change(each.cost)} cost" if each.time and each.cost else ""


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Right-aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _spread(spread: Stats | None) -> list[str]:
    return [f"{spread.median:.2f}", f"{spread.min:.2f}..{spread.max:.2f}"] if spread else ["-", "-"]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _cents(dollars: float | None) -> str:
    return "-" if dollars is None else f"{100 * dollars:.4f}"


def _change(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * (ratio - 1):+.0f} %"

"""`lambdiff cost`: estimate what an image and a month cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option, since_option, stack_options
from lambdiff.cli.text import counted

if TYPE_CHECKING:
    from lambdiff.ops.costs import Cost


@click.command()
@stack_options
@since_option("30d")
@json_option
def cost(deployment: str | None, profile: str | None, *, since: str, as_json: bool) -> None:
    """Estimate what an image and a month cost.

    The estimate uses the billed durations in the log and a dated price list.

    Examples:

    \b
        lambdiff cost
        lambdiff cost --since 2h --json
    """
    from lambdiff.aws import logs
    from lambdiff.aws.deployment import select
    from lambdiff.ops import costs

    start = logs.parse_time(since)
    report = costs.cost(select(deployment, profile), start)
    if as_json:
        echo_json(report)
    else:
        _print(report, since)


def _print(report: Cost, since: str) -> None:
    from lambdiff.pricing import dollars

    click.echo(f"{report.name}: {report.memory_mb:,} MB, {report.architecture}; prices as of {report.prices_as_of}")
    if report.dollars_per_image is None:
        click.echo(f"No image since {since}: generate one first, or look further back with --since.")
    else:
        warm = "none" if report.seconds_warm is None else f"{report.seconds_warm:.2f} s"
        cold = "none" if report.seconds_cold is None else f"{report.seconds_cold:.2f} s"
        starts = counted(report.cold_starts, "cold start")
        click.echo(f"{counted(report.images, 'image')}, {starts}; median billed: {warm} warm, {cold} cold")
        click.echo(f"per image     {dollars(report.dollars_per_image)}, cold starts included")
        click.echo(f"free tier     {report.free_images:,} images a month")
    for part, amount in report.idle.items():
        click.echo(f"{part:<12}  {dollars(amount)} a month")
    for month in report.months:
        click.echo(
            f"{month.images:>6,} a month  {dollars(month.dollars)}, with the free tier {dollars(month.with_free_tier)}"
        )

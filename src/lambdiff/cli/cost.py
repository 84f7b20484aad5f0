"""`lambdiff cost`: what a picture and a month cost."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option, stack_options


@click.command()
@stack_options
@click.option("--since", default="30d", show_default=True, metavar="TIME", help="Count requests from 10m, 2h, 3d ago.")
@json_option
def cost(deployment: str | None, profile: str | None, *, since: str, as_json: bool) -> None:
    """Work out costs from the durations in the log and a dated table of prices.

    \b
    lambdiff cost
    lambdiff cost --since 2h --json
    """
    from lambdiff.aws import logs
    from lambdiff.aws.deployment import select
    from lambdiff.ops import costs
    from lambdiff.pricing import dollars

    report = costs.cost(select(deployment, profile), logs.parse_time(since))
    if as_json:
        echo_json(report)
        return
    click.echo(f"{report.name}: {report.memory_mb:,} MB, {report.architecture}; prices of {report.prices_of}")
    if report.dollars_per_image is None:
        click.echo(f"No picture since {since}: draw one first, or look further back with --since.")
    else:
        warm = "none" if report.seconds_warm is None else f"{report.seconds_warm:.2f} s"
        cold = "none" if report.seconds_cold is None else f"{report.seconds_cold:.2f} s"
        click.echo(
            f"{report.images} pictures, {report.cold_starts} cold starts; billed (median): {warm} warm, {cold} cold"
        )
        click.echo(f"a picture     {dollars(report.dollars_per_image)}, cold starts included")
        click.echo(f"free tier     {report.free_images:,} pictures a month")
    for part, amount in report.idle.items():
        click.echo(f"{part:<12}  {dollars(amount)} a month")
    for month in report.months:
        click.echo(
            f"{month.images:>6,} a month  {dollars(month.dollars)}, with the free tier {dollars(month.with_free_tier)}"
        )

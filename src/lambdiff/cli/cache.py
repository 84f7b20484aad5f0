"""`lambdiff cache`: what lambdiff keeps on this machine although it could be made again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option
from lambdiff.cli.text import counted
from lambdiff.cli.value_types import Value

if TYPE_CHECKING:
    from lambdiff.local.caches import Report


@click.command()
@click.argument("action", type=Value(Literal["info", "clear"]))
@click.option(
    "--all", "everything", is_flag=True,
    help="With clear: also remove what `lambdiff deploy` keeps (models, staged files, the CDK CLI).",
)  # fmt: skip
@json_option
def cache(action: str, *, everything: bool, as_json: bool) -> None:
    """List or remove what can be made again.

    The first image that this machine generates with a model leaves the model's compiled graphs in the cache, so that
    later commands start faster. A model has at most 60 MB there, all together 240 MB.

    Examples:

    \b
        lambdiff cache info
        lambdiff cache clear
        lambdiff cache clear --all
    """
    from lambdiff.local import caches

    if action == "info":
        if everything:
            raise click.UsageError("--all only works with clear.")
        report = caches.report()
        if as_json:
            echo_json(report)
        else:
            _print(report)
    else:
        removed = caches.clear(everything=everything)
        if as_json:
            echo_json({"removed": removed})
        else:
            click.echo(f"{_megabytes(removed)} removed.")


def _print(report: Report) -> None:
    click.echo(f"Compiled graphs, {_megabytes(report.size)} of at most {_megabytes(report.limit)}: {report.folder}")
    if report.problem:
        click.echo(f"  Not used: {report.problem}")
    for group in report.graphs:
        used = f"{group.used.astimezone():%Y-%m-%d %H:%M}"
        click.echo(f"  {group.name}: {counted(group.files, 'graph')}, {_megabytes(group.size)}, last used {used}")
    for folder in report.others:
        click.echo(f"{folder.content[0].upper()}{folder.content[1:]}, {_megabytes(folder.size)}: {folder.path}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"

"""`lambdiff logs`: print the log of a deployment."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click
import msgspec

from lambdiff.cli.options import json_option, since_option, stack_options
from lambdiff.cli.streams import to_json
from lambdiff.printable import printable, printable_json

if TYPE_CHECKING:
    from lambdiff.aws.logs import Line

_MAX_LINE: Final = 10_000
"""Characters of a message that are printed; --json prints all of them."""


@click.command()
@stack_options
@since_option("1h")
@click.option("--request-id", metavar="ID", help="Only print lines of this request.")
@click.option("--follow", "-f", is_flag=True, help="Keep printing new lines until interrupted.")
@json_option
def logs(
    deployment: str | None, profile: str | None, *, since: str, request_id: str | None, follow: bool, as_json: bool
) -> None:
    """Print the log of a deployment.

    Prints the oldest line first. With --json, each line is a JSON object.

    Examples:

    \b
        lambdiff logs --since 10m
        lambdiff logs --follow
        lambdiff logs --request-id 8f2b0c1e-5d7a-4d8e-9a53-0c6f2f1f8a11 --json
    """
    from lambdiff.aws import logs as reading
    from lambdiff.aws.deployment import select

    start = reading.parse_time(since)
    reading.check_request_id(request_id)
    target = select(deployment, profile)
    group = target.read_function().log_group
    read = reading.follow if follow else reading.read
    for line in read(target.account, group, since=start, request_id=request_id):
        click.echo(printable_json(to_json(msgspec.to_builtins(line))) if as_json else _text(line))
        if follow:
            sys.stdout.flush()


def _text(line: Line) -> str:
    """The line with its time. Further lines of a message are indented, so that none can pass for another message."""
    return f"{line.time}  {printable(line.text, _MAX_LINE, multiline=True)}".replace("\n", "\n    ")

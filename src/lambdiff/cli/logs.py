"""`lambdiff logs`: what the function wrote."""

from __future__ import annotations

import sys

import click
import msgspec

from lambdiff.cli.options import json_option, stack_options


@click.command()
@stack_options
@click.option("--since", default="1h", show_default=True, metavar="TIME", help="10m, 2h, 3d, or an ISO 8601 time.")
@click.option("--request-id", metavar="ID", help="Only this request's lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on until interrupted.")
@json_option
def logs(
    deployment: str | None, profile: str | None, *, since: str, request_id: str | None, follow: bool, as_json: bool
) -> None:
    """Print a function's log, oldest first. With --json, one JSON object a line.

    \b
    lambdiff logs --since 10m
    lambdiff logs --request-id 8f2b... --json
    """
    from lambdiff.aws import logs as reading
    from lambdiff.aws.deployment import select

    start = reading.parse_time(since)
    chosen = select(deployment, profile)
    group = reading.group_of(chosen)
    read = reading.follow if follow else reading.read
    for line in read(chosen.account, group, since=start, request_id=request_id):
        click.echo(msgspec.json.encode(line).decode() if as_json else f"{line.time}  {line.text}")
        if follow:
            sys.stdout.flush()

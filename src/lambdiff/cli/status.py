"""`lambdiff status`: show the state of a deployment."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.flags import with_flags
from lambdiff.cli.options import json_option, stack_options
from lambdiff.printable import printable


@click.command()
@stack_options
@json_option
def status(deployment: str | None, profile: str | None, *, as_json: bool) -> int:
    """Show the state of a deployment.

    Each value is shown with its source, together with recent errors from the log. Nothing is invoked. Exits with code 5
    if the deployment is not healthy.

    Examples:

    \b
        lambdiff status
        lambdiff status --deployment tiny --json
    """
    from lambdiff.aws.deployment import select
    from lambdiff.ops import status as reading

    report = reading.status(select(deployment, profile))
    if as_json:
        echo_json(report)
    else:
        width = max(len(name) for name in report.facts)
        for name, fact in report.facts.items():
            click.echo(f"{name:<{width}}  {printable(fact.value)}  ({with_flags(fact.source)})")
        for line in report.errors:
            click.echo(f"{'error':<{width}}  {printable(line, 2_000)}")
        click.echo(f"{'healthy':<{width}}  {'yes' if report.healthy else 'no'}")
    return 0 if report.healthy else 5

"""`lambdiff doctor`: find out what prevents a deployment or a call."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.flags import with_flags
from lambdiff.cli.options import json_option, region_option, stack_options
from lambdiff.printable import printable


@click.command()
@stack_options
@region_option
@json_option
def doctor(deployment: str | None, profile: str | None, *, region: str | None, as_json: bool) -> int:
    """Find out what prevents a deployment or a call.

    Checks this machine, the AWS account and, if there is one, the deployment. Explains a 403 reply from the endpoint.
    Exits with code 3 if a check fails.

    Examples:

    \b
        lambdiff doctor
        lambdiff doctor --deployment tiny --json
    """
    from lambdiff.ops import doctor as checking

    results = []
    for result in checking.diagnose(deployment, profile, region):
        results.append(result)
        if not as_json:
            click.echo(f"{result.status:<5} {result.check}: {printable(with_flags(result.detail), 2_000)}")
            if result.fix and result.status != "ok":
                click.echo(f"      {printable(with_flags(result.fix), 2_000)}")
    if as_json:
        echo_json(results)
    return 3 if any(result.status == "error" for result in results) else 0

"""`lambdiff rotate`: a new access key for the invoker."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option, stack_options


@click.command()
@stack_options
@json_option
def rotate(deployment: str | None, profile: str | None, *, as_json: bool) -> None:
    """Replace the key pair in the deployment's secret. The old key stops working at once.

    \b
    lambdiff rotate
    """
    from lambdiff.aws.deployment import select
    from lambdiff.ops import rotate as rotating
    from lambdiff.stages import Stages

    report = Stages()
    done = rotating.rotate(select(deployment, profile), report)
    if as_json:
        echo_json(done)
    else:
        report.say(
            f"The key of {done.name} is now number {done.serial}; callers read it from the secret by themselves."
        )

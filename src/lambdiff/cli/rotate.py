"""`lambdiff rotate`: replace the access key of a deployment."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option, stack_options


@click.command()
@stack_options
@json_option
def rotate(deployment: str | None, profile: str | None, *, as_json: bool) -> None:
    """Replace the access key of a deployment.

    The new key pair is written to the deployment's secret and tried. Only if the endpoint accepts it, the old one is
    deleted, a minute later, and must then be refused.

    Examples:

    \b
        lambdiff rotate
        lambdiff rotate --deployment tiny
    """
    from lambdiff.aws.deployment import select
    from lambdiff.ops import rotate as rotating
    from lambdiff.stages import Stages

    stages = Stages()
    rotated = rotating.rotate(select(deployment, profile), stages)
    if as_json:
        echo_json(rotated)
    else:
        for note in rotated.notes:
            stages.say(f"Note: {note}")
        tried = "tried; the old one is refused" if rotated.old_key == "refused" else "not tried"
        stages.say(f"Key rotated (serial {rotated.serial}, {tried}); clients pick it up automatically.")

"""`lambdiff destroy`: take a deployment down."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option, make_confirm, stack_options


@click.command()
@stack_options
@click.option("--yes", "-y", is_flag=True, help="Answer every question with yes.")
@json_option
def destroy(deployment: str | None, profile: str | None, *, yes: bool, as_json: bool) -> None:
    """Delete the stack and, after asking, the image in ECR and the logs.

    \b
    lambdiff destroy
    """
    from lambdiff.aws.deployment import require_explicit_name, select
    from lambdiff.infra import destroy as destroying
    from lambdiff.stages import Stages

    if yes:
        require_explicit_name(deployment)
    report = Stages()
    done = destroying.destroy(select(deployment, profile), report, make_confirm(yes=yes, as_json=as_json))
    if as_json:
        echo_json(done)
        return
    for what in done.removed:
        report.say(f"Deleted: {what}")
    for what in done.kept:
        report.say(f"Kept: {what}")

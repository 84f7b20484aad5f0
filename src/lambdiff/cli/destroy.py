"""`lambdiff destroy`: delete a deployment."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option, make_confirm, stack_options, yes_option


@click.command()
@stack_options
@yes_option
@json_option
def destroy(deployment: str | None, profile: str | None, *, yes: bool, as_json: bool) -> None:
    """Delete a deployment.

    Deletes the CloudFormation stack and then, after further questions, the image in ECR and the log.

    Examples:

    \b
        lambdiff destroy
        lambdiff destroy --deployment tiny --yes
    """
    from lambdiff.aws.deployment import require_explicit_name, select
    from lambdiff.infra import destroy as destroying
    from lambdiff.stages import Stages

    if yes:
        require_explicit_name(deployment)
    stages = Stages()
    result = destroying.destroy(select(deployment, profile), stages, make_confirm(yes=yes, as_json=as_json))
    if as_json:
        echo_json(result)
        return
    for resource in result.removed:
        stages.say(f"Deleted: {resource}")
    for resource in result.kept:
        stages.say(f"Kept: {resource}")

"""`lambdiff destroy`: delete a deployment."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option, make_confirm, region_option, stack_options, yes_option


@click.command()
@stack_options
@region_option
@yes_option
@json_option
def destroy(deployment: str | None, profile: str | None, region: str | None, *, yes: bool, as_json: bool) -> None:
    """Delete a deployment.

    Deletes the CloudFormation stack and then, after further questions, its images in ECR and the log. The deployment
    need not be saved on this machine: if its creation failed, name it, and the region if necessary.

    Examples:

    \b
        lambdiff destroy
        lambdiff destroy --deployment tiny --yes
        lambdiff destroy --deployment tiny --region eu-central-1
    """
    from lambdiff.aws.deployment import require_explicit_name
    from lambdiff.infra import destroy as destroying
    from lambdiff.stages import Stages

    if yes:
        require_explicit_name(deployment)
    stages = Stages()
    target = destroying.select(deployment, profile, region)
    result = destroying.destroy(target, stages, make_confirm(yes=yes, as_json=as_json))
    if as_json:
        echo_json(result)
        return
    for resource in result.removed:
        stages.say(f"Deleted: {resource}")
    for resource in result.kept:
        stages.say(f"Kept: {resource}")

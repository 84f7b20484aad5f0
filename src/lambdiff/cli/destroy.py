"""`lambdiff destroy`: delete a deployment."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option, make_confirm, region_option, stack_options, yes_option


@click.command()
@stack_options
@region_option
@click.option(
    "--delete-images/--keep-images", "delete_images", default=None,
    help="Delete or keep the bucket with the images of batch runs.  [default: ask; with --yes, keep]",
)  # fmt: skip
@yes_option
@json_option
def destroy(
    deployment: str | None, profile: str | None, region: str | None, *, delete_images: bool | None, yes: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Delete a deployment.

    Deletes the CloudFormation stack and then, after further questions, its images in ECR, the log, and
    the bucket with the images of batch runs. The deployment
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
    if delete_images is None and yes:
        delete_images = False
    confirm = make_confirm(yes=yes, as_json=as_json)
    result = destroying.destroy(target, stages, confirm, delete_images=delete_images)
    if as_json:
        echo_json(result)
        return
    for resource in result.removed:
        stages.say(f"Deleted: {resource}")
    for resource in result.kept:
        stages.say(f"Kept: {resource}")

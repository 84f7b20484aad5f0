"""`lambdiff configure`: save an existing endpoint as a deployment."""

from __future__ import annotations

import click

from lambdiff import config
from lambdiff.aws.deployment import from_stack
from lambdiff.cli import completion, echo_json
from lambdiff.cli.options import json_option, profile_option, region_option
from lambdiff.client import endpoint
from lambdiff.errors import LambdiffError


@click.command()
@click.option(
    "--name", default="default", show_default=True, metavar="NAME", shell_complete=completion.deployments,
    help="Name of the deployment.",
)  # fmt: skip
@click.option("--url", metavar="URL", help="Function URL to call.")
@click.option("--stack", metavar="NAME", help="CloudFormation stack whose outputs have the URL and the secret.")
@region_option
@profile_option
@click.option("--secret", "secret_arn", metavar="ARN", help="With --url: secret that holds the invoker's key pair.")
@click.option("--role", "role_arn", metavar="ARN", help="With --url: role to assume for each call.")
@click.option(
    "--check/--no-check", default=True, help="With --url: ask the endpoint before it is saved; on by default."
)
@json_option
def configure(
    name: str, url: str | None, stack: str | None, region: str | None, profile: str | None,
    secret_arn: str | None, role_arn: str | None, *, check: bool, as_json: bool,
) -> None:  # fmt: skip
    """Save an endpoint that is already deployed.

    `lambdiff generate` uses it from then on. Requests are signed with the key pair in the secret or with the role;
    without either, with your own AWS credentials. A URL is only saved if a request to it succeeds, which generates
    nothing.

    Examples:

    \b
        lambdiff configure --stack lambdiff --region eu-central-1
        lambdiff configure --url https://abc.lambda-url.eu-central-1.on.aws/
    """
    if stack and not url:
        if secret_arn or role_arn:
            raise click.UsageError("--secret and --role require --url; a stack has its own in its outputs.")
        deployment = from_stack(stack, name=name, region=region, profile=profile)
    elif url and not stack:
        deployment = endpoint.from_url(
            url, name=name, region=region, profile=profile, secret_arn=secret_arn, role_arn=role_arn
        )
        if check:
            _check(deployment)
    else:
        raise click.UsageError("Give either --url or --stack.")
    path = config.save(deployment)
    if as_json:
        echo_json(deployment)
        return
    click.echo(
        f"Saved {name} in {path}: {deployment.shown_url} ({deployment.region}, auth: {deployment.auth})", err=True
    )
    click.echo('Next: lambdiff generate "a cat in a top hat"', err=True)


def _check(deployment: config.Deployment) -> None:
    from lambdiff.client.check import check

    try:
        health = check(deployment)
    except LambdiffError as error:
        error.fix = f"{error.fix} Nothing was saved; --no-check saves the endpoint without asking it.".lstrip()
        raise
    click.echo(f"The endpoint answers: {health.model.name}@{health.model.revision} on {health.engine}", err=True)

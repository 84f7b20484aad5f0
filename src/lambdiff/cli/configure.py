"""`lambdiff configure`: remember an endpoint that exists already."""

from __future__ import annotations

import click

from lambdiff import config
from lambdiff.aws import stacks
from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option
from lambdiff.client import endpoint


@click.command()
@click.option("--name", default="default", show_default=True, help="What to call it.")
@click.option("--url", metavar="URL", help="A Function URL; requests are signed with your own AWS credentials.")
@click.option("--stack", metavar="NAME", help="A CloudFormation stack: URL and secret come from its outputs.")
@click.option("--region", metavar="REGION", help="The region of the stack, or of the URL if its name does not say it.")
@click.option("--profile", metavar="NAME", help="The AWS profile to use with it from now on.")
@click.option("--secret", "secret_arn", metavar="ARN", help="With --url: the secret that holds the invoker's key pair.")
@click.option("--role", "role_arn", metavar="ARN", help="With --url: the invoker's role, to be assumed.")
@json_option
def configure(
    name: str, url: str | None, stack: str | None, region: str | None, profile: str | None,
    secret_arn: str | None, role_arn: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Save an endpoint that somebody deployed, so that `lambdiff generate` uses it.

    \b
    lambdiff configure --stack lambdiff --region eu-central-1
    lambdiff configure --url https://abc.lambda-url.eu-central-1.on.aws/
    """
    if bool(url) == bool(stack):
        raise click.UsageError("Give either --url or --stack.")
    if stack and (secret_arn or role_arn):
        raise click.UsageError("--secret and --role go with --url; a stack's come from its outputs.")
    config.check_name(name)
    if stack:
        deployment = stacks.deployment(stack, name=name, region=region, profile=profile)
    else:
        target = endpoint.resolve(url=url, region=region, profile=profile)
        assert target.url is not None  # noqa: S101 (a URL was given)
        assert target.region is not None  # noqa: S101
        deployment = config.Deployment(
            name=name,
            url=target.url.value,
            region=target.region.value,
            auth="key-pair" if secret_arn else "role" if role_arn else "caller",
            secret_arn=secret_arn,
            role_arn=role_arn,
            profile=profile,
        )
    path = config.save(deployment)
    if as_json:
        echo_json(deployment)
        return
    click.echo(
        f"{name}: {deployment.url} ({deployment.region}, signed with: {deployment.auth}), saved in {path}", err=True
    )
    click.echo('Next: lambdiff generate "a cat in a top hat" -o cat.png', err=True)

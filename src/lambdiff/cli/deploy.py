"""`lambdiff deploy`: an endpoint in your own AWS account."""

from __future__ import annotations

from typing import Any

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option, make_confirm


@click.command()
@click.option("--model", default="built-in", show_default=True, metavar="built-in|NAME|FOLDER", help="What to serve.")
@click.option(
    "--name", default="lambdiff", show_default=True, help="The deployment's name; the stack is named after it."
)
@click.option("--region", metavar="REGION", help="Where to (LAMBDIFF_REGION, AWS_REGION, the profile's).")
@click.option("--profile", metavar="NAME", help="The AWS profile to use (AWS_PROFILE).")
@click.option("--memory", "memory_mb", type=int, metavar="MB", help="128..10240.  [default: 10240]")
@click.option("--timeout", "timeout_s", type=int, metavar="SECONDS", help="1..900.  [default: 600]")
@click.option("--tmp", "tmp_mb", type=int, metavar="MB", help="Size of /tmp, 512..10240.  [default: 512]")
@click.option("--engine", type=click.Choice(["openvino", "diffusers"]), help="[default: openvino]")
@click.option("--arch", "architecture", type=click.Choice(["x86_64", "arm64"]), help="arm64 needs --engine diffusers.")
@click.option("--base-image", metavar="IMAGE", help="AWS's Python base image, by version or by digest.")
@click.option("--auth", type=click.Choice(["key-pair", "role"]), help="Who calls: an IAM user's key, or a role.")
@click.option("--principal", "principals", multiple=True, metavar="ARN", help="May assume the role; default: you.")
@click.option(
    "--concurrency", "reserve", type=int, metavar="N", help="Requests at once; 0 switches it off.  [default: 10]"
)
@click.option("--log-days", "log_retention_days", type=int, help="1, 3, 7, 14, 30, 90, 180 or 365.  [default: 30]")
@click.option("--alarm-email", metavar="ADDRESS", help="Who hears of errors, throttles and slow requests.")
@click.option("--budget", "monthly_budget_usd", type=float, metavar="USD", help="A monthly budget for all of Lambda.")
@click.option("--keep-warm", "keep_warm_minutes", type=int, metavar="MINUTES", help="Call it this often.")
@click.option(
    "--snapstart", is_flag=True, default=None, help="Snapshots for short cold starts; the price is shown first."
)
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="For every resource.")
@click.option("--dry-run", "--diff", "dry_run", is_flag=True, help="Check everything and show what would change.")
@click.option("--force", is_flag=True, help="Deploy even if nothing has changed.")
@click.option("--no-smoke", is_flag=True, help="Draw no picture at the end.")
@click.option("--yes", "-y", is_flag=True, help="Answer every question with yes.")
@json_option
def deploy(
    model: str, name: str, region: str | None, profile: str | None, *, reserve: int | None, tags: tuple[str, ...],
    principals: tuple[str, ...], dry_run: bool, force: bool, no_smoke: bool, yes: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Put a model behind an IAM-protected Function URL in your AWS account.

    Needs AWS credentials and a container engine (docker, podman or finch). Run it again after a change, or after a
    failure: it takes up where it was.

    \b
    lambdiff deploy
    lambdiff deploy --model tiny-sd --name tiny --memory 3008
    """
    from lambdiff import config, pricing
    from lambdiff.infra import deploy as deploying
    from lambdiff.infra import preflight, smoke_test, toolchain
    from lambdiff.stages import Stages

    toolchain.check_extra()
    config.check_name(name)
    given = {key: value for key, value in options.items() if value is not None}
    if principals:
        given["principals"] = principals
    if tags:
        given["tags"] = dict(_pair(tag) for tag in tags)
    wishes = preflight.DeployOptions(
        name=name, model=model, region=region, profile=profile, reserve=reserve, options=given, force=force,
        smoke=not no_smoke,
    )  # fmt: skip
    report = Stages()
    if dry_run:
        would = deploying.dry_run(wishes, report)
        if as_json:
            echo_json(would)
        else:
            click.echo("\n".join([would.summary, *would.notes, would.diff]), nl=False)
        return
    outcome = deploying.deploy(wishes, report, make_confirm(yes=yes, as_json=as_json))
    if as_json:
        echo_json(outcome)
        return
    if not outcome.changed:
        report.say(f"Nothing has changed: {outcome.stack} is up to date.")
    report.say(f"{outcome.model} answers at {outcome.url}")
    if outcome.seconds_per_image is not None and outcome.dollars_per_image is not None:
        report.say(
            f"The first picture took {outcome.seconds_per_image:.1f} s, cold start included: at most "
            f"{pricing.dollars(outcome.dollars_per_image)} (prices of us-east-1, {outcome.prices_of})."
        )
    choice = "" if name == "lambdiff" else f" --deployment {name}"
    report.say(f'Next: lambdiff generate "{smoke_test.PROMPT}" -o cat.png{choice}')


def _pair(tag: str) -> tuple[str, str]:
    key, separator, value = tag.partition("=")
    if not separator or not key or not value:
        raise click.BadParameter(f"{tag!r} is not KEY=VALUE.", param_hint="--tag")
    return key, value

"""`lambdiff deploy`: an endpoint in your own AWS account."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from lambdiff.aws.function import Architecture
from lambdiff.cli import completion, echo_json
from lambdiff.cli.flags import with_flags
from lambdiff.cli.options import json_option, make_confirm, profile_option, region_option, yes_option
from lambdiff.cli.value_types import Unchecked, Value
from lambdiff.engine.manifest import EngineName
from lambdiff.infra import settings
from lambdiff.printable import printable

if TYPE_CHECKING:
    from lambdiff.infra.deploy import DeployResult
    from lambdiff.infra.preflight import DeployOptions
    from lambdiff.infra.settings import SettingOverrides
    from lambdiff.stages import Stages

_MAX_DIFF: Final = 1_000_000


@click.command()
@click.option(
    "--model", default="built-in", show_default=True, metavar="built-in|NAME|FOLDER",
    shell_complete=completion.deployable_models,
    help="Model to serve: the built-in one, a name from `lambdiff models`, or the folder of a baked model.",
)  # fmt: skip
@click.option(
    "--name", default="lambdiff", show_default=True, metavar="NAME", shell_complete=completion.deployments,
    help="Name of the deployment; the stack is named after it.",
)  # fmt: skip
@region_option
@profile_option
@click.option(
    "--memory", "memory_mb", type=Unchecked(settings.MemoryMb), metavar="MB",
    help="Memory, 128 to 10240.  [default: as deployed, at first 10240]",
)  # fmt: skip
@click.option(
    "--timeout", "timeout_s", type=Unchecked(settings.TimeoutS), metavar="SECONDS",
    help="Timeout, 1 to 900.  [default: 600]",
)  # fmt: skip
@click.option(
    "--tmp", "tmp_mb", type=Unchecked(settings.TmpMb), metavar="MB", help="Size of /tmp, 512 to 10240.  [default: 512]"
)
@click.option("--engine", type=Unchecked(EngineName), help="Inference engine.  [default: openvino]")
@click.option(
    "--arch", "architecture", type=Unchecked(Architecture),
    help="Processor architecture.  [default: x86_64]",
)  # fmt: skip
@click.option("--base-image", metavar="IMAGE", help="AWS's base image for Python, by tag or by digest.")
@click.option(
    "--auth", type=Unchecked(settings.Auth),
    help="How callers sign: with an IAM user's key pair from a secret, or by assuming a role.  "
    "[default: as deployed, at first key-pair]",
)  # fmt: skip
@click.option(
    "--principal", "principals", multiple=True, type=Unchecked(settings.PrincipalArn), metavar="ARN",
    help="User or role that may assume the role of --auth role, which this implies; repeatable.  "
    "[default: as deployed, at first your identity]",
)  # fmt: skip
@click.option(
    "--concurrency", "reserved_concurrency", type=Unchecked(settings.Concurrency), metavar="N",
    help="Concurrent requests; 0 turns the endpoint off.  [default: 10]",
)  # fmt: skip
@click.option(
    "--log-days", "log_retention_days", type=Unchecked(settings.RetentionDays), metavar="DAYS",
    help="Log retention: 1, 3, 7, 14, 30, 90, 180 or 365.  [default: 30]",
)  # fmt: skip
@click.option(
    "--alarm-email", type=Unchecked(settings.Email), metavar="ADDRESS",
    help="Send alarms about errors, throttles and slow requests here.",
)  # fmt: skip
@click.option(
    "--budget", "monthly_budget_usd", type=Unchecked(settings.Dollars), metavar="USD",
    help="Monthly budget for all Lambda functions of the account; requires --alarm-email.",
)  # fmt: skip
@click.option(
    "--keep-warm", "keep_warm_minutes", type=Unchecked(settings.WarmMinutes), metavar="MINUTES",
    help="Invoke every N minutes to keep one environment warm.",
)  # fmt: skip
@click.option(
    "--snapstart/--no-snapstart", default=None,
    help="Shorten cold starts with SnapStart; its price is shown first. Turning it on or off replaces the URL.",
)  # fmt: skip
@click.option(
    "--dashboard/--no-dashboard", default=None,
    help="Add a CloudWatch dashboard with requests, errors, seconds by phase and dollars a day; about $6 a month.",
)  # fmt: skip
@click.option("--tracing/--no-tracing", default=None, help="Trace requests with X-Ray.")
@click.option(
    "--batch/--no-batch", default=None,
    help="Add what `lambdiff batch --where aws` needs: a bucket, a state machine and a function; costs nothing when "
    "idle.  [default: as deployed]",
)  # fmt: skip
@click.option(
    "--batch-memory", "batch_memory_mb", type=Unchecked(settings.MemoryMb), metavar="MB",
    help="Memory of the batch function; implies --batch.  [default: as deployed, at first that of --memory]",
)  # fmt: skip
@click.option(
    "--batch-timeout", "batch_timeout_s", type=Unchecked(settings.TimeoutS), metavar="SECONDS",
    help="Longest time for an image of a batch run; it limits what a run can cost; implies --batch.  "
    "[default: as deployed, at first 300]",
)  # fmt: skip
@click.option("--qualifier", type=Unchecked(settings.Qualifier), help="Qualifier of a custom CDK bootstrap.")
@click.option(
    "--permissions-boundary", type=Unchecked(settings.PolicyName), metavar="POLICY",
    help="Policy, by name or ARN, that limits every user and role of the stack.",
)  # fmt: skip
@click.option(
    "--vpc-subnet", "vpc_subnets", multiple=True, type=Unchecked(settings.SubnetId), metavar="ID",
    help="Run the function in this subnet; repeatable. It needs no internet access.",
)  # fmt: skip
@click.option(
    "--vpc-security-group", "vpc_security_groups", multiple=True, type=Unchecked(settings.SecurityGroupId),
    metavar="ID", help="Security group of the function in its subnets; repeatable.",
)  # fmt: skip
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Tag for every resource; repeatable.")
@click.option(
    "--builder", type=Value(settings.BuilderName), default="auto", show_default=True,
    help="What builds the image: a container engine here, or AWS CodeBuild; its price is shown first.",
)  # fmt: skip
@click.option(
    "--export", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Write the template and the image's build context there instead of deploying, for a pipeline that deploys.",
)  # fmt: skip
@click.option(
    "--account", type=Unchecked(settings.AccountId), metavar="ID",
    help="For --export: the account, which is then not asked; requires --region.",
)  # fmt: skip
@click.option("--dry-run", "--diff", "dry_run", is_flag=True, help="Check everything and show what would change.")
@click.option(
    "--force", is_flag=True,
    help="Deploy even if nothing has changed, if the region is not known to have Function URLs, or if the model is "
    "estimated to need more memory.",
)  # fmt: skip
@click.option(
    "--smoke/--no-smoke", default=True, help="Generate an image at the end to check the endpoint; on by default."
)
@yes_option
@json_option
def deploy(
    model: str, name: str, region: str | None, profile: str | None, *, reserved_concurrency: int | None,
    tags: tuple[str, ...], builder: settings.BuilderName, export: Path | None, account: str | None,
    dry_run: bool, force: bool, smoke: bool, yes: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Deploy a model to your AWS account.

    The model is served behind an IAM-protected Function URL. You need AWS credentials. The image is built by a
    container engine (docker, podman or finch) or, if none runs here, by AWS CodeBuild; Node and the CDK CLI are
    installed for you. After a change or a failure, run the command again: it continues where it left off. Options that
    you leave out return to their defaults; some of them keep what is deployed.

    Examples:

    \b
        lambdiff deploy
        lambdiff deploy --model tiny-sd --name tiny --memory 3008
        lambdiff deploy --auth role --concurrency 2 --dry-run
    """
    from lambdiff.infra import deploy as deploying
    from lambdiff.infra import preflight, toolchain
    from lambdiff.stages import Stages

    toolchain.check_extra()
    given = {key: value for key, value in options.items() if value not in (None, ())}
    if tags:
        given["tags"] = _pairs(tags)
    deploy_options = preflight.DeployOptions(
        name=name, model=model, region=region, profile=profile, reserved_concurrency=reserved_concurrency,
        overrides=cast("SettingOverrides", given), builder=builder, force=force, smoke_test=smoke,
    )  # fmt: skip
    stages = Stages()
    if account is not None and export is None:
        raise click.UsageError("--account requires --export; a deployment goes to the account of your credentials.")
    if export is not None:
        if builder == "codebuild":
            raise click.UsageError(
                "--builder codebuild cannot be combined with --export: the pipeline builds the image."
            )
        if dry_run:
            raise click.UsageError("--dry-run cannot be combined with --export, which changes nothing in AWS.")
        if account is not None and profile is not None:
            raise click.UsageError("--profile cannot be combined with --account, for which AWS is not asked.")
        _export(deploy_options, export, account, stages, as_json=as_json)
        return
    if dry_run:
        _dry_run(deploy_options, stages, as_json=as_json)
        return
    result = deploying.deploy(deploy_options, stages, make_confirm(yes=yes, as_json=as_json))
    if as_json:
        echo_json(result)
    else:
        _report(result, name, stages)


def _export(options: DeployOptions, folder: Path, account: str | None, stages: Stages, *, as_json: bool) -> None:
    from lambdiff.infra import export as exporting

    exported = exporting.export(options, folder, stages, account_id=account)
    if as_json:
        echo_json(exported)
        return
    for note in exported.notes:
        click.echo(with_flags(note), err=True)
    click.echo(f"{folder}: {exported.stack}, for account {exported.account} in {exported.region}")
    click.echo(f"Next: npx aws-cdk@2 deploy --app {shlex.quote(str(folder))}", err=True)


def _dry_run(options: DeployOptions, stages: Stages, *, as_json: bool) -> None:
    from lambdiff.infra import deploy as deploying

    plan = deploying.dry_run(options, stages)
    if as_json:
        echo_json(plan)
    else:
        for text in (plan.summary, *plan.notes):
            click.echo(with_flags(text))
        click.echo(printable(plan.diff, _MAX_DIFF, multiline=True), nl=False)


def _report(result: DeployResult, name: str, stages: Stages) -> None:
    from lambdiff.infra import smoke_test
    from lambdiff.pricing import dollars

    if not result.changed:
        stages.say(f"Nothing has changed: {result.stack} is up to date.")
    stages.say(f"{result.model} is deployed at {result.url}")
    if result.seconds_per_image is not None and result.dollars_per_image is not None:
        stages.say(
            f"The first image took {result.seconds_per_image:.1f} s, cold start included, and cost at most "
            f"{dollars(result.dollars_per_image)} (us-east-1 prices as of {result.prices_as_of})."
        )
    flag = "" if name == "lambdiff" else f" --deployment {name}"
    stages.say(f'Next: lambdiff generate "{smoke_test.PROMPT}"{flag}')


def _pairs(tags: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for tag in tags:
        key, separator, value = tag.partition("=")
        if not separator or not key or not value:
            raise click.BadParameter(f"{tag!r} is not KEY=VALUE.", param_hint="--tag")
        if key in pairs:
            raise click.BadParameter(f"{key!r} is given twice.", param_hint="--tag")
        pairs[key] = value
    return pairs

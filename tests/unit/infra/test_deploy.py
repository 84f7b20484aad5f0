"""The steps of a deployment, with moto in place of AWS and a CDK that creates stacks there (infra/deploy.py)."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from lambdiff import config
from lambdiff.aws import account as accounts
from lambdiff.aws import logs, stacks
from lambdiff.aws.account import Account
from lambdiff.cli import cli, main
from lambdiff.errors import Cancelled, ConfigurationError, DeployError, InvalidRequest, ToolchainError
from lambdiff.infra import build_context, builder, smoke_test, toolchain
from lambdiff.infra import deploy as deploying
from lambdiff.infra import model as models
from lambdiff.infra.cdk_cli import Cdk
from lambdiff.infra.failures import MemoryCapped
from lambdiff.infra.preflight import DEFAULT_CONCURRENCY, DeployOptions
from lambdiff.infra.settings import SettingOverrides, StackSettings
from lambdiff.infra.toolchain import Tool
from lambdiff.stages import Stages
from support.aws_resources import (
    BOOTSTRAP_PARAMETER,
    OUTPUTS,
    REGION,
    make_stack,
    save_deployment,
    stack_states,
    write_manifest,
)
from support.build_cloud import REPOSITORY, BuildCloud
from support.registry_server import RegistryServer


class MotoCdk(Cdk):
    """A CDK that creates stacks in moto; the first deployments raise `failures`."""

    failures: list[BaseException]
    deployed: list[StackSettings]
    codebuild: BuildCloud
    bootstrapped = 0

    def bootstrap(self) -> None:
        type(self).bootstrapped += 1

    def deploy(self, settings: StackSettings) -> dict[str, str]:
        if self.failures:
            raise self.failures.pop(0)
        self.deployed.append(settings)
        return deployed_stack(settings)

    def deploy_builder(self, settings: StackSettings, fingerprint: str) -> None:
        self.codebuild.make_builder(settings, fingerprint)

    def diff(self, settings: StackSettings) -> str:
        return "There were no differences\n"


def deployed_stack(settings: StackSettings) -> dict[str, str]:
    """Create or update the stack for some settings, as far as lambdiff reads it again, and return its outputs."""
    found = {
        "Auth": settings.auth,
        "BaseImage": settings.base_image_pin,
        "Fingerprint": settings.fingerprint,
        "Model": settings.model,
        "Region": settings.region,
    }
    function: dict[str, Any] = {"MemorySize": settings.memory_mb}
    if settings.snapstart:
        function["SnapStart"] = {"ApplyOn": "PublishedVersions"}
    properties = {"Function76856677:AWS::Lambda::Function": function}
    if settings.auth == "role":
        names: Any = settings.principals[0] if len(settings.principals) == 1 else list(settings.principals)
        trust = {"Statement": [{"Action": "sts:AssumeRole", "Effect": "Allow", "Principal": {"AWS": names}}]}
        properties["InvokerRole4DB2757E:AWS::IAM::Role"] = {"AssumeRolePolicyDocument": trust}
        found["InvokerRoleArn"] = "arn:aws:iam::123456789012:role/lambdiff-InvokerRole"
    make_stack(settings.stack_name, found, properties=properties)
    return {**OUTPUTS, **found}


@pytest.fixture
def cdk(aws: None, monkeypatch: pytest.MonkeyPatch) -> type[MotoCdk]:
    """The CDK class that `deploy` uses, in a bootstrapped account."""
    codebuild = BuildCloud()
    codebuild.install(monkeypatch)
    monkeypatch.setattr(builder, "_POLL_SECONDS", 0)
    (config.home() / "logs").mkdir(parents=True, exist_ok=True)
    recorded: dict[str, Any] = {"failures": [], "deployed": [], "bootstrapped": 0, "codebuild": codebuild}
    kind = type("RecordingCdk", (MotoCdk,), recorded)
    monkeypatch.setattr(deploying, "Cdk", kind)
    monkeypatch.setattr(toolchain, "cdk", lambda: Tool(("cdk",), "0", "test"))
    monkeypatch.setattr(toolchain, "container_engine", lambda: Tool(("docker",), "0", "test"))
    monkeypatch.setattr(Account, "concurrency", lambda _: (1000, 1000))  # moto does not implement it
    boto3.client("ssm", REGION).put_parameter(Name=BOOTSTRAP_PARAMETER, Value="33", Type="String")
    return kind


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryServer]:
    """The registry of the base image, with one version of it."""
    with RegistryServer() as running:
        running.push("base image")
        monkeypatch.setitem(BASE, "base_image", running.image)
        yield running


BASE: dict[str, Any] = {}
"""The override that every deployment has: the base image is in the registry of the test."""


def deploy(folder: Path, *, answer: bool = True, **changes: Any) -> deploying.DeployResult:
    """Deploy a model without the smoke test."""
    overrides = {**BASE, **changes.pop("overrides", {})}
    options = DeployOptions(**{"model": str(folder), "smoke_test": False, "overrides": overrides, **changes})
    return deploying.deploy(options, Stages(io.StringIO()), lambda _: answer)


def test_a_deployment_is_saved(cdk: type[MotoCdk], model: Path) -> None:
    """A deployment is saved with all that later calls need, and has the default memory and concurrency."""
    result = deploy(model)
    saved = config.load().deployments["lambdiff"]
    assert (result.changed, result.model, result.memory_mb) == (True, "tiny@r1", 10_240)
    assert (saved.url, saved.secret_arn) == (OUTPUTS["LambdaUrl"], OUTPUTS["SecretArn"])
    assert (saved.stack, saved.function_name, saved.timeout_s) == ("lambdiff", "lambdiff-Function", 600)
    assert cdk.deployed[0].reserved_concurrency == DEFAULT_CONCURRENCY


def test_an_unknown_limit_reserves_nothing(cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the account's limit cannot be read, a note says so, and only an explicit reservation is requested."""
    monkeypatch.setattr(Account, "concurrency", lambda _: None)
    assert "lambda:GetAccountSettings" in deploy(model).notes[0]
    assert deploy(model).changed is False
    assert deploy(model, reserved_concurrency=5).notes == []
    assert [settings.reserved_concurrency for settings in cdk.deployed] == [None, 5]


def test_an_unchanged_deployment_is_not_repeated(cdk: type[MotoCdk], model: Path) -> None:
    """Without a change the CDK is not started; a changed setting or `force=True` starts it."""
    deploy(model)
    assert deploy(model).changed is False
    assert len(cdk.deployed) == 1
    assert deploy(model, overrides={"timeout_s": 60}).changed is True
    assert deploy(model, overrides={"timeout_s": 60}, force=True).changed is True


def test_a_changed_model_is_deployed(cdk: type[MotoCdk], model: Path) -> None:
    """A changed model is deployed, and its old build context is removed."""
    deploy(model)
    (old,) = build_context.contexts().iterdir()
    os.utime(old, (1, 1))
    (model / "unet" / "model.bin").write_bytes(b"better weights")
    write_manifest(model)
    assert deploy(model).changed is True
    assert len(list(build_context.contexts().iterdir())) == 1


def test_a_newer_base_image_is_deployed(cdk: type[MotoCdk], model: Path, registry: RegistryServer) -> None:
    """The digest is in the build arguments and in the fingerprint; a note names the version that is replaced."""
    first = f"{registry.image}@{registry.push('base image')}"
    assert deploy(model).notes == []
    newer = registry.push("patched base image")
    result = deploy(model)
    assert result.changed is True
    assert result.notes == [f"{registry.image} has changed since the last deployment, which had {first}."]
    assert [settings.base_image for settings in cdk.deployed] == [
        f"{registry.host}/lambda/python@{first.partition('@')[2]}",
        f"{registry.host}/lambda/python@{newer}",
    ]
    assert len({settings.fingerprint for settings in cdk.deployed}) == 2
    assert deploy(model).changed is False


def test_without_the_registry_the_base_image_stays(
    cdk: type[MotoCdk], model: Path, registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment that has a base image keeps it, with a note; the first one cannot do without the registry."""
    monkeypatch.setattr(toolchain, "container_engine", lambda: Tool(("/nonexistent",), "0", "test"))
    registry.faults = ["login"]
    with pytest.raises(DeployError, match="The digest of the base image cannot be determined"):
        deploy(model)
    registry.faults = []
    deploy(model)
    registry.faults = ["login"]
    result = deploy(model)
    assert result.changed is False
    assert "needs a login" in result.notes[0]


def test_the_caller_can_decline(cdk: type[MotoCdk], model: Path) -> None:
    """If the caller declines, nothing is deployed or saved."""
    with pytest.raises(Cancelled):
        deploy(model, answer=False)
    assert not cdk.deployed
    assert not config.path().exists()


def test_bootstrap_is_offered(cdk: type[MotoCdk], model: Path) -> None:
    """A missing bootstrap is offered; if the caller declines, the error has the command for an administrator."""
    boto3.client("ssm", REGION).delete_parameter(Name=BOOTSTRAP_PARAMETER)
    with pytest.raises(DeployError, match="cdk bootstrap aws://123456789012/us-east-1"):
        deploy(model, answer=False)
    deploy(model)
    assert cdk.bootstrapped == 1


def test_a_failure_saves_nothing(cdk: type[MotoCdk], model: Path) -> None:
    """A failed deployment is not saved, and the next run succeeds."""
    cdk.failures.append(DeployError("no", fix="try"))
    with pytest.raises(DeployError):
        deploy(model)
    assert not config.path().exists()
    assert deploy(model).changed is True


def test_an_interruption_is_explained(cdk: type[MotoCdk], model: Path) -> None:
    """After Ctrl-C nothing is saved, and the message says what has happened in AWS."""
    cdk.failures.append(KeyboardInterrupt())
    with pytest.raises(Cancelled, match="The stack lambdiff was not changed"):
        deploy(model)
    assert not config.path().exists()


def test_a_capped_account_gets_less_memory(cdk: type[MotoCdk], model: Path) -> None:
    """If the account limits memory, the deployment uses that limit, a note says so, and the next run keeps it."""
    cdk.failures.append(MemoryCapped("capped", limit=3008))
    result = deploy(model)
    assert result.memory_mb == 3008
    assert "3,008 MB" in result.notes[0]
    assert config.load().deployments["lambdiff"].memory_mb == 3008
    assert deploy(model).changed is False


def test_a_second_cap_is_an_error(cdk: type[MotoCdk], model: Path) -> None:
    """If AWS refuses the lower memory, too, the deployment fails instead of being repeated forever."""
    cdk.failures += [MemoryCapped("capped", limit=3008), MemoryCapped("capped again", limit=3008)]
    with pytest.raises(MemoryCapped, match="capped again"):
        deploy(model)


def test_everything_wrong_is_named_before_aws_is_called(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without AWS credentials, all mistakes are reported at once, for a deployment and for a dry run."""
    monkeypatch.setenv("AWS_REGION", REGION)
    wrong: dict[str, Any] = {
        "name": "Not A Name",
        "model": "nope",
        "region": "mars",
        "reserved_concurrency": -1,
        "overrides": {
            "memory_mb": 99,
            "timeout_s": 0,
            "log_retention_days": 2,
            "auth": "key-pair",
            "principals": ("arn:aws:iam::123456789012:user/ann",),
            "monthly_budget_usd": 5.0,
            "keep_warm_minutes": 100,
            "snapstart": True,
            "tmp_mb": 1024,
        },
    }
    with pytest.raises(InvalidRequest) as caught:
        deploying.dry_run(DeployOptions(**wrong), Stages(io.StringIO()))
    fields = wrong.keys() - {"overrides"} | wrong["overrides"].keys() - {"auth", "snapstart"}
    assert {name for name, _ in caught.value.problems} == fields
    assert "`model=` must be one of built-in, tiny-sd" in caught.value.message
    with pytest.raises(InvalidRequest):
        deploy(model, overrides={"memory_mb": 99})
    assert not build_context.contexts().exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory", "99"), "--memory must be a whole number in 128..10240, not 99."),
        (
            ("--memory", "99", "--timeout", "901"),
            "--memory must be a whole number in 128..10240, not 99; --timeout must",
        ),
        (("--model", "nope"), "--model must be one of built-in, tiny-sd"),
        (("--model", "tiny-sdd"), "not 'tiny-sdd'; did you mean tiny-sd?"),
        (("--model", ""), "--model must not be empty."),
        (("--model", "."), "--model is a folder without a baked model; bake it first: `lambdiff bake . -o baked`"),
        (
            ("--engine", "diffusers"),
            "--model was baked for the openvino engine, not for diffusers; pass --engine openvino",
        ),
        (("--log-days", "2"), "--log-days must be one of 1, 3, 7"),
        (("--region", "mars"), "--region must be an AWS region, not 'mars'"),
        (("--region", "us-esat-1"), "did you mean us-east-1?"),
        (("--principal", "me"), "--principal must look like arn:aws:iam::123456789012:role/NAME"),
        (("--principal", "arn:aws:iam::123456789012:user/a", "--region", "cn-north-1"), "another partition"),
        (
            ("--permissions-boundary", "arn:aws-cn:iam::123456789012:policy/a", "--region", "us-east-1"),
            "--permissions-boundary has arn:aws-cn:iam::123456789012:policy/a, which is in another partition",
        ),
        (
            [part for n in range(50) for part in ("--principal", f"arn:aws:iam::123456789012:role/somebody-{n:02}")],
            "--principal must fit into a trust policy: 1,900 characters, not 2,2",
        ),
        (("--auth", "key-pair", "--principal", "arn:aws:iam::123456789012:user/a"), "--principal requires --auth role"),
        (("--alarm-email", "ann"), "--alarm-email must look like ann@example.org"),
        (("--tag", "aws:a=b"), "reserved"),
        (("--tag", "a=b", "--tag", "a=c"), "'a' is given twice"),
        (("--name", "Prod"), "--name must look like my-model"),
        (("--concurrency", "-5"), "--concurrency must be a whole number in 0..100000, not -5"),
        (("--snapstart", "--tmp", "1024"), "--tmp must be 512 with SnapStart"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_mistakes_are_usage_errors(options: tuple[str, ...], words: str, dry: tuple[str, ...]) -> None:
    """Each mistake is named in the words of the flags, with exit code 2 and without credentials."""
    done = run_here("deploy", *dry, *options)
    assert done[0] == 2
    assert words in done[1]


def run_here(*arguments: str) -> tuple[int, str]:
    """Run the command line in this process; return its exit code and what it prints to stderr."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as ended:
        main([*arguments])
    return int(ended.value.code or 0), errors.getvalue()


@pytest.mark.parametrize("region", ["ca-west-1", "eu-south-2", "us-gov-west-1", "cn-north-1"])
def test_a_region_without_function_urls_is_refused_offline(region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS would refuse it after the image has been built and pushed."""
    status, message = run_here("deploy", "--region", region)
    assert status == 3
    assert f"no Function URLs in {region}" in message
    assert "pass --force" in message
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    assert f"no Function URLs in {region} (AWS_DEFAULT_REGION)" in run_here("deploy")[1]


def test_a_region_without_function_urls_can_be_forced(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS may have added them since: `force` deploys, with a note. The region may come from the environment."""
    monkeypatch.setenv("AWS_REGION", "ca-west-1")
    with pytest.raises(ConfigurationError, match=r"no Function URLs in ca-west-1 \(AWS_REGION\)"):
        deploy(model)
    monkeypatch.setattr(accounts, "MIN_BOOTSTRAP", 0)
    boto3.client("ssm", "ca-west-1").put_parameter(Name=BOOTSTRAP_PARAMETER, Value="33", Type="String")
    assert "no Function URLs in ca-west-1" in deploy(model, force=True).notes[0]


@pytest.fixture
def no_engine(cdk: type[MotoCdk], monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a container engine."""

    def missing() -> Tool:
        raise ToolchainError("No container engine is installed.", fix="install one")

    monkeypatch.setattr(toolchain, "container_engine", missing)


@pytest.mark.parametrize(("choice", "answer"), [("local", True), ("auto", False)])
def test_without_a_container_engine_nothing_is_built_here(
    cdk: type[MotoCdk], no_engine: None, model: Path, choice: str, answer: bool
) -> None:
    """If the caller wants a container engine, or declines CodeBuild, the CDK is not started."""
    with pytest.raises(ToolchainError, match="No container engine"):
        deploy(model, builder=choice, answer=answer)
    assert not cdk.deployed
    assert not cdk.codebuild.started


def test_codebuild_takes_the_place_of_a_container_engine(cdk: type[MotoCdk], no_engine: None, model: Path) -> None:
    """The questions name the reason and the price, and the endpoint gets the image that CodeBuild has pushed."""
    questions: list[str] = []
    options = DeployOptions(model=str(model), smoke_test=False, overrides=cast("SettingOverrides", dict(BASE)))
    result = deploying.deploy(options, Stages(io.StringIO()), lambda each: not questions.append(each))  # type: ignore[func-returns-value]
    assert "No container engine is installed. Build the image in AWS CodeBuild" in questions[0]
    assert "built in CodeBuild for $0.005 a minute, at most $0.30, to account" in questions[-1]
    (image,) = boto3.client("ecr", REGION).describe_images(repositoryName=REPOSITORY)["imageDetails"]
    assert cdk.deployed[0].image.endswith(f"/{REPOSITORY}@{image['imageDigest']}")
    assert {"Uploading the build context", "Building the image", "Pushing the image"} <= set(result.stages)


def test_what_builds_the_image_makes_no_difference(cdk: type[MotoCdk], model: Path) -> None:
    """The fingerprint is the same, so that another machine, with or without an engine, has nothing to do."""
    deploy(model)
    assert deploy(model, builder="codebuild").changed is False
    assert not cdk.codebuild.started
    deploy(model, builder="codebuild", force=True)
    assert cdk.deployed[0].fingerprint == cdk.deployed[1].fingerprint
    assert (cdk.deployed[0].image, bool(cdk.deployed[1].image)) == ("", True)
    assert deploy(model, builder="local").changed is False


def test_a_changed_setting_needs_no_build(cdk: type[MotoCdk], model: Path) -> None:
    """An image of the same content is found again; once there is a builder, it is used without being named."""
    deploy(model, builder="codebuild")
    deploy(model, overrides={"timeout_s": 60})
    assert len(cdk.codebuild.started) == 1
    assert cdk.deployed[0].image == cdk.deployed[1].image


def test_a_changed_image_replaces_the_earlier_one(cdk: type[MotoCdk], model: Path, registry: RegistryServer) -> None:
    """The patched base image is built on, and the image before it is deleted once the endpoint has the new one."""
    deploy(model, builder="codebuild")
    registry.push("patched base image")
    assert len(deploy(model).notes) == 1
    assert len(cdk.codebuild.started) == 2
    (image,) = boto3.client("ecr", REGION).describe_images(repositoryName=REPOSITORY)["imageDetails"]
    assert cdk.deployed[1].image.endswith(image["imageDigest"])


def test_images_that_cannot_be_deleted_are_a_note(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint is up to date, so that a missing permission to tidy up is no failure."""

    def refuse(*_: Any) -> None:
        raise DeployError("AWS says no.")

    monkeypatch.setattr(builder, "prune", refuse)
    assert deploy(model, builder="codebuild").notes == ["Earlier images are left in ECR: AWS says no."]


def test_a_builder_that_is_not_used_any_more_is_a_note(cdk: type[MotoCdk], model: Path) -> None:
    """Its image costs money until it is removed."""
    deploy(model, builder="codebuild")
    overrides = cast("SettingOverrides", {**BASE, "timeout_s": 60})
    shown = io.StringIO()
    options = DeployOptions(model=str(model), builder="local", smoke_test=False, overrides=overrides)
    note = "The stack lambdiff-Builder is not used any more; `lambdiff destroy` removes it."
    assert deploying.deploy(options, Stages(shown), lambda _: True).notes == [note]
    assert shown.getvalue().count(note) == 1


def test_an_interruption_between_the_stacks_is_recoverable(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interruption of the build, the message says that the stack is as it was, and the next run succeeds."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(logs, "tail", interrupt)
        with pytest.raises(Cancelled, match="Interrupted before the image was complete; the stack lambdiff was not"):
            deploy(model, builder="codebuild")
    assert cdk.codebuild.stopped
    assert not cdk.deployed
    assert deploy(model).changed is True
    assert cdk.deployed[0].image


DESIGNERS = "arn:aws:iam::123456789012:role/design/Designers"
OTHERS = "arn:aws:iam::999999999999:role/Partners"


def as_role(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call AWS with a session of the role `DESIGNERS`."""
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    boto3.client("iam").create_role(RoleName="Designers", Path="/design/", AssumeRolePolicyDocument=trust)
    session = boto3.client("sts").assume_role(RoleArn=DESIGNERS, RoleSessionName="ann")["Credentials"]
    for name, part in (("ACCESS_KEY_ID", "AccessKeyId"), ("SECRET_ACCESS_KEY", "SecretAccessKey")):
        monkeypatch.setenv(f"AWS_{name}", session[part])
    # moto's sessions have the role's path; AWS's do not
    original = accounts.open_account

    def without_path(*arguments: Any, **options: Any) -> Account:
        opened = original(*arguments, **options)
        return dataclasses.replace(opened, arn="arn:aws:sts::123456789012:assumed-role/Designers/ann")

    monkeypatch.setattr(accounts, "open_account", without_path)


def test_a_role_trusts_the_caller_by_default(cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `principals=`, `auth=role` trusts the caller's role, with its path; `principals=` implies `auth=role`."""
    as_role(monkeypatch)
    deploy(model, overrides={"auth": "role"})
    deploy(model, overrides={"principals": (OTHERS,)})
    assert [(each.auth, each.principals) for each in cdk.deployed] == [("role", (DESIGNERS,)), ("role", (OTHERS,))]


def test_an_unknown_caller_is_asked_for_a_principal(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the role's path cannot be read, `principals=` is demanded before anything is staged."""
    as_role(monkeypatch)
    boto3.client("iam").delete_role(RoleName="Designers")
    with pytest.raises(ConfigurationError, match="`principals=`"):
        deploy(model, overrides={"auth": "role"})
    assert not build_context.contexts().exists()


def test_url_and_callers_are_kept_unless_changed(cdk: type[MotoCdk], model: Path) -> None:
    """What decides the URL and who may call it stays as deployed, on any machine; the rest returns to its default."""
    principals = ("arn:aws:iam::999999999999:user/ann", OTHERS)
    first: dict[str, Any] = {"snapstart": True, "principals": principals, "memory_mb": 3008, "timeout_s": 60}
    deploy(model, overrides=first)
    config.remove("lambdiff")
    result = deploy(model)
    kept = cdk.deployed[-1]
    assert (kept.snapstart, kept.auth, kept.principals, kept.memory_mb) == (True, "role", principals, 3008)
    assert (kept.timeout_s, result.changed) == (600, True)
    assert deploy(model).changed is False


def questions_for(model: Path, **overrides: Any) -> str:
    """Return the question before a deployment, which is declined."""
    asked: list[str] = []

    def decline(question: str) -> bool:
        asked.append(question)
        return False

    options = DeployOptions(model=str(model), overrides=cast("SettingOverrides", {**BASE, **overrides}))
    with pytest.raises(Cancelled):
        deploying.deploy(options, Stages(io.StringIO()), decline)
    return asked[-1]


def test_the_question_names_every_replacement(cdk: type[MotoCdk], model: Path) -> None:
    """A URL or an identity that is replaced or deleted is named before anything is changed."""
    deploy(model)
    assert questions_for(model, timeout_s=60).startswith("Deploy tiny@r1")
    on = questions_for(model, snapstart=True)
    assert on.startswith(f"Turning SnapStart on replaces the URL {OUTPUTS['LambdaUrl']}")
    assert "lambdiff configure --stack lambdiff" in on
    assert "key pair and the secret are deleted" in questions_for(model, principals=(OTHERS,))
    deploy(model, overrides={"snapstart": True, "principals": (OTHERS,)})
    assert "Turning SnapStart off" in questions_for(model, snapstart=False)
    assert "role/lambdiff-InvokerRole is deleted" in questions_for(model, auth="key-pair")
    assert f"{OTHERS} may no longer assume the role" in questions_for(
        model, principals=("arn:aws:iam::999999999999:root",)
    )
    assert questions_for(model, timeout_s=60).startswith("Deploy tiny@r1")
    plan = deploying.dry_run(
        DeployOptions(model=str(model), overrides=cast("SettingOverrides", {**BASE, "auth": "key-pair"})),
        Stages(io.StringIO()),
    )
    assert "is deleted" in plan.notes[-1]


def test_the_question_names_a_deployment_that_is_forgotten(cdk: type[MotoCdk], model: Path) -> None:
    """A saved deployment of the same name in another region is forgotten on this machine, not deleted."""
    save_deployment(region="eu-west-1", url="https://abc.lambda-url.eu-west-1.on.aws/")
    question = questions_for(model)
    assert "forgets the deployment lambdiff in eu-west-1 (https://abc.lambda-url.eu-west-1.on.aws/)" in question


@pytest.mark.parametrize("status", ["CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"])
def test_a_stack_that_was_never_complete_is_created_again(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """It is deleted first, which the question says, and its settings are not kept."""
    make_stack(outputs={"Fingerprint": "old"}, properties={"Function1:AWS::Lambda::Function": {"MemorySize": 128}})
    first = boto3.client("cloudformation", REGION).describe_stacks(StackName="lambdiff")["Stacks"][0]["StackId"]
    with pytest.MonkeyPatch.context() as patch:
        stack_states(patch, {"StackStatus": status, "StackStatusReason": "no quota"})
        assert f"was never complete ({status} no quota); it is deleted and created again" in questions_for(model)
    stack_states(monkeypatch, status, status, "")
    assert deploy(model).changed is True
    second = boto3.client("cloudformation", REGION).describe_stacks(StackName="lambdiff")["Stacks"][0]["StackId"]
    assert second != first
    assert cdk.deployed[-1].memory_mb == 10_240


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name lambdiff --region us-east-1"),
        ("UPDATE_FAILED", "rollback-stack --stack-name lambdiff"),
        ("DELETE_FAILED", "Finish deleting it with `lambdiff destroy`"),
        ("SOMETHING_NEW", "delete the stack with `lambdiff destroy`"),
    ],
)
def test_a_broken_stack_is_reported_before_the_build(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch, status: str, words: str
) -> None:
    """The error has AWS's reason and the next command, and nothing is staged."""
    make_stack()
    stack_states(monkeypatch, {"StackStatus": status, "StackStatusReason": "because"})
    with pytest.raises(DeployError, match=f"cannot be updated: {status} because") as caught:
        deploy(model)
    assert words in caught.value.fix
    assert not build_context.contexts().exists()


def test_an_earlier_change_is_waited_for(cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interruption, the next run waits for what continues in AWS, and saves the deployment."""
    deploy(model)
    config.remove("lambdiff")
    monkeypatch.setattr(stacks, "_POLL", 0.0)
    stack_states(monkeypatch, "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE")
    result = deploy(model)
    assert result.changed is False
    assert "Waiting for an earlier change of the stack" in result.stages
    assert config.load().deployments["lambdiff"].url == OUTPUTS["LambdaUrl"]


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "ROLLBACK_COMPLETE"])
def test_a_foreign_stack_is_never_touched(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """A stack of the same name that lambdiff did not create is refused in every state."""
    make_stack(tags={"team": "design"})
    stack_states(monkeypatch, status)
    with pytest.raises(ConfigurationError, match="was not created by lambdiff"):
        deploy(model)
    assert not cdk.deployed


def test_a_protected_stack_is_not_created_again(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An incomplete stack that is protected against deletion is reported before the build."""
    make_stack()
    stack_states(monkeypatch, {"StackStatus": "ROLLBACK_COMPLETE", "EnableTerminationProtection": True})
    with pytest.raises(ConfigurationError, match="termination protection"):
        deploy(model)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("DELETE_FAILED", "aws cloudformation delete-stack --stack-name CDKToolkit"),
        ("UPDATE_ROLLBACK_FAILED", "aws cloudformation continue-update-rollback --stack-name CDKToolkit"),
    ],
)
def test_a_damaged_bootstrap_is_reported(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch, status: str, words: str
) -> None:
    """The CDK would fail after the build; the error has the command that repairs the bootstrap."""
    make_stack("CDKToolkit", tags={})
    stack_states(monkeypatch, status, name="CDKToolkit")
    with pytest.raises(DeployError, match=f"bootstrap stack CDKToolkit is damaged: {status}") as caught:
        deploy(model)
    assert words in caught.value.fix
    assert not cdk.deployed


def test_an_old_or_incomplete_bootstrap_is_updated(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is too old, or no number, and a stack that was never complete are updated after a question."""
    ssm = boto3.client("ssm", REGION)
    for version in ("5", "unknown"):
        ssm.put_parameter(Name=BOOTSTRAP_PARAMETER, Value=version, Type="String", Overwrite=True)
        asked: list[str] = []
        overrides = cast("SettingOverrides", BASE)
        options = DeployOptions(model=str(model), smoke_test=False, force=True, overrides=overrides)
        deploying.deploy(options, Stages(io.StringIO()), lambda question: not asked.append(question))  # noqa: B023
        assert "has version" in asked[0]
    ssm.put_parameter(Name=BOOTSTRAP_PARAMETER, Value="33", Type="String", Overwrite=True)
    make_stack("CDKToolkit", tags={})
    stack_states(monkeypatch, "ROLLBACK_COMPLETE", name="CDKToolkit")
    deploy(model, force=True)
    assert cdk.bootstrapped == 3


def test_a_bootstrap_that_has_not_begun_is_created(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bootstrap that was interrupted before it began leaves a stack under review, which is not damaged."""
    boto3.client("ssm", REGION).delete_parameter(Name=BOOTSTRAP_PARAMETER)
    make_stack("CDKToolkit", tags={})
    stack_states(monkeypatch, "REVIEW_IN_PROGRESS", name="CDKToolkit")
    deploy(model)
    assert cdk.bootstrapped == 1


def test_a_bootstrap_that_may_not_be_read_is_trusted(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the bootstrap stack is a courtesy: without permission to read it, its version is enough."""
    original = Account.client

    def client(self: Account, service: Any) -> Any:
        opened = original(self, service)

        def refuse(params: dict[str, Any], **_: Any) -> None:
            if "CDKToolkit" in str(params["body"]):
                raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DescribeStacks")

        opened.meta.events.register("before-call.cloudformation.DescribeStacks", refuse)
        return opened

    monkeypatch.setattr(Account, "client", client)
    assert deploy(model).changed is True


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("preflight", "nothing was changed in AWS"),
        ("bake", "nothing was changed in AWS"),
        ("bootstrap", "it continues in AWS"),
        ("question", "nothing was changed in AWS"),
        ("build", "The stack lambdiff was not changed"),
        ("stack", "The stack lambdiff is UPDATE_IN_PROGRESS: this continues in AWS"),
        ("unknown stack", "If an update of the stack lambdiff has begun, it continues in AWS"),
        ("new stack", "The stack lambdiff was not created"),
        ("test", "the deployment was complete and saved"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_says_what_aws_does(
    cdk: type[MotoCdk], model: Path, default_signal_handlers: None, monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals, step: str, words: str,
) -> None:  # fmt: skip
    """At every step, a signal ends the deployment with what happens in AWS and what to run next."""

    def interrupt(*_: object, **__: object) -> Any:
        os.kill(os.getpid(), number)

    def interrupt_stack(self: Cdk, _: StackSettings) -> Any:
        self.changing_stack = "stack" in step
        if step == "stack":
            make_stack()
            stack_states(monkeypatch, "UPDATE_IN_PROGRESS")
        elif step == "unknown stack":
            monkeypatch.setattr(stacks, "read", lambda *_: open_account_elsewhere())
        interrupt()

    def open_account_elsewhere() -> None:
        raise DeployError("AWS cannot be reached")

    confirm: Any = lambda _: True  # noqa: E731
    if step == "preflight":
        monkeypatch.setattr(accounts, "open_account", interrupt)
    elif step == "bake":
        monkeypatch.setattr(models, "model_folder", interrupt)
    elif step == "bootstrap":
        boto3.client("ssm", REGION).delete_parameter(Name=BOOTSTRAP_PARAMETER)
        monkeypatch.setattr(cdk, "bootstrap", interrupt)
    elif step == "question":
        confirm = interrupt
    elif step == "test":
        monkeypatch.setattr(smoke_test, "run", interrupt)
    else:
        monkeypatch.setattr(cdk, "deploy", interrupt_stack)
    options = DeployOptions(model=str(model), overrides=cast("SettingOverrides", BASE))
    with pytest.raises(Cancelled, match=words) as caught:
        deploying.deploy(options, Stages(io.StringIO()), confirm)
    assert "`lambdiff " in caught.value.fix
    assert config.path().exists() is (step == "test")


def test_an_interrupted_retry_keeps_its_advice(cdk: type[MotoCdk], model: Path) -> None:
    """Ctrl-C after the memory was reduced: the next run must not begin with the memory that AWS refuses."""
    cdk.failures += [MemoryCapped("capped", limit=3008), KeyboardInterrupt()]
    with pytest.raises(Cancelled) as caught:
        deploy(model)
    assert "`memory_mb=3008`" in caught.value.fix


def test_a_dry_run_changes_nothing(cdk: type[MotoCdk], model: Path) -> None:
    """A dry run prints the model, the price when idle and the changes to the stack, and deploys nothing."""
    summary = "tiny@r1 (openvino, 10,240 MB, x86_64, about $0.70 a month when idle) as lambdiff"
    diff = "There were no differences\n"
    arguments = ("deploy", "--dry-run", "--model", str(model), "--base-image", BASE["base_image"])
    assert CliRunner().invoke(cli, arguments).stdout == f"{summary}\n{diff}"
    document = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert document == {"summary": summary, "diff": diff, "notes": []}
    assert not cdk.deployed


def test_the_question_states_the_price_of_snapstart(cdk: type[MotoCdk], model: Path) -> None:
    """Before anything is created, the question states what SnapStart costs."""
    questions: list[str] = []

    def decline(question: str) -> bool:
        questions.append(question)
        return False

    options = DeployOptions(model=str(model), overrides={**BASE, "snapstart": True})
    with pytest.raises(Cancelled):
        deploying.deploy(options, Stages(io.StringIO()), decline)
    assert "$40.20 a month when idle, SnapStart at $0.0014 a restore" in questions[-1]

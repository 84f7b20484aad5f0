"""The steps of a deployment, with moto in place of AWS and a CDK that creates stacks there (infra/deploy.py)."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from lambdiff import config
from lambdiff.aws import account as accounts
from lambdiff.aws.account import Account
from lambdiff.cli import cli
from lambdiff.errors import Cancelled, ConfigurationError, DeployError, ModelError, ToolchainError
from lambdiff.infra import build_context, toolchain
from lambdiff.infra import deploy as deploying
from lambdiff.infra.cdk_cli import Cdk
from lambdiff.infra.failures import MemoryCapped
from lambdiff.infra.preflight import DEFAULT_CONCURRENCY, DeployOptions
from lambdiff.infra.settings import StackSettings
from lambdiff.infra.toolchain import Tool
from lambdiff.stages import Stages
from support.aws_resources import OUTPUTS, REGION, make_stack, write_manifest
from support.registry_server import RegistryServer


class MotoCdk(Cdk):
    """A CDK that creates stacks in moto; the first deployments raise `failures`."""

    failures: list[BaseException]
    deployed: list[StackSettings]
    bootstrapped = 0

    def bootstrap(self) -> None:
        type(self).bootstrapped += 1

    def deploy(self, settings: StackSettings) -> dict[str, str]:
        if self.failures:
            raise self.failures.pop(0)
        self.deployed.append(settings)
        changes = {
            "BaseImage": settings.base_image_pin,
            "Fingerprint": settings.fingerprint,
            "Model": settings.model,
            "Region": settings.region,
        }
        make_stack(settings.stack_name, changes)
        return {**OUTPUTS, **changes}

    def diff(self, settings: StackSettings) -> str:
        return "There were no differences\n"


@pytest.fixture
def cdk(aws: None, monkeypatch: pytest.MonkeyPatch) -> type[MotoCdk]:
    """The CDK class that `deploy` uses, in a bootstrapped account."""
    kind = type("RecordingCdk", (MotoCdk,), {"failures": [], "deployed": [], "bootstrapped": 0})
    monkeypatch.setattr(deploying, "Cdk", kind)
    monkeypatch.setattr(toolchain, "cdk", lambda: Tool(("cdk",), "0", "test"))
    monkeypatch.setattr(toolchain, "container_engine", lambda: Tool(("docker",), "0", "test"))
    monkeypatch.setattr(Account, "concurrency", lambda _: (1000, 1000))  # moto does not implement it
    boto3.client("ssm", REGION).put_parameter(Name=accounts.BOOTSTRAP_PARAMETER, Value="33", Type="String")
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
    boto3.client("ssm", REGION).delete_parameter(Name=accounts.BOOTSTRAP_PARAMETER)
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
    """After Ctrl-C nothing is saved, and the message says that the deployment continues in AWS."""
    cdk.failures.append(KeyboardInterrupt())
    with pytest.raises(Cancelled, match="it continues in AWS"):
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


def test_limits_are_checked_before_anything_is_staged(cdk: type[MotoCdk], model: Path) -> None:
    """A value out of range is refused before anything is staged."""
    with pytest.raises(ConfigurationError, match="10240"):
        deploy(model, overrides={"memory_mb": 99_999})
    assert not build_context.contexts().exists()


def test_a_container_engine_is_required(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Without a container engine the CDK is not started."""

    def missing() -> Tool:
        raise ToolchainError("none", fix="install one")

    monkeypatch.setattr(toolchain, "container_engine", missing)
    with pytest.raises(ToolchainError):
        deploy(model)
    assert not cdk.deployed


def test_a_role_trusts_the_caller_by_default(cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `principals=`, `auth=role` trusts the caller; a caller with an assumed role is trusted as that role."""
    role = "arn:aws:iam::123456789012:role/Designers"
    keys = boto3.client("sts").assume_role(RoleArn=role, RoleSessionName="ann")["Credentials"]
    for name, part in (("ACCESS_KEY_ID", "AccessKeyId"), ("SECRET_ACCESS_KEY", "SecretAccessKey")):
        monkeypatch.setenv(f"AWS_{name}", keys[part])
    deploy(model, overrides={"auth": "role"})
    assert cdk.deployed[0].principals == (role,)


def test_an_unknown_model_is_refused(cdk: type[MotoCdk], tmp_path: Path) -> None:
    """The fix for a folder without a model is the command that bakes one, and for an unknown name the known names."""
    with pytest.raises(ConfigurationError, match="lambdiff bake"):
        deploy(tmp_path)
    with pytest.raises((ConfigurationError, ModelError), match="tiny-sd"):
        deploy(Path("no-such-model"))


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

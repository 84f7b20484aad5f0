"""The steps of a deployment, with moto for AWS and a CDK that makes its stack there."""

from __future__ import annotations

import io
import json
import os
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
from support.made_stack import OUTPUTS, REGION, make_stack, write_manifest


class MotoCdk(Cdk):
    """A CDK that makes the stack with moto; `failures` are raised by the first deployments."""

    failures: list[BaseException]
    deployed: list[StackSettings]
    bootstrapped = 0

    def bootstrap(self) -> None:
        type(self).bootstrapped += 1

    def deploy(self, settings: StackSettings) -> dict[str, str]:
        if self.failures:
            raise self.failures.pop(0)
        self.deployed.append(settings)
        changes = {"Fingerprint": settings.fingerprint, "Model": settings.model, "Region": settings.region}
        make_stack(settings.stack_name, changes)
        return {**OUTPUTS, **changes}

    def diff(self, settings: StackSettings) -> str:
        return "There were no differences\n"


@pytest.fixture
def cdk(aws: None, monkeypatch: pytest.MonkeyPatch) -> type[MotoCdk]:
    """The class in use, in an account that was bootstrapped."""
    kind = type("ImageMetadata", (MotoCdk,), {"failures": [], "deployed": [], "bootstrapped": 0})
    monkeypatch.setattr(deploying, "Cdk", kind)
    monkeypatch.setattr(toolchain, "cdk", lambda: Tool(("cdk",), "0", "test"))
    monkeypatch.setattr(toolchain, "container_engine", lambda: Tool(("docker",), "0", "test"))
    monkeypatch.setattr(Account, "concurrency", lambda _: (1000, 1000))  # which moto does not know
    boto3.client("ssm", REGION).put_parameter(Name=accounts.BOOTSTRAP_PARAMETER, Value="33", Type="String")
    return kind


def deploy(folder: Path, *, answer: bool = True, **changes: Any) -> deploying.Outcome:
    """Deploy a model without the smoke test."""
    wishes = DeployOptions(**{"model": str(folder), "smoke": False, **changes})
    return deploying.deploy(wishes, Stages(io.StringIO()), lambda _: answer)


def test_a_deployment_is_saved(cdk: type[MotoCdk], model: Path) -> None:
    """Everything that a later call needs, and the default size."""
    outcome = deploy(model)
    saved = config.load().deployments["lambdiff"]
    assert (outcome.changed, outcome.model, outcome.memory_mb) == (True, "tiny@r1", 10_240)
    assert (saved.url, saved.secret_arn) == (OUTPUTS["LambdaUrl"], OUTPUTS["SecretArn"])
    assert (saved.stack, saved.function_name, saved.timeout_s) == ("lambdiff", "lambdiff-Function", 600)
    assert cdk.deployed[0].reserved_concurrency == DEFAULT_CONCURRENCY


def test_nothing_is_reserved_blindly(cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not read the account's limit gets no reservation by default, is told so, and may still ask for one."""
    monkeypatch.setattr(Account, "concurrency", lambda _: None)
    assert "lambda:GetAccountSettings" in deploy(model).notes[0]
    assert deploy(model).changed is False
    assert deploy(model, reserve=5).notes == []
    assert [settings.reserved_concurrency for settings in cdk.deployed] == [None, 5]


def test_a_second_one_does_nothing(cdk: type[MotoCdk], model: Path) -> None:
    """The CDK is not even started; another setting, or --force, starts it."""
    deploy(model)
    assert deploy(model).changed is False
    assert len(cdk.deployed) == 1
    assert deploy(model, options={"timeout_s": 60}).changed is True
    assert deploy(model, options={"timeout_s": 60}, force=True).changed is True


def test_a_changed_model_is_deployed(cdk: type[MotoCdk], model: Path) -> None:
    """And the build context of the day before is removed."""
    deploy(model)
    (old,) = build_context.contexts().iterdir()
    os.utime(old, (1, 1))
    (model / "unet" / "model.bin").write_bytes(b"better weights")
    write_manifest(model)
    assert deploy(model).changed is True
    assert len(list(build_context.contexts().iterdir())) == 1


def test_a_no_changes_nothing(cdk: type[MotoCdk], model: Path) -> None:
    """Exit code 130, nothing deployed, nothing saved."""
    with pytest.raises(Cancelled):
        deploy(model, answer=False)
    assert not cdk.deployed
    assert not config.path().exists()


def test_bootstrap_is_offered(cdk: type[MotoCdk], model: Path) -> None:
    """With yes it is done once; with no the error has the command for an administrator."""
    boto3.client("ssm", REGION).delete_parameter(Name=accounts.BOOTSTRAP_PARAMETER)
    with pytest.raises(DeployError, match="cdk bootstrap aws://123456789012/us-east-1"):
        deploy(model, answer=False)
    deploy(model)
    assert cdk.bootstrapped == 1


def test_a_failure_saves_nothing(cdk: type[MotoCdk], model: Path) -> None:
    """And the next try succeeds."""
    cdk.failures.append(DeployError("no", fix="try"))
    with pytest.raises(DeployError):
        deploy(model)
    assert not config.path().exists()
    assert deploy(model).changed is True


def test_ctrl_c_is_told_plainly(cdk: type[MotoCdk], model: Path) -> None:
    """Nothing saved here, and what AWS may go on doing."""
    cdk.failures.append(KeyboardInterrupt())
    with pytest.raises(Cancelled, match="goes on by itself"):
        deploy(model)
    assert not config.path().exists()


def test_a_capped_account_gets_what_it_may_have(cdk: type[MotoCdk], model: Path) -> None:
    """The offer is made, taken, noted, and remembered by the next deployment."""
    cdk.failures.append(MemoryCapped("capped", limit=3008))
    outcome = deploy(model)
    assert outcome.memory_mb == 3008
    assert "3,008 MB" in outcome.notes[0]
    assert config.load().deployments["lambdiff"].memory_mb == 3008
    assert deploy(model).changed is False


def test_a_cap_below_what_was_tried_ends_it(cdk: type[MotoCdk], model: Path) -> None:
    """A second refusal at the offered size is not tried for ever."""
    cdk.failures += [MemoryCapped("capped", limit=3008), MemoryCapped("capped again", limit=3008)]
    with pytest.raises(MemoryCapped, match="capped again"):
        deploy(model)


def test_limits_are_checked_before_anything_is_staged(cdk: type[MotoCdk], model: Path) -> None:
    """A bad number costs a second, not minutes."""
    with pytest.raises(ConfigurationError, match="10240"):
        deploy(model, options={"memory_mb": 99_999})
    assert not build_context.contexts().exists()


def test_without_a_container_engine_nothing_begins(
    cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Exit code 7."""

    def missing() -> Tool:
        raise ToolchainError("none", fix="install one")

    monkeypatch.setattr(toolchain, "container_engine", missing)
    with pytest.raises(ToolchainError):
        deploy(model)
    assert not cdk.deployed


def test_a_role_trusts_the_caller_by_default(cdk: type[MotoCdk], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--auth role alone is enough for oneself; a session is trusted as its role."""
    role = "arn:aws:iam::123456789012:role/Designers"
    keys = boto3.client("sts").assume_role(RoleArn=role, RoleSessionName="ann")["Credentials"]
    for name, part in (("ACCESS_KEY_ID", "AccessKeyId"), ("SECRET_ACCESS_KEY", "SecretAccessKey")):
        monkeypatch.setenv(f"AWS_{name}", keys[part])
    deploy(model, options={"auth": "role"})
    assert cdk.deployed[0].principals == (role,)


def test_a_folder_that_is_not_baked_is_refused(cdk: type[MotoCdk], tmp_path: Path) -> None:
    """With the command that bakes it; and an unknown name with those that are known."""
    with pytest.raises(ConfigurationError, match="lambdiff bake"):
        deploy(tmp_path)
    with pytest.raises((ConfigurationError, ModelError), match="tiny-sd"):
        deploy(Path("no-such-model"))


def test_a_dry_run_changes_nothing(cdk: type[MotoCdk], model: Path) -> None:
    """It says what would be made, what it costs, and shows the difference."""
    summary = "tiny@r1 (openvino, 10,240 MB, x86_64, about $0.70 a month when idle) as lambdiff"
    diff = "There were no differences\n"
    arguments = ("deploy", "--dry-run", "--model", str(model))
    assert CliRunner().invoke(cli, arguments).stdout == f"{summary}\n{diff}"
    document = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert document == {"summary": summary, "diff": diff, "notes": []}
    assert not cdk.deployed


def test_the_price_of_snapstart_is_shown_first(cdk: type[MotoCdk], model: Path) -> None:
    """In the question, before anything is made."""
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return False

    with pytest.raises(Cancelled):
        deploying.deploy(DeployOptions(model=str(model), options={"snapstart": True}), Stages(io.StringIO()), ask)
    assert "$40.20 a month when idle, SnapStart at $0.0014 a restore" in asked[-1]

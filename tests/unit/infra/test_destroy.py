"""Deleting a deployment, with moto in place of AWS (infra/destroy.py)."""

from __future__ import annotations

import dataclasses
import io

import boto3
import pytest

from lambdiff import config
from lambdiff.aws import function as functions
from lambdiff.aws import stacks
from lambdiff.aws.account import Account
from lambdiff.aws.deployment import SelectedDeployment, select
from lambdiff.aws.function import Function
from lambdiff.errors import Cancelled, CredentialsError
from lambdiff.infra import destroy
from lambdiff.stages import Stages
from support.aws_resources import OUTPUTS, REGION, refusing, save_deployment

LOGS = OUTPUTS["LogGroup"]
IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/assets:one"


def quiet() -> Stages:
    """Return stages on a stream that nothing reads."""
    return Stages(io.StringIO())


def test_stack_logs_and_saved_deployment_are_deleted(deployed: SelectedDeployment) -> None:
    """The stack and each resource that CloudFormation retains are deleted, after one question for each."""
    questions: list[str] = []

    def confirm(question: str) -> bool:
        questions.append(question)
        return True

    result = destroy.destroy(deployed, quiet(), confirm)
    assert result.removed == ["stack lambdiff", f"log group {LOGS}"]
    assert len(questions) == 2
    assert stacks.read(deployed.account, "lambdiff") is None
    assert boto3.client("logs", REGION).describe_log_groups()["logGroups"] == []
    assert config.load().deployments == {}


def test_the_caller_can_decline(deployed: SelectedDeployment) -> None:
    """Declining to delete the stack keeps everything; declining to delete the logs keeps only the logs."""
    with pytest.raises(Cancelled):
        destroy.destroy(deployed, quiet(), lambda _: False)
    assert config.load().deployments
    result = destroy.destroy(deployed, quiet(), lambda question: "stack" in question)
    assert result.kept == [f"log group {LOGS}"]


def refused(target: SelectedDeployment, operation: str) -> SelectedDeployment:
    """Return the same deployment in an account where AWS refuses an operation."""
    return dataclasses.replace(target, account=refusing(target.account, operation))


def test_the_next_run_continues_after_a_refusal(deployed: SelectedDeployment) -> None:
    """If AWS refuses to delete the logs, the deployment stays saved, and the next run deletes what is left."""
    with pytest.raises(CredentialsError, match=r"could not be deleted.*AWS's reason"):
        destroy.destroy(refused(deployed, "DeleteLogGroup"), quiet(), lambda _: True)
    assert stacks.read(deployed.account, "lambdiff") is None
    assert "lambdiff" in config.load().deployments
    result = destroy.destroy(select(), quiet(), lambda _: True)
    assert result.removed == ["stack lambdiff", f"log group {LOGS}"]
    assert config.load().deployments == {}
    assert not list((config.home() / "destroying").iterdir())


@pytest.mark.parametrize("operation", ["GetFunction", "DescribeLogGroups", "DeleteStack"])
def test_a_missing_permission_is_reported(deployed: SelectedDeployment, operation: str) -> None:
    """If a permission is missing, the error contains AWS's reason, and the deployment stays saved."""
    with pytest.raises(CredentialsError, match="AWS's reason"):
        destroy.destroy(refused(deployed, operation), quiet(), lambda _: True)
    assert "lambdiff" in config.load().deployments


@pytest.fixture
def with_images(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Image URIs by function name, which replace those in moto, where functions have none."""
    images: dict[str, str] = {}

    def find(account: Account, name: str | None) -> Function | None:
        if name not in images:
            return None
        return dataclasses.replace(functions.read(account, OUTPUTS["FunctionName"]), image_uri=images[name])

    monkeypatch.setattr(functions, "find", find)
    return images


def test_an_image_that_another_function_uses_is_kept(deployed: SelectedDeployment, with_images: dict[str, str]) -> None:
    """An image that another deployment of the same model uses is kept."""
    save_deployment(name="other", stack="lambdiff-other", function_name="lambdiff-other-Function")
    with_images |= {OUTPUTS["FunctionName"]: IMAGE, "lambdiff-other-Function": IMAGE}
    result = destroy.destroy(select("lambdiff"), quiet(), lambda _: True)
    assert result.kept == [f"image {IMAGE} (in use by lambdiff-other-Function)"]
    assert result.removed == ["stack lambdiff", f"log group {LOGS}"]


def test_an_unshared_image_is_deleted(deployed: SelectedDeployment, with_images: dict[str, str]) -> None:
    """An image that no other function uses is deleted; here it is already gone, which is not an error."""
    with_images |= {OUTPUTS["FunctionName"]: IMAGE}
    result = destroy.destroy(deployed, quiet(), lambda _: True)
    assert result.removed == ["stack lambdiff", f"image {IMAGE}", f"log group {LOGS}"]

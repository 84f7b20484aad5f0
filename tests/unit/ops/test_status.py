"""The state of a deployment, with moto in place of AWS (ops/status.py)."""

from __future__ import annotations

import boto3
import pytest

from lambdiff.aws.deployment import SelectedDeployment, select
from lambdiff.errors import ConfigurationError
from lambdiff.ops import status
from support.aws_resources import ERROR_LINE, OUTPUTS, REGION, make_stack, refusing, save_deployment
from support.registry_server import RegistryServer


def test_every_value_has_a_source(deployed: SelectedDeployment) -> None:
    """Every value is reported with its source: the stack, the function, the URL or the saved deployment."""
    report = status.status(deployed)
    facts = {name: (fact.value, fact.source) for name, fact in report.facts.items()}
    assert report.healthy
    assert facts["stack"] == ("CREATE_COMPLETE", "CloudFormation")
    assert facts["model"] == ("tiny@r1", "stack lambdiff")
    assert facts["key serial"] == (1, "stack lambdiff")
    assert facts["memory_mb"] == (3008, "Lambda")
    assert facts["timeout_s"] == (600, "Lambda")
    assert facts["concurrency"] == (10, "Lambda")
    assert facts["log group"] == (OUTPUTS["LogGroup"], "Lambda")
    assert facts["region"] == (REGION, "from the URL")
    assert all(source for _, source in facts.values())


@pytest.mark.parametrize("change", ["none", "newer", "unreachable"])
def test_a_newer_base_image_is_reported(deployed: SelectedDeployment, change: str) -> None:
    """The tag's digest is compared with the deployment's; a registry that does not answer is no failure."""
    with RegistryServer() as registry:
        pinned = f"{registry.image}@{registry.push('base image')}"
        make_stack(outputs={"BaseImage": pinned})
        expected = "none"
        if change == "newer":
            expected = f"{registry.push('patched')}; `lambdiff deploy` builds on it"
        elif change == "unreachable":
            registry.faults = ["login"]
            expected = f"unknown: The registry {registry.host} needs a login for lambda/python."
        report = status.status(deployed)
    assert report.healthy
    assert report.facts["base image"].value == pinned
    fact = report.facts["newer base image"]
    assert (fact.value, fact.source) == (expected, registry.host)


def test_a_fixed_base_image_is_not_compared(deployed: SelectedDeployment) -> None:
    """There is no tag to ask a registry for."""
    make_stack(outputs={"BaseImage": f"nowhere.example/python@sha256:{'0' * 64}"})
    assert status.status(deployed).facts["newer base image"].value == "none: the digest is fixed"


def test_the_last_errors_are_shown(deployed: SelectedDeployment) -> None:
    """The report contains the last log lines with the level ERROR."""
    assert [error.split(" ", 1)[1] for error in status.status(deployed).errors] == [ERROR_LINE]


def test_an_unreadable_log_is_reported(deployed: SelectedDeployment) -> None:
    """If the log cannot be read, the report says why and is otherwise complete."""
    target = SelectedDeployment(deployed.deployment, refusing(deployed.account, "FilterLogEvents"))
    (error,) = status.status(target).errors
    assert error.startswith("The log cannot be read: ")
    assert "AWS's reason" in error


def test_a_disabled_endpoint_is_not_healthy(deployed: SelectedDeployment) -> None:
    """A deployment with a reserved concurrency of 0, which disables it, is not healthy."""
    client = boto3.client("lambda", REGION)
    client.put_function_concurrency(FunctionName=OUTPUTS["FunctionName"], ReservedConcurrentExecutions=0)
    assert not status.status(deployed).healthy


def test_a_deleted_stack_is_reported(deployed: SelectedDeployment) -> None:
    """If the stack was deleted, the error says that it does not exist."""
    boto3.client("cloudformation", REGION).delete_stack(StackName="lambdiff")
    with pytest.raises(ConfigurationError, match="There is no stack lambdiff"):
        status.status(deployed)


def test_a_url_alone_cannot_be_inspected(aws: None) -> None:
    """The status of a deployment of which only the URL is saved is an error."""
    save_deployment(stack=None, function_name=None, secret_arn=None, auth="caller")
    with pytest.raises(ConfigurationError, match="Only the URL"):
        status.status(select())

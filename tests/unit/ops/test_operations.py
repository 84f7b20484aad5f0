"""status, logs, rotate and destroy, with moto for AWS."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from lambdiff import config
from lambdiff.aws import logs, stacks
from lambdiff.aws.account import Account
from lambdiff.aws.deployment import SelectedDeployment, select
from lambdiff.errors import Cancelled, ConfigurationError, CredentialsError, InvalidRequest
from lambdiff.infra import destroy
from lambdiff.ops import rotate, status
from lambdiff.stages import Stages
from support.made_stack import OUTPUTS, REGION, make_function, make_logs, make_stack, save_deployment

LOGS = OUTPUTS["LogGroup"]  # moto does not keep a function's LoggingConfig
ERROR = json.dumps({"level": "ERROR", "request_id": "r-2", "status": 500}, separators=(",", ":"))


@pytest.fixture
def deployed(aws: None) -> SelectedDeployment:
    """A deployment with stack, function and log."""
    make_stack()
    make_function(reserved=10)
    make_logs('{"level":"INFO","request_id":"r-1","status":200}', ERROR, "REPORT RequestId: r-2\tDuration: 1 ms")
    save_deployment()
    return select()


def quiet() -> Stages:
    """A report that nobody reads."""
    return Stages(io.StringIO())


def test_nothing_deployed_names_both_commands(aws: None) -> None:
    """deploy and configure; exit code 3."""
    with pytest.raises(ConfigurationError, match=r"lambdiff deploy.*lambdiff configure"):
        select()


def test_status_has_a_source_for_every_value(deployed: SelectedDeployment) -> None:
    """Stack, function, file: each says what it knows."""
    report = status.status(deployed)
    facts = {name: (fact.value, fact.source) for name, fact in report.facts.items()}
    assert report.healthy
    assert facts["stack"] == ("CREATE_COMPLETE", "CloudFormation")
    assert facts["model"] == ("tiny@r1", "stack lambdiff")
    assert facts["key serial"] == (1, "stack lambdiff")
    assert facts["memory_mb"] == (3008, "Lambda")
    assert facts["timeout_s"] == (600, "Lambda")
    assert facts["concurrency"] == (10, "Lambda")
    assert facts["log group"] == (LOGS, "Lambda")
    assert all(source for _, source in facts.values())


def test_status_shows_the_last_errors(deployed: SelectedDeployment) -> None:
    """Lines of the level ERROR, newest last, and no others."""
    assert [error.split(" ", 1)[1] for error in status.status(deployed).errors] == [ERROR]


def test_a_switched_off_endpoint_is_not_healthy(deployed: SelectedDeployment) -> None:
    """A reserved concurrency of 0."""
    client = boto3.client("lambda", REGION)
    client.put_function_concurrency(FunctionName=OUTPUTS["FunctionName"], ReservedConcurrentExecutions=0)
    assert not status.status(deployed).healthy


def test_status_of_a_deleted_stack(deployed: SelectedDeployment) -> None:
    """It says so, and how to get it back."""
    boto3.client("cloudformation", REGION).delete_stack(StackName="lambdiff")
    with pytest.raises(ConfigurationError, match="There is no stack lambdiff"):
        status.status(deployed)


def test_a_url_alone_has_no_stack(aws: None) -> None:
    """What `configure --url` saved can be used, but not inspected."""
    save_deployment(stack=None, function_name=None, secret_arn=None, auth="caller")
    with pytest.raises(ConfigurationError, match="only the URL is known"):
        status.status(select())


def test_logs_are_read_in_order(deployed: SelectedDeployment) -> None:
    """All lines since a moment, or one request's."""
    group = logs.group_of(deployed)
    lines = list(logs.read(deployed.account, group, since=time.time() - 60))
    assert group == LOGS
    assert [line.text for line in lines][1] == ERROR
    assert lines[0].time.endswith("+00:00")
    assert lines == sorted(lines, key=lambda line: line.time)
    chosen = list(logs.read(deployed.account, group, since=0, request_id="r-1"))
    assert len(chosen) == 1
    assert "r-1" in chosen[0].text
    assert not list(logs.read(deployed.account, group, since=time.time() + 60))


def test_following_shows_each_line_once(deployed: SelectedDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old lines first, then those that come, none twice."""
    client = boto3.client("logs", REGION)

    def write(_: float) -> None:
        now = int(time.time() * 1000)
        event = {"timestamp": now, "message": "news"}
        client.put_log_events(logGroupName=LOGS, logStreamName="one", logEvents=[event])

    monkeypatch.setattr(time, "sleep", write)
    lines = logs.follow(deployed.account, LOGS, since=0)
    assert [next(lines).text for _ in range(5)][3:] == ["news", "news"]


def test_a_log_that_has_not_begun(deployed: SelectedDeployment) -> None:
    """No traceback: it begins with the first request."""
    with pytest.raises(ConfigurationError, match="begins with the first request"):
        list(logs.read(deployed.account, "none", since=0))


@pytest.mark.parametrize(
    ("text", "moment"),
    [("10m", 400.0), ("2 h", -6200.0), ("1d", -85_400.0), ("1970-01-01T00:10", 600.0), ("1970-01-01T01:00+01:00", 0.0)],
)
def test_times_are_ages_or_dates(text: str, moment: float) -> None:
    """Ages count back from now; dates are UTC unless they say otherwise."""
    assert logs.parse_time(text, now=1000.0) == moment


@pytest.mark.parametrize("text", ["yesterday", "9" * 5000 + "s"], ids=["word", "long"])
def test_nonsense_is_no_time(text: str) -> None:
    """With an example of what is."""
    with pytest.raises(InvalidRequest, match="10m"):
        logs.parse_time(text)


def test_rotation_raises_the_serial(deployed: SelectedDeployment) -> None:
    """By one each time, by one parameter of the stack; the template stays."""
    assert rotate.rotate(deployed, quiet()).serial == 2
    assert rotate.rotate(deployed, quiet()).serial == 3
    state = stacks.read(deployed.account, "lambdiff")
    assert state is not None
    assert state.parameters == {"KeySerial": "3"}
    assert state.outputs["Fingerprint"] == OUTPUTS["Fingerprint"]


def test_a_role_has_no_key_to_rotate(aws: None) -> None:
    """It says why there is nothing to do."""
    make_stack(serial=None)
    save_deployment(auth="role", secret_arn=None)
    with pytest.raises(ConfigurationError, match="its callers assume a role"):
        rotate.rotate(select(), quiet())


def test_destroy_removes_stack_logs_and_memory_of_it(deployed: SelectedDeployment) -> None:
    """What CloudFormation leaves is deleted as well, after asking for each."""
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return True

    done = destroy.destroy(deployed, quiet(), ask)
    assert done.removed == ["stack lambdiff", f"log group {LOGS}"]
    assert len(asked) == 2
    assert stacks.read(deployed.account, "lambdiff") is None
    assert boto3.client("logs", REGION).describe_log_groups()["logGroups"] == []
    assert config.load().deployments == {}


def test_destroy_can_be_declined(deployed: SelectedDeployment) -> None:
    """No to the stack is no to everything; no to the logs keeps them."""
    with pytest.raises(Cancelled):
        destroy.destroy(deployed, quiet(), lambda _: False)
    assert config.load().deployments
    done = destroy.destroy(deployed, quiet(), lambda question: "stack" in question)
    assert done.kept == [f"log group {LOGS}"]


def test_the_image_is_deleted_with_all_its_tags(account: Any) -> None:
    """Deleting by one of two tags would leave the image, which costs money."""
    ecr = boto3.client("ecr", REGION)
    ecr.create_repository(repositoryName="assets")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    layers = {"schemaVersion": 2, "mediaType": kind, "config": {"digest": "sha256:" + "1" * 64}, "layers": []}
    for tag in ("one", "two"):
        ecr.put_image(repositoryName="assets", imageManifest=json.dumps(layers), imageTag=tag)
    destroy._delete_image(account, f"123456789012.dkr.ecr.{REGION}.amazonaws.com/assets:one")
    assert ecr.describe_images(repositoryName="assets")["imageDetails"] == []


IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/assets:one"


class Refusing(Account):
    """An account in which one operation is answered with an error."""

    operation = ""
    error = "AccessDeniedException"

    def client(self, service: str) -> Any:
        client = super().client(service)

        def refuse(**_: Any) -> None:
            raise ClientError({"Error": {"Code": self.error, "Message": "its words"}}, self.operation)

        client.meta.events.register(f"before-call.*.{self.operation}", refuse)
        return client


def refusing(known: SelectedDeployment, operation: str, error: str = "AccessDeniedException") -> SelectedDeployment:
    """The same deployment, in an account that refuses an operation."""
    kind = type("RefusingOne", (Refusing,), {"operation": operation, "error": error})
    account = known.account
    return SelectedDeployment(known.deployment, kind(account.session, account.id, account.arn, account.region))


def test_destroy_is_resumed_after_a_refusal(deployed: SelectedDeployment) -> None:
    """The logs may not be deleted: the deployment stays known though its stack is gone, and the next try ends it."""
    with pytest.raises(CredentialsError, match=r"cannot be deleted.*its words"):
        destroy.destroy(refusing(deployed, "DeleteLogGroup"), quiet(), lambda _: True)
    assert stacks.read(deployed.account, "lambdiff") is None
    assert "lambdiff" in config.load().deployments
    done = destroy.destroy(select(), quiet(), lambda _: True)
    assert done.removed == ["stack lambdiff", f"log group {LOGS}"]
    assert config.load().deployments == {}
    assert not list((config.home() / "destroying").iterdir())


@pytest.mark.parametrize("operation", ["GetFunction", "DescribeLogGroups", "DeleteStack"])
def test_destroy_without_a_permission(deployed: SelectedDeployment, operation: str) -> None:
    """AWS's words and exit code 3, no traceback; nothing is forgotten."""
    with pytest.raises(CredentialsError, match="its words"):
        destroy.destroy(refusing(deployed, operation), quiet(), lambda _: True)
    assert "lambdiff" in config.load().deployments


def test_what_is_gone_already_is_no_error(deployed: SelectedDeployment) -> None:
    """An image or log group that somebody else deleted a moment ago."""
    destroy._delete_image(refusing(deployed, "DescribeImages", "ImageNotFoundException").account, IMAGE)
    destroy._delete_logs(deployed.account, "none")


def test_an_image_that_another_function_uses_is_kept(
    deployed: SelectedDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two deployments of one model share an image."""
    save_deployment(name="other", stack="lambdiff-other", function_name="lambdiff-other-Function")
    images = {OUTPUTS["FunctionName"]: IMAGE, "lambdiff-other-Function": IMAGE}  # moto's functions here have none
    monkeypatch.setattr(destroy, "_image", lambda _, function: images.get(function, ""))
    done = destroy.destroy(select("lambdiff"), quiet(), lambda _: True)
    assert done.kept == [f"image {IMAGE} (in use by lambdiff-other-Function)"]
    assert done.removed == ["stack lambdiff", f"log group {LOGS}"]

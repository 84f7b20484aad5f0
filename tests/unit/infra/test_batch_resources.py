"""What `--batch` adds to the stack (infra/batch_resources.py)."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from aws_cdk.assertions import Template

from lambdiff.aws import outputs
from lambdiff.aws.stacks import StackState
from lambdiff.errors import InvalidRequest
from lambdiff.handler import batch
from lambdiff.infra import batch_resources
from lambdiff.infra.cdk_app import build
from lambdiff.infra.existing_stack import ExistingStack
from lambdiff.infra.preflight import with_implied
from lambdiff.infra.settings import StackSettings

pytestmark = pytest.mark.slow


def settings_for(context: Path, **changes: Any) -> StackSettings:
    """Return checked settings with `batch`."""
    values = {"account": "123456789012", "region": "us-east-1", "context": str(context), "batch": True, **changes}
    return StackSettings(**values).check()


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Dockerfile."""
    folder = tmp_path_factory.mktemp("context")
    (folder / "Dockerfile").write_text("FROM scratch\n")
    return folder


@pytest.fixture(scope="module")
def resources(context: Path) -> dict[str, dict[str, Any]]:
    """The resources of a stack with `batch`, by logical id."""
    return template(context)["Resources"]


def template(context: Path, **changes: Any) -> dict[str, Any]:
    """Return the template for some settings."""
    settings = settings_for(context, **changes)
    app = build(settings, tempfile.mkdtemp())
    return dict(Template.from_stack(app.node.find_child(settings.stack_name)).to_json())


def properties(resources: dict[str, dict[str, Any]], name: str, kind: str) -> dict[str, Any]:
    """Return the properties of the resource of a type whose logical id begins with a name."""
    (found,) = (each for key, each in resources.items() if key.startswith(name) and each["Type"] == f"AWS::{kind}")
    return dict(found.get("Properties", {}))


def allowed(resources: dict[str, dict[str, Any]], policy: str) -> dict[str, Any]:
    """Return the resources that a policy allows, by action."""
    statements = properties(resources, policy, "IAM::Policy")["PolicyDocument"]["Statement"]
    found: dict[str, list[Any]] = {}
    for statement in statements:
        assert statement["Effect"] == "Allow"
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        for action in actions:
            found.setdefault(action, []).append(json.dumps(statement["Resource"]))
    return found


def test_the_function_runs_the_same_image_with_another_command(resources: dict[str, Any]) -> None:
    """It has its own command, log and timeout, the endpoint's memory by default, and no reserved concurrency."""
    function = properties(resources, "BatchFunction", "Lambda::Function")
    endpoint = properties(resources, "Function", "Lambda::Function")
    assert function["Code"] == endpoint["Code"]
    assert function["ImageConfig"] == {"Command": [batch_resources.HANDLER]}
    module, _, name = batch_resources.HANDLER.rpartition(".")
    assert module == batch.__name__
    assert callable(getattr(batch, name))
    assert (function["MemorySize"], function["Timeout"]) == (endpoint["MemorySize"], 300)
    assert "ReservedConcurrentExecutions" not in function
    assert function["LoggingConfig"] != endpoint["LoggingConfig"]


def test_the_bucket_is_private_encrypted_and_kept(resources: dict[str, Any]) -> None:
    """Claims and runs expire, images do not; it refuses plain HTTP, and outlives a complete stack."""
    bucket = properties(resources, "BatchBucket", "S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert "ServerSideEncryptionConfiguration" in json.dumps(bucket["BucketEncryption"])
    expiring = {rule.get("Prefix"): rule.get("ExpirationInDays") for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert expiring == {"claims/": 1, "runs/": 30, None: None}
    policy = properties(resources, "BatchBucketPolicy", "S3::BucketPolicy")["PolicyDocument"]["Statement"]
    assert [(each["Effect"], each["Condition"]) for each in policy] == [
        ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    ]
    (whole,) = (each for key, each in resources.items() if each["Type"] == "AWS::S3::Bucket")
    assert (whole["DeletionPolicy"], whole["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


def test_each_role_may_do_only_what_it_does(resources: dict[str, Any]) -> None:
    """The function reaches images, claims and records; the state machine the function, its items and its children."""
    function = allowed(resources, "BatchFunctionRoleDefaultPolicy")
    assert set(function) == {
        "logs:CreateLogStream", "logs:PutLogEvents", "s3:GetObject", "s3:PutObject", "s3:ListBucket",
    }  # fmt: skip
    assert [name.count("/*") + name.count("*") for name in function["s3:ListBucket"]] == [0]
    assert sorted(name.split('"')[-2] for name in function["s3:GetObject"]) == ["/claims/*", "/images/*"]
    assert sorted(name.split('"')[-2] for name in function["s3:PutObject"]) == ["/claims/*", "/images/*", "/runs/*"]
    machine = allowed(resources, "BatchMachineRoleDefaultPolicy") | allowed(resources, "BatchChildren")
    assert set(machine) == {
        "lambda:InvokeFunction", "s3:GetObject", "states:StartExecution", "states:DescribeExecution",
        "states:StopExecution",
    }  # fmt: skip
    assert "BatchFunction" in machine["lambda:InvokeFunction"][0]
    assert machine["states:StopExecution"][0].endswith('"/Images:*"]]}')
    trust = properties(resources, "BatchMachineRole", "IAM::Role")["AssumeRolePolicyDocument"]["Statement"][0]
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_only_what_was_not_started_or_failed_in_lambda_is_retried() -> None:
    """No timeout and no unknown error is: the call may have been billed, or may still be running."""
    states = batch_resources.definition()["States"]
    (image,) = states["Images"]["ItemProcessor"]["States"].values()
    retried = {name: retry["MaxAttempts"] for retry in image["Retry"] for name in retry["ErrorEquals"]}
    assert retried == {
        "Lambda.TooManyRequestsException": 60, "Lambda.ServiceException": 1, "Lambda.AWSLambdaException": 1,
    }  # fmt: skip
    assert "Catch" not in image


def test_results_are_dropped(resources: dict[str, Any]) -> None:
    """The nulls that drop them are in the template: a Map Run whose results exceed 256 KiB fails."""
    machine = properties(resources, "BatchMachine", "StepFunctions::StateMachine")
    states = json.loads(machine["DefinitionString"])["States"]
    assert states["Images"]["ResultPath"] is None
    assert states["Images"]["ItemProcessor"]["States"]["Image"]["OutputPath"] is None
    assert set(machine["DefinitionSubstitutions"]) == {"Bucket", "Function", "Partition"}
    assert machine.get("StateMachineType", "STANDARD") == "STANDARD"


def test_a_stack_without_batch_has_none_of_it(context: Path) -> None:
    """By default there is no bucket, no state machine and no second function."""
    plain = template(context, batch=False)
    assert not [name for name in plain["Resources"] if name.startswith("Batch")]
    assert outputs.BATCH_BUCKET not in plain["Outputs"]


def test_batch_is_kept_as_deployed(context: Path) -> None:
    """A deployment that leaves the options out keeps batch, its memory and its timeout; --no-batch drops all three."""
    deployed = template(context, batch_memory_mb=3008, batch_timeout_s=60)
    state = StackState("lambdiff", "CREATE_COMPLETE", outputs={outputs.BATCH_BUCKET: "the-bucket"})
    existing = ExistingStack.of(state, deployed)
    kept = existing.kept_settings({})
    assert {name: value for name, value in kept.items() if "batch" in name} == {
        "batch": True, "batch_memory_mb": 3008, "batch_timeout_s": 60,
    }  # fmt: skip
    assert not [name for name in existing.kept_settings({"batch": False}) if "batch" in name]
    (loss,) = existing.replacements(settings_for(context, batch=False))
    assert "the-bucket is kept with its images" in loss
    assert list(existing.replacements(settings_for(context))) == []
    same = ExistingStack.of(state, template(context)).kept_settings({})
    assert "batch_memory_mb" not in same


def test_options_of_batch_imply_it(context: Path) -> None:
    """With --no-batch they are refused."""
    assert with_implied({"batch_timeout_s": 60}) == {"batch": True, "batch_timeout_s": 60}
    with pytest.raises(InvalidRequest) as caught:
        settings_for(context, batch=False, batch_timeout_s=60, batch_memory_mb=3008)
    assert {name for name, _ in caught.value.problems} == {"batch_timeout_s", "batch_memory_mb"}


def test_a_memory_limit_applies_to_both_functions(context: Path) -> None:
    """In an account whose functions are capped, the batch function is as well."""
    capped = settings_for(context, memory_mb=2048, batch_memory_mb=10_240).with_memory_limit(3008)
    assert (capped.memory_mb, capped.batch_memory_mb) == (2048, 3008)
    assert settings_for(context).with_memory_limit(3008).batch_memory_mb is None


def test_other_partitions_name_the_endpoint_of_s3(context: Path) -> None:
    """The function's S3 client only knows amazonaws.com."""
    china = properties(template(context, region="cn-north-1")["Resources"], "BatchFunction", "Lambda::Function")
    assert "s3.cn-north-1." in json.dumps(china["Environment"]["Variables"]["AWS_ENDPOINT_URL_S3"])
    assert list(
        properties(template(context)["Resources"], "BatchFunction", "Lambda::Function")["Environment"]["Variables"]
    ) == ["LAMBDIFF_BATCH_BUCKET"]

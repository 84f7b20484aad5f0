"""Creates the resources of a deployment, in moto and on this machine."""

from __future__ import annotations

import contextlib
import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from lambdiff import config
from lambdiff.aws import outputs as names
from lambdiff.aws.account import Account
from lambdiff.config import Deployment
from lambdiff.engine import manifest as manifests
from lambdiff.protocol.contract import Defaults

REGION = "us-east-1"
BOOTSTRAP_PARAMETER = "/cdk-bootstrap/hnb659fds/version"
REPOSITORY = f"cdk-hnb659fds-container-assets-123456789012-{REGION}"
OUTPUTS = {
    names.URL: f"https://abc.lambda-url.{REGION}.on.aws/",
    names.FUNCTION_NAME: "lambdiff-Function",
    names.SECRET_ARN: f"arn:aws:secretsmanager:{REGION}:123456789012:secret:lambdiff",
    names.LOG_GROUP: "/aws/lambda/lambdiff-Function",
    names.MODEL: "tiny@r1",
    names.ENGINE: "openvino",
    names.AUTH: "key-pair",
    names.FINGERPRINT: "0123456789abcdef",
}

ERROR_LINE = json.dumps({"level": "ERROR", "request_id": "r-2", "status": 500}, separators=(",", ":"))
"""A line that the handler logs after a failed request."""


def write_manifest(folder: Path) -> None:
    """Write a manifest of the files that the folder contains."""
    manifest = manifests.Manifest(
        format=manifests.FORMAT,
        name="tiny",
        revision="r1",
        license="MIT",
        engine="openvino",
        precision="f32",
        defaults=Defaults(num_inference_steps=2, guidance_scale=1.0, width=64, height=64, scheduler="euler"),
        files=manifests.describe_files(folder),
    )
    (folder / manifests.FILENAME).write_bytes(manifest.to_json())


def make_stack(
    name: str = "lambdiff",
    outputs: dict[str, str] | None = None,
    serial: int | None = 1,
    *,
    properties: dict[str, dict[str, Any]] | None = None,
    tags: dict[str, str] | None = None,
    qualifier: str = "",
) -> None:
    """Create a stack with the outputs of a deployment and one harmless resource, instead of any stack of this name.

    Args:
        name: the name of the stack.
        outputs: values that differ from `OUTPUTS`.
        serial: the number of the access key; None for a stack without one.
        properties: by logical id and type, as in `Function:AWS::Lambda::Function`, for resources that the template has
            and that are not created.
        tags: by default those of a deployment.
        qualifier: of a custom CDK bootstrap, which the template names in a parameter.
    """
    template: dict[str, Any] = {
        "Parameters": {},
        "Conditions": {"Never": {"Fn::Equals": ["created", "not created"]}},
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {key: {"Value": value} for key, value in {**OUTPUTS, **(outputs or {})}.items()},
    }
    for key, values in (properties or {"Function:AWS::Lambda::Function": {"MemorySize": 3008}}).items():
        logical_id, _, kind = key.partition(":")
        template["Resources"][logical_id] = {"Type": kind, "Condition": "Never", "Properties": values}
    if serial is not None:
        template["Parameters"][names.KEY_SERIAL] = {"Type": "Number", "Default": serial}
    if qualifier:
        default = f"/cdk-bootstrap/{qualifier}/version"
        template["Parameters"]["BootstrapVersion"] = {"Type": "String", "Default": default}
    client = boto3.client("cloudformation", REGION)
    tags = {names.DEPLOYMENT_TAG: name} if tags is None else tags
    request: dict[str, Any] = {
        "StackName": name,
        "TemplateBody": json.dumps(template),
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }
    client.delete_stack(StackName=name)
    client.create_stack(**request)


def stack_states(monkeypatch: pytest.MonkeyPatch, *states: str | dict[str, Any], name: str = "lambdiff") -> None:
    """Let CloudFormation report states that moto never enters.

    Args:
        monkeypatch: undoes it.
        states: one for each reply, the last one for all further replies: a status, or fields of the reply. An empty
            status stands for moto's own reply.
        name: the stack that they are about.
    """
    left = list(states)
    original = Account.client

    def change(parsed: dict[str, Any], **_: Any) -> None:
        for stack in parsed.get("Stacks", []):
            if stack["StackName"] == name:
                state = left.pop(0) if len(left) > 1 else left[0]
                stack.update({"StackStatus": state} if isinstance(state, str) and state else state or {})

    def client(self: Account, service: Any) -> Any:
        opened = original(self, service)
        opened.meta.events.register("after-call.cloudformation.DescribeStacks", change)
        return opened

    monkeypatch.setattr(Account, "client", client)


def make_function(name: str = "lambdiff-Function", *, reserved: int | None = None, image: str | None = None) -> str:
    """Create a function from an archive, or from an image in ECR, and return its ARN."""
    trust = '{"Version":"2012-10-17","Statement":[]}'
    role = boto3.client("iam").create_role(RoleName=f"role-of-{name}", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    client = boto3.client("lambda", REGION)
    code: dict[str, Any] = {"Code": {"ImageUri": image}, "PackageType": "Image"}
    if image is None:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("handler.py", "def handle(event, context): ...")
        code = {"Code": {"ZipFile": archive.getvalue()}, "Runtime": "python3.12", "Handler": "handler.handle"}
    function = client.create_function(
        FunctionName=name, Role=role, Timeout=600, MemorySize=3008,
        LoggingConfig={"LogGroup": "/aws/lambda/lambdiff-Function"}, **code,
    )  # fmt: skip
    if reserved is not None:
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)
    return str(function["FunctionArn"])


def push_image(*tags: str, content: str = "0", repository: str = REPOSITORY) -> str:
    """Publish an image with some tags, and return its address with the first one; `content` is a hexadecimal digit."""
    client = boto3.client("ecr", REGION)
    with contextlib.suppress(client.exceptions.RepositoryAlreadyExistsException):
        client.create_repository(repositoryName=repository)
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    layer = {"digest": f"sha256:{content * 64}", "size": 100_000_000, "mediaType": kind}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": layer, "layers": [layer]})
    for tag in tags:
        client.put_image(repositoryName=repository, imageManifest=manifest, imageTag=tag)
    return image_address(tags[0], repository)


def image_address(tag: str, repository: str = REPOSITORY) -> str:
    """Return the address of an image with a tag."""
    return f"123456789012.dkr.ecr.{REGION}.amazonaws.com/{repository}:{tag}"


def image_tags(repository: str = REPOSITORY) -> set[str]:
    """Return the tags of all images in a repository."""
    images = boto3.client("ecr", REGION).describe_images(repositoryName=repository)["imageDetails"]
    return {tag for image in images for tag in image["imageTags"]}


def make_logs(*lines: str, group: str = OUTPUTS["LogGroup"]) -> None:
    """Create a log group with lines from the last second."""
    client = boto3.client("logs", REGION)
    client.create_log_group(logGroupName=group)
    client.create_log_stream(logGroupName=group, logStreamName="one")
    now = int(time.time() * 1000)
    events = [{"timestamp": now - 1000 + i, "message": line} for i, line in enumerate(lines)]
    if events:
        client.put_log_events(logGroupName=group, logStreamName="one", logEvents=events)


def save_deployment(**changes: Any) -> Deployment:
    """Save a deployment that `make_stack` and `make_function` created."""
    values: dict[str, Any] = {
        "name": "lambdiff",
        "url": OUTPUTS["LambdaUrl"],
        "region": REGION,
        "auth": "key-pair",
        "secret_arn": OUTPUTS["SecretArn"],
        "stack": "lambdiff",
        "function_name": OUTPUTS["FunctionName"],
        "memory_mb": 3008,
    }
    deployment = Deployment(**{**values, **changes})
    config.save(deployment)
    return deployment


class RefusingAccount(Account):
    """An account for which AWS answers `operation` with the error `code`."""

    operation = ""
    code = ""

    def client(self, service: str) -> Any:
        client = super().client(service)

        def refuse(**_: Any) -> None:
            raise ClientError(
                {
                    "Error": {"Code": self.code, "Message": "AWS's reason"},
                    "ResponseMetadata": {"HTTPStatusCode": 400},
                },
                self.operation,
            )

        client.meta.events.register(f"before-call.*.{self.operation}", refuse)
        return client


def refusing(account: Account, operation: str, code: str = "AccessDeniedException") -> Account:
    """Return the same account, for which AWS refuses an operation."""
    kind = type("Refusing", (RefusingAccount,), {"operation": operation, "code": code})
    return kind(account.session, account.id, account.arn, account.region)


def report_line(request_id: str, billed_ms: int, extra: str = "") -> str:
    """Return the line that Lambda logs after a request to a function with 10,240 MB."""
    return (
        f"REPORT RequestId: {request_id}\tDuration: {billed_ms - 0.5} ms\tBilled Duration: {billed_ms} ms\t"
        f"Memory Size: 10240 MB\tMax Memory Used: 900 MB\t{extra}"
    )


def generated_line(request_id: str, **timings: float) -> str:
    """Return the line that the handler logs after an image."""
    return json.dumps(
        {"level": "INFO", "request_id": request_id, "status": 200, "timings": {"denoise": 1.0, **timings}}
    )

"""Creates the resources of a deployment, in moto and on this machine."""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from lambdiff import config
from lambdiff.aws import outputs as names
from lambdiff.aws.account import Account
from lambdiff.config import Deployment
from lambdiff.engine import manifest as manifests
from lambdiff.protocol.contract import Defaults

REGION = "us-east-1"
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


def make_stack(name: str = "lambdiff", outputs: dict[str, str] | None = None, serial: int | None = 1) -> None:
    """Create or update a stack with the outputs of a deployment and one harmless resource."""
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {key: {"Value": value} for key, value in {**OUTPUTS, **(outputs or {})}.items()},
    }
    if serial is not None:
        template["Parameters"] = {names.KEY_SERIAL: {"Type": "Number", "Default": serial}}
    client = boto3.client("cloudformation", REGION)
    text = json.dumps(template)
    try:
        client.update_stack(StackName=name, TemplateBody=text)
    except client.exceptions.ClientError:
        client.create_stack(StackName=name, TemplateBody=text)


def make_function(name: str = "lambdiff-Function", *, reserved: int | None = None) -> str:
    """Create a function and return its ARN."""
    trust = '{"Version":"2012-10-17","Statement":[]}'
    role = boto3.client("iam").create_role(RoleName="function", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    client = boto3.client("lambda", REGION)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("handler.py", "def handle(event, context): ...")
    function = client.create_function(
        FunctionName=name, Role=role, Runtime="python3.12", Handler="handler.handle", Timeout=600, MemorySize=3008,
        Code={"ZipFile": archive.getvalue()}, LoggingConfig={"LogGroup": "/aws/lambda/lambdiff-Function"},
    )  # fmt: skip
    if reserved is not None:
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)
    return str(function["FunctionArn"])


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

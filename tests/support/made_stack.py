"""Things that tests of the cloud side make: what a deployment leaves behind, in moto and on this machine."""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import boto3

from lambdiff import config
from lambdiff.config import Deployment
from lambdiff.engine import manifest as manifests
from lambdiff.protocol.contract import Defaults

REGION = "us-east-1"
OUTPUTS = {
    "LambdaUrl": f"https://abc.lambda-url.{REGION}.on.aws/",
    "FunctionName": "lambdiff-Function",
    "SecretArn": f"arn:aws:secretsmanager:{REGION}:123456789012:secret:lambdiff",
    "LogGroup": "/aws/lambda/lambdiff-Function",
    "Model": "tiny@r1",
    "Engine": "openvino",
    "Auth": "key-pair",
    "Fingerprint": "0123456789abcdef",
}


def write_manifest(folder: Path) -> None:
    """Describe what the folder holds now."""
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
    """A stack as `deploy` leaves it, with one harmless resource."""
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {key: {"Value": value} for key, value in {**OUTPUTS, **(outputs or {})}.items()},
    }
    if serial is not None:
        template["Parameters"] = {"KeySerial": {"Type": "Number", "Default": serial}}
    client = boto3.client("cloudformation", REGION)
    text = json.dumps(template)
    try:
        client.update_stack(StackName=name, TemplateBody=text)
    except client.exceptions.ClientError:
        client.create_stack(StackName=name, TemplateBody=text)


def make_function(name: str = "lambdiff-Function", *, reserved: int | None = None) -> str:
    """A function; gives its ARN."""
    trust = '{"Version":"2012-10-17","Statement":[]}'
    role = boto3.client("iam").create_role(RoleName="function", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    client = boto3.client("lambda", REGION)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("handler.py", "def handle(event, context): ...")
    made = client.create_function(
        FunctionName=name, Role=role, Runtime="python3.12", Handler="handler.handle", Timeout=600, MemorySize=3008,
        Code={"ZipFile": archive.getvalue()}, LoggingConfig={"LogGroup": "/aws/lambda/lambdiff-Function"},
    )  # fmt: skip
    if reserved is not None:
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)
    return str(made["FunctionArn"])


def make_logs(*lines: str, group: str = OUTPUTS["LogGroup"]) -> None:
    """A log group with lines of just now."""
    client = boto3.client("logs", REGION)
    client.create_log_group(logGroupName=group)
    client.create_log_stream(logGroupName=group, logStreamName="one")
    now = int(time.time() * 1000)
    events = [{"timestamp": now - 1000 + i, "message": line} for i, line in enumerate(lines)]
    if events:
        client.put_log_events(logGroupName=group, logStreamName="one", logEvents=events)


def save_deployment(**changes: Any) -> Deployment:
    """A deployment on this machine that belongs to `make_stack` and `make_function`."""
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

"""Fixtures for tests that need AWS, the CDK, a simulated deployment or a model folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lambdiff.aws.account import Account, open_account
from lambdiff.aws.deployment import SelectedDeployment, select
from lambdiff.client.client import Client
from lambdiff.infra import toolchain
from support.aws_resources import (
    ERROR_LINE,
    REGION,
    make_function,
    make_logs,
    make_stack,
    save_deployment,
    write_manifest,
)
from support.sweep_cloud import Cloud, Environment

# aws_cdk starts Node when it is imported, and supports only some versions: use that of the wheel.
os.environ["JSII_NODE"] = toolchain.node().command[0]


@pytest.fixture(scope="session")
def image_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minimal build context."""
    folder = tmp_path_factory.mktemp("context")
    (folder / "Dockerfile").write_text("FROM scratch\n")
    return folder


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """moto instead of AWS, with moto's keys FOOBARKEY and FOOBARSECRET."""
    from moto import mock_aws

    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("MOTO_LAMBDA_STUB_ECR", "FALSE")  # so that a function's hash is the digest of its image
    with mock_aws():
        yield


@pytest.fixture
def account(aws: None) -> Account:
    """The account that moto simulates."""
    return open_account()


@pytest.fixture
def deployed(aws: None) -> SelectedDeployment:
    """A deployment with stack, function and log; the second line of the log is `ERROR_LINE`."""
    make_stack()
    make_function(reserved=10)
    make_logs('{"level":"INFO","request_id":"r-1","status":200}', ERROR_LINE, "REPORT RequestId: r-2\tDuration: 1 ms")
    save_deployment()
    return select()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with one weights file and one file that the manifest does not list."""
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "model.bin").write_bytes(b"weights")
    write_manifest(folder)
    (folder / "notes.txt").write_text("mine")
    return folder


@pytest.fixture
def default_signal_handlers() -> Iterator[None]:
    """Handle signals as the command line does, even if the tests were started with some ignored, as by nohup."""
    usual = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.default_int_handler)
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def cloud(aws: None, default_signal_handlers: None, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A deployment with 3,008 MB whose endpoint is this process."""
    make_stack()
    make_function()
    make_logs()
    save_deployment(memory_mb=3008, architecture="x86_64")
    cloud = Cloud()
    original = Account.client

    def client(self: Account, service: str) -> Any:
        client = original(self, service)
        client.meta.events.register("before-call.lambda.UpdateFunctionConfiguration", cloud.before_update)
        client.meta.events.register("after-call.lambda.GetFunction", cloud.after_reading)
        return client

    monkeypatch.setattr(Account, "client", client)
    monkeypatch.setattr("lambdiff.client.client.Client", lambda **_: Client(transport=Environment(cloud)))
    return cloud

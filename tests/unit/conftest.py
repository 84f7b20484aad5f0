"""Shared by the tests of the cloud side: jsii needs a Node that it supports, and the wheel has one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambdiff.aws.account import Account, open_account
from lambdiff.infra import toolchain
from support.made_stack import REGION, write_manifest

# Before any test module imports aws_cdk: jsii starts Node at import.
os.environ["JSII_NODE"] = toolchain.node().command[0]


@pytest.fixture(scope="session")
def image_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build context that is small enough to be hashed in no time."""
    folder = tmp_path_factory.mktemp("context")
    (folder / "Dockerfile").write_text("FROM scratch\n")
    return folder


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """moto in place of AWS; the keys are moto's own, FOOBARKEY and FOOBARSECRET."""
    from moto import mock_aws

    monkeypatch.setenv("AWS_REGION", REGION)
    with mock_aws():
        yield


@pytest.fixture
def account(aws: None) -> Account:
    """An account of moto's."""
    return open_account()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A baked folder with one file, and a stray file that the manifest does not know."""
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "model.bin").write_bytes(b"weights")
    write_manifest(folder)
    (folder / "notes.txt").write_text("mine")
    return folder

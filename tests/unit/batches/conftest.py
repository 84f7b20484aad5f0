"""Fixtures for tests of runs in AWS."""

from __future__ import annotations

import pytest

from lambdiff.aws.deployment import select
from lambdiff.batches import cloud_run
from lambdiff.batches.cloud_run import CloudTarget
from support.aws_resources import save_deployment
from support.map_cloud import MapCloud, batch_function


@pytest.fixture
def map_cloud(aws: None, monkeypatch: pytest.MonkeyPatch) -> MapCloud:
    """A deployment with batch."""
    cloud = MapCloud()
    cloud.install(monkeypatch)
    save_deployment()
    return cloud


@pytest.fixture
def target(map_cloud: MapCloud, monkeypatch: pytest.MonkeyPatch) -> CloudTarget:
    """What the deployment has for runs."""
    monkeypatch.setattr(cloud_run.functions, "read", lambda account, name: batch_function(name=name))
    return cloud_run.open_target(select())

"""`lambdiff bake` with the real hub client and a hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lambdiff.bake import catalogue
from lambdiff.engine import manifest as manifests
from support import tiny_pipeline
from support.fake_hub import FakeHub

pytestmark = pytest.mark.engine

TINY_SD = catalogue.CATALOGUE["tiny-sd"]


def bake(tmp_path: Path, hub: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run `lambdiff bake` with the given hub and an empty cache."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    command = [sys.executable, "-m", "lambdiff", "bake", *args]
    return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_a_catalogue_model_is_downloaded_and_baked(tmp_path: Path) -> None:
    """tiny-sd, stored as pickles as on the real hub, is baked into a model folder that generates an image."""
    folder = tiny_pipeline.save(tmp_path / "on-the-hub")
    tiny_pipeline.as_pickles(folder)
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "pytorch_model.bin").write_bytes(b"unused")
    with FakeHub(TINY_SD.hub_id, TINY_SD.revision, folder) as hub:
        result = bake(tmp_path, hub.url, "tiny-sd", "-o", "baked", "--json")
    assert result.returncode == 0, result.stderr
    manifest = manifests.verify(tmp_path / "baked")
    assert (manifest.name, manifest.revision, manifest.license) == (TINY_SD.name, TINY_SD.revision, TINY_SD.license)
    assert json.loads(result.stdout)["revision"] == TINY_SD.revision
    assert not any("safety_checker/pytorch_model.bin" in request for request in hub.requests)
    command = ["generate", "a cat", "--local", "--model-dir", "baked", "--size", "64x64", "--steps", "2", "-o", "a.png"]
    generated = subprocess.run(
        [sys.executable, "-m", "lambdiff", *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert generated.returncode == 0, generated.stderr


def test_a_missing_commit_is_reported(tmp_path: Path) -> None:
    """A revision that does not exist gives exit code 3 and the model's name, and no folder is left."""
    with FakeHub("somebody/model", "0" * 40, tmp_path) as hub:
        result = bake(tmp_path, hub.url, "somebody/model", "--revision", "1" * 40, "-o", "baked")
    assert result.returncode == 3, result.stderr
    assert "somebody/model could not be downloaded" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "baked").exists()

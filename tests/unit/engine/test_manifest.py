"""The manifest of a model folder: writing, reading, and checking it against the files."""

from __future__ import annotations

import json

import msgspec
import pytest

from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import Manifest
from lambdiff.errors import ModelError
from lambdiff.protocol.contract import Defaults

DEFAULTS = Defaults(num_inference_steps=4, guidance_scale=1.0, width=64, height=64, scheduler="euler")


@pytest.fixture
def folder(tmp_path):
    """A folder with two files and their manifest."""
    (tmp_path / "unet.bin").write_bytes(b"weights")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "more.bin").write_bytes(b"more weights")
    manifest = Manifest(
        format=manifests.FORMAT,
        name="model",
        revision="1",
        license="MIT",
        engine="openvino",
        precision="f16",
        defaults=DEFAULTS,
        files=manifests.describe_files(tmp_path),
    )
    (tmp_path / manifests.FILENAME).write_bytes(manifest.to_json())
    return tmp_path


def change(folder, **fields):
    """Change some fields of the manifest's file."""
    path = folder / manifests.FILENAME
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_round_trip(folder):
    """Reading gives what was written; files are sorted by path, and paths are relative."""
    manifest = manifests.verify(folder)
    assert [file.path for file in manifest.files] == ["parts/more.bin", "unet.bin"]
    assert [file.size for file in manifest.files] == [12, 7]
    assert manifest.identity.license == "MIT"
    assert msgspec.json.decode(manifest.to_json(), type=Manifest) == manifest


def test_a_truncated_file_is_detected_by_its_size(folder):
    """A half-copied file fails at every load."""
    (folder / "unet.bin").write_bytes(b"weig")
    with pytest.raises(ModelError, match=r"unet\.bin has 4 bytes, not 7"):
        manifests.read(folder)


def test_a_changed_file_is_detected_by_its_hash(folder):
    """Other content of the same size passes the quick check and fails the thorough one."""
    (folder / "unet.bin").write_bytes(b"Weights")
    manifests.read(folder)
    with pytest.raises(ModelError, match="is not the file that was baked"):
        manifests.verify(folder)


def test_a_missing_file_is_named(folder):
    """The error names the path of a missing file."""
    (folder / "parts" / "more.bin").unlink()
    with pytest.raises(ModelError, match=r"more\.bin is missing"):
        manifests.read(folder)


@pytest.mark.parametrize("path", ["../outside.bin", "/etc/passwd"])
def test_no_path_leads_out_of_the_folder(folder, path):
    """A foreign manifest cannot make lambdiff read other files."""
    change(folder, files=[{"path": path, "size": 1, "sha256": "0" * 64}])
    with pytest.raises(ModelError, match="outside the folder"):
        manifests.read(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 99}, "has format 99"),
        ({"engine": "onnx"}, "is not a manifest"),
        ({"family": "dall-e"}, "is not a manifest"),
        ({"surprise": 1}, "is not a manifest"),
        ({"defaults": {"width": 64}}, "is not a manifest"),
    ],
)
def test_incompatible_manifests_are_refused(folder, fields, message):
    """A newer format, an unknown engine, family or field, and missing fields are clear errors."""
    change(folder, **fields)
    with pytest.raises(ModelError, match=message) as caught:
        manifests.read(folder)
    assert caught.value.fix


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b"[]"])
def test_unreadable_manifests(folder, content):
    """A missing manifest and one that is not JSON are configuration errors, with exit code 3."""
    path = folder / manifests.FILENAME
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        manifests.read(folder)
    assert caught.value.exit_code == 3


def test_the_family_defaults_to_stable_diffusion(folder):
    """Manifests do not repeat it, so those of older versions are read as before."""
    manifest = manifests.read(folder)
    assert manifest.family == "stable_diffusion"
    assert b"family" not in manifest.to_json()


@pytest.mark.parametrize("interval", [(0.5, 0.5), (0.8, 0.2), (-0.1, 1.0), (0.0, 1.1)])
def test_a_guidance_interval_is_two_increasing_fractions(interval):
    """Anything else is refused when the manifest is made or read."""
    with pytest.raises(ValueError, match="two increasing fractions"):
        manifests.Approximations(guidance_interval=interval)

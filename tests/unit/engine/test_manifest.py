"""Writing, reading and verifying the manifest of a model folder (engine/manifest.py)."""

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


def test_a_manifest_reads_back(folder):
    """A manifest reads back as it was written; its files are sorted and have relative paths."""
    manifest = manifests.verify(folder)
    assert [file.path for file in manifest.files] == ["parts/more.bin", "unet.bin"]
    assert [file.size for file in manifest.files] == [12, 7]
    assert manifest.identity.license == "MIT"
    assert msgspec.json.decode(manifest.to_json(), type=Manifest) == manifest


def test_the_digest_names_what_images_depend_on(folder):
    """Another file or another setting changes the digest; another day, note or default does not."""
    manifest = manifests.read(folder)
    assert manifest.identity.digest == manifest.digest
    again = {
        "baked_on": "2027-01-01",
        "notes": "new",
        "license": "MIT-0",
        "memory": manifests.Memory(bf16_mb=1, f32_mb=2),
    }
    assert msgspec.structs.replace(manifest, **again).digest == manifest.digest
    defaults = msgspec.structs.replace(DEFAULTS, num_inference_steps=99)
    assert msgspec.structs.replace(manifest, defaults=defaults).digest == manifest.digest
    (folder / "unet.bin").write_bytes(b"Weights")
    files = manifests.describe_files(folder)
    for other in ({"files": files}, {"inference_precision": "f32"}, {"revision": "2"}, {"tiny_decoder": True}):
        assert msgspec.structs.replace(manifest, **other).digest != manifest.digest, other


def test_a_truncated_file_is_detected_by_its_size(folder):
    """Reading a manifest fails if a file has another size."""
    (folder / "unet.bin").write_bytes(b"weig")
    with pytest.raises(ModelError, match=r"unet\.bin has 4 bytes, not 7"):
        manifests.read(folder)


def test_a_changed_file_is_detected_by_its_hash(folder):
    """Changed content of the same size passes `read`, which checks sizes, and fails `verify`, which checks hashes."""
    (folder / "unet.bin").write_bytes(b"Weights")
    manifests.read(folder)
    with pytest.raises(ModelError, match="is not the file that was baked"):
        manifests.verify(folder)


def test_a_missing_file_is_named(folder):
    """The error for a missing file names it."""
    (folder / "parts" / "more.bin").unlink()
    with pytest.raises(ModelError, match=r"more\.bin is missing"):
        manifests.read(folder)


@pytest.mark.parametrize("path", ["../outside.bin", "/etc/passwd"])
def test_no_path_leads_out_of_the_folder(folder, path):
    """A manifest that names a path outside its folder is refused."""
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
    """A newer format, an unknown engine, family or field, and a missing field are refused with a fix."""
    change(folder, **fields)
    with pytest.raises(ModelError, match=message) as caught:
        manifests.read(folder)
    assert caught.value.fix


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b"[]"])
def test_unreadable_manifests_are_refused(folder, content):
    """A missing manifest and one that is not a JSON object are configuration errors, with exit code 3."""
    path = folder / manifests.FILENAME
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        manifests.read(folder)
    assert caught.value.exit_code == 3


def test_the_family_defaults_to_stable_diffusion(folder):
    """A manifest without a family belongs to `stable_diffusion`, which is not written either."""
    manifest = manifests.read(folder)
    assert manifest.family == "stable_diffusion"
    assert b"family" not in manifest.to_json()


@pytest.mark.parametrize("interval", [(0.5, 0.5), (0.8, 0.2), (-0.1, 1.0), (0.0, 1.1)])
def test_a_guidance_interval_is_two_increasing_fractions(interval):
    """A guidance interval other than two increasing numbers from 0 to 1 is refused."""
    with pytest.raises(ValueError, match="two increasing numbers"):
        manifests.Approximations(guidance_interval=interval)

"""The folder from which the container image is built (infra/build_context.py)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lambdiff
from lambdiff.engine.manifest import EngineName
from lambdiff.errors import ModelError
from lambdiff.infra import build_context
from support.aws_resources import write_manifest


def tree(folder: Path) -> list[str]:
    """Return the relative paths of all files, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_context_contains_what_the_image_needs_and_nothing_else(model: Path) -> None:
    """The context has the Dockerfile, one engine's requirements, the model's files and lambdiff's image packages."""
    staged = tree(build_context.stage(model, "openvino").folder)
    package = Path(lambdiff.__file__).parent
    inside = [path for name in build_context.IMAGE_PACKAGES for path in (package / name).rglob("*.py")]
    inside += [package / name for name in build_context.IMAGE_MODULES]
    expected = {f"lambdiff/{path.relative_to(package).as_posix()}" for path in inside}
    assert {name for name in staged if name.startswith("lambdiff/")} == expected
    assert {name for name in staged if not name.startswith("lambdiff/")} == {
        "Dockerfile",
        "install-packages.sh",
        "requirements-openvino.txt",
        "model/manifest.json",
        "model/unet/model.bin",
    }


def test_the_staged_package_is_importable_alone(model: Path) -> None:
    """With only the staged package on its path, an interpreter imports the handler without any heavy library."""
    staged = build_context.stage(model, "openvino").folder
    program = (
        "import sys, lambdiff.handler.app, lambdiff.protocol.metadata\n"
        "assert lambdiff.__file__.startswith(sys.argv[1]), lambdiff.__file__\n"
        "bad = {'boto3', 'botocore', 'requests', 'click', 'aws_cdk', 'torch', 'openvino'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    environment = {**os.environ, "PYTHONPATH": str(staged), "PYTHONDONTWRITEBYTECODE": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", program, str(staged)], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr


def test_the_same_content_has_the_same_digest(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest does not depend on paths and times, and staging the same content again copies nothing."""
    first = build_context.stage(model, "openvino")
    assert build_context.stage(model, "openvino").reused
    elsewhere = shutil.copytree(model, tmp_path / "elsewhere")
    for path in elsewhere.rglob("*"):
        os.utime(path, (1, 1))
    monkeypatch.setenv("LAMBDIFF_HOME", str(tmp_path / "other-home"))
    second = build_context.stage(elsewhere, "openvino")
    assert not second.reused
    assert second.digest == first.digest
    assert tree(second.folder) == tree(first.folder)


def test_files_are_readable_to_all_and_have_a_fixed_time(model: Path) -> None:
    """Staged files are readable to Lambda's user, and equal modification times keep cached layers valid."""
    os.chmod(model / "unet" / "model.bin", 0o600)
    folder = build_context.stage(model, "openvino").folder
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
    assert len({path.stat().st_mtime for path in files}) == 1


def test_changed_content_is_staged_in_another_folder(model: Path) -> None:
    """A changed byte gives another digest; pruning keeps the new folder, and older ones for a day."""
    first = build_context.stage(model, "openvino")
    (model / "unet" / "model.bin").write_bytes(b"Weights")
    write_manifest(model)
    second = build_context.stage(model, "openvino")
    assert second.digest != first.digest
    build_context.prune(second.folder)
    assert first.folder.is_dir()
    yesterday = time.time() - 25 * 3600
    for folder in (first.folder, second.folder):
        os.utime(folder, (yesterday, yesterday))
    build_context.prune(second.folder)
    assert list(build_context.contexts().iterdir()) == [second.folder]


def test_a_damaged_model_is_refused(model: Path) -> None:
    """A model with a changed byte is refused before anything is staged."""
    (model / "unet" / "model.bin").write_bytes(b"weighty")
    with pytest.raises(ModelError, match="is not the file that was baked"):
        build_context.stage(model, "openvino")
    assert not build_context.contexts().exists()


def test_a_model_for_another_engine_is_refused(model: Path) -> None:
    """A model is refused for an engine for which it was not baked."""
    with pytest.raises(ModelError, match="was baked for the openvino engine"):
        build_context.stage(model, "diffusers")


def test_no_file_contains_a_local_path(model: Path, tmp_path: Path) -> None:
    """No staged file contains the path of the model's folder or of the installed package."""
    folder = build_context.stage(model, "openvino").folder
    for name in tree(folder):
        content = (folder / name).read_bytes()
        assert str(tmp_path).encode() not in content
        assert str(Path(lambdiff.__file__).parent).encode() not in content


@pytest.mark.parametrize("lock", sorted({lock for locks in build_context.LOCKS.values() for lock in locks}))
def test_every_requirement_is_pinned_and_hashed(lock: str) -> None:
    """Each requirement of the image has an exact version and hashes, as pip requires during a build."""
    text = (build_context.docker_folder() / lock).read_text()
    entries = re.split(r"\n(?=\S)", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    assert len(entries) == 1 if lock == "requirements-torch.txt" else len(entries) >= 5
    for entry in entries:
        assert re.match(r"^[a-z0-9-]+==[\w.+]+ ", entry), entry
        assert "--hash=sha256:" in entry
    assert ("torch==" in text) == (lock == "requirements-torch.txt")


@pytest.mark.parametrize("engine", build_context.LOCKS)
def test_the_dockerfile_copies_what_is_staged(engine: EngineName) -> None:
    """The stage of an engine copies exactly the lock files that are staged for it."""
    text = (build_context.docker_folder() / "Dockerfile").read_text()
    stage = text.partition(f"FROM packages AS packages-{engine}\n")[2].partition("FROM ")[0]
    assert tuple(re.findall(r"requirements-\w+\.txt", stage.partition("RUN")[0])) == build_context.LOCKS[engine]

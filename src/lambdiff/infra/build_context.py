"""Stages the folder that the image is built from: Dockerfile, requirements, the modules for the image, the model.

The folder's name is the hash of its content, and nothing in it depends on this machine or on the hour, so that an
unchanged deployment finds the same folder, the CDK the same asset, and the container engine its cached layers.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdiff import config
from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import Manifest
from lambdiff.errors import DeployError, ModelError
from lambdiff.infra.settings import EngineName

PACKAGE: Final = Path(__file__).parents[1]
IMAGE_PACKAGES: Final = ("protocol", "engine", "handler")
IMAGE_MODULES: Final = ("__init__.py", "_version.py", "errors.py")
"""With the packages above, all of lambdiff that the image contains. An import-linter contract in pyproject.toml lists
the same names and holds them to importing nothing else."""
_EPOCH: Final = 315_532_800
"""1980-01-01, the earliest time that every archive format can hold."""

_DAY: Final = 86_400


@dataclass(frozen=True)
class BuildContext:
    """A staged folder.

    Attributes:
        folder: where it is.
        digest: SHA-256 of names and contents, hexadecimal.
        manifest: the model's.
        size: bytes in all.
        reused: whether it was there already.
    """

    folder: Path
    digest: str
    manifest: Manifest
    size: int
    reused: bool


def docker_folder() -> Path:
    """The folder with Dockerfile and requirements: inside the installed package, or at the top of the repository.

    Raises:
        DeployError: in neither place.
    """
    for folder in (PACKAGE / "infra" / "docker", PACKAGE.parents[1] / "docker"):
        if (folder / "Dockerfile").is_file():
            return folder
    raise DeployError("The Dockerfile is not installed with lambdiff.", fix="Reinstall: pip install lambdiff[deploy]")


def stage(model: Path, engine: EngineName) -> BuildContext:
    """Make the folder, or find it made.

    Args:
        model: a baked folder; every file in it is compared with the manifest.
        engine: whose packages the image gets.

    Raises:
        ModelError: the folder is no baked model, or not one for this engine.
        DeployError: the folder cannot be written.
    """
    manifest = manifests.verify(model)
    if manifest.engine != engine:
        raise ModelError(
            f"{model.name} was baked for the {manifest.engine} engine, not for {engine}.",
            fix=f"Deploy it with --engine {manifest.engine}, or bake it again.",
        )
    files = dict(_files(model, manifest, engine))
    digest = _digest(files)
    folder = contexts() / digest[:32]
    try:
        reused = folder.is_dir()
        if reused:
            os.utime(folder)  # in use again: see `prune`
        else:
            _write(files, folder)
        size = sum(path.stat().st_size for path in files.values())
    except OSError as error:
        raise DeployError(
            f"The build context could not be written to {folder.parent}: {error.strerror}.",
            fix="Make room there, or move lambdiff's state with LAMBDIFF_HOME.",
        ) from None
    return BuildContext(folder, digest, manifest, size, reused)


def contexts() -> Path:
    """Where staged folders are kept."""
    return config.home() / "contexts"


def prune(keep: Path) -> None:
    """Remove every staged folder but one, and those that another deployment may be building from just now."""
    for folder in contexts().iterdir():
        if folder != keep and folder.stat().st_mtime < time.time() - _DAY:
            shutil.rmtree(folder, ignore_errors=True)


def _files(model: Path, manifest: Manifest, engine: str) -> Iterator[tuple[str, Path]]:
    docker = docker_folder()
    for name in ("Dockerfile", f"requirements-{engine}.txt"):
        yield name, docker / name
    packaged = (path for name in IMAGE_PACKAGES for path in sorted((PACKAGE / name).rglob("*.py")))
    for path in (*(PACKAGE / name for name in IMAGE_MODULES), *packaged):
        yield f"lambdiff/{path.relative_to(PACKAGE).as_posix()}", path
    # What the manifest lists, so that notes and caches beside the model stay here.
    for name in (manifests.FILENAME, *(file.path for file in manifest.files)):
        yield f"model/{name}", model / name


def _digest(files: dict[str, Path]) -> str:
    total = hashlib.sha256()
    for name, path in sorted(files.items()):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{name}\0{content}\n".encode())
    return total.hexdigest()


def _write(files: dict[str, Path], folder: Path) -> None:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".staging-") as name:
        scratch = Path(name) / "context"
        for relative, source in sorted(files.items()):
            target = scratch / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            # Readable to all: Lambda's user owns nothing in the image.
            target.chmod(0o644)
            os.utime(target, (_EPOCH, _EPOCH))
        for path in [scratch, *scratch.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
        try:
            scratch.rename(folder)
        except OSError:
            # Another process was faster, with the same content under the same name.
            if not folder.is_dir():
                raise

"""Stages the folder that the image is built from: Dockerfile, requirements, lambdiff's packages, the model.

The folder is named after the hash of its content, which does not depend on the machine or on the time. An unchanged
deployment therefore reuses the folder, the CDK asset and the container engine's cached layers.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdiff import config
from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import EngineName, Manifest
from lambdiff.errors import DeployError, ModelError
from lambdiff.temporary import temporary_path

PACKAGE: Final = Path(__file__).parents[1]
IMAGE_PACKAGES: Final = ("protocol", "engine", "handler")
IMAGE_MODULES: Final = ("__init__.py", "_version.py", "errors.py", "forks.py", "installation.py", "printable.py")
"""The image contains these modules and the packages above. An import-linter contract in pyproject.toml lists the same
names and forbids them to import anything else."""
LOCKS: Final[dict[EngineName, tuple[str, ...]]] = {
    "openvino": ("requirements-openvino.txt",),
    "diffusers": ("requirements-torch.txt", "requirements-diffusers.txt"),
}
"""The files in `docker/` from which the Dockerfile installs an engine's packages."""
_EPOCH: Final = 315_532_800
"""1980-01-01, the earliest time that every archive format can represent."""
_DAY: Final = 86_400


@dataclass(frozen=True)
class BuildContext:
    """A staged folder.

    Attributes:
        digest: SHA-256 of names and contents, hexadecimal.
        manifest: the model's manifest.
        size: total bytes.
        reused: whether it had been staged before.
    """

    folder: Path
    digest: str
    manifest: Manifest
    size: int
    reused: bool


def docker_folder() -> Path:
    """Return the folder with Dockerfile and requirements: in the installed package, or at the top of the repository.

    Raises:
        DeployError: it is in neither place.
    """
    for folder in (PACKAGE / "infra" / "docker", PACKAGE.parents[1] / "docker"):
        if (folder / "Dockerfile").is_file():
            return folder
    raise DeployError(
        "The Dockerfile is missing from this installation.", fix="Uninstall lambdiff and install it again."
    )


def stage(model: Path, engine: EngineName) -> BuildContext:
    """Stage the build context, or reuse it if the same content has been staged before.

    Args:
        model: a baked folder; every file is compared with the manifest.
        engine: the engine whose packages are installed in the image.

    Raises:
        ModelError: the model is not a baked folder, or was baked for another engine.
        DeployError: the build context cannot be written.
    """
    manifest = manifests.verify(model)
    if manifest.engine != engine:
        raise ModelError(
            f"{model.name} was baked for the {manifest.engine} engine, not for {engine}.",
            fix=f"Deploy it with `engine={manifest.engine}`, or bake it again.",
        )
    files = dict(_files(model, manifest, engine))
    digest = _digest(files)
    folder = contexts() / digest[:32]
    try:
        reused = folder.is_dir()
        if reused:
            os.utime(folder)  # so that `prune` keeps it
        else:
            _write(files, folder)
        size = sum(path.stat().st_size for path in files.values())
    except OSError as error:
        raise DeployError(
            f"The build context could not be written to {folder.parent}: {error.strerror}.",
            fix="Free some space, or move lambdiff's state with LAMBDIFF_HOME.",
        ) from None
    return BuildContext(folder, digest, manifest, size, reused)


def contexts() -> Path:
    """Return the folder that holds the staged build contexts."""
    return config.home() / "contexts"


def prune(keep: Path) -> None:
    """Remove all staged folders except `keep` and those of the last day, which another deployment may be using."""
    for folder in contexts().iterdir():
        if folder != keep and folder.stat().st_mtime < time.time() - _DAY:
            shutil.rmtree(folder, ignore_errors=True)


def _files(model: Path, manifest: Manifest, engine: EngineName) -> Iterator[tuple[str, Path]]:
    docker = docker_folder()
    for name in ("Dockerfile", "install-packages.sh", *LOCKS[engine]):
        yield name, docker / name
    packaged = (path for name in IMAGE_PACKAGES for path in sorted((PACKAGE / name).rglob("*.py")))
    for path in (*(PACKAGE / name for name in IMAGE_MODULES), *packaged):
        yield f"lambdiff/{path.relative_to(PACKAGE).as_posix()}", path
    # Only files in the manifest: other files in the folder, such as notes and caches, are not uploaded.
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
    with temporary_path(folder.parent, ".staging-") as scratch:
        for relative, source in sorted(files.items()):
            target = scratch / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            # Readable to all, because the user that Lambda runs as owns nothing in the image.
            target.chmod(0o644)
            os.utime(target, (_EPOCH, _EPOCH))
        for path in [scratch, *scratch.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
        try:
            scratch.rename(folder)
        except OSError:
            # Another process has staged the same content in the meantime.
            if not folder.is_dir():
                raise

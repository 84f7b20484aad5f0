"""Pins the base image: the digest that its tag has now, so that AWS's patches arrive with the next deployment.

CDK names an image by the hash of its folder and its build arguments. With a tag among them, a newer base image would
change neither, and would never be built. The digest comes from

1. `base_image=` itself, if it has one;
2. the registry (`registry.py`);
3. the container engine, which may be logged in to a private registry, or have a copy;
4. the last deployment.

A note says so if it is one of the last two.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from lambdiff.errors import NOT_JSON, ConfigurationError, ToolchainError
from lambdiff.infra import registry
from lambdiff.infra.registry import ImageReference, RegistryError
from lambdiff.infra.toolchain import Tool

_PULL_SECONDS: Final = 600


@dataclass(frozen=True)
class PinnedImage:
    """A base image and the digest to build from.

    Attributes:
        image: with its digest, and with the tag that had it, if the caller named a tag.
        address: what the Dockerfile names. Without the tag, which not every container engine accepts beside a digest.
        note: where the digest comes from, if that is worth a note.
    """

    image: ImageReference
    address: str
    note: str = ""


def pin(
    text: str, *, recorded: str | None = None, engine: Callable[[], Tool] | None = None, platform: str = "linux/amd64"
) -> PinnedImage:
    """Find the digest of a base image.

    Args:
        text: the base image as the caller named it.
        recorded: the base image of the last deployment, as `str(PinnedImage.image)`.
        engine: finds the container engine, if it builds the image.
        platform: the platform that the engine pulls.

    Raises:
        ConfigurationError: `text` is not the name of an image.
        RegistryError: no source knows the digest.
    """
    image = ImageReference.parse(text)
    if image.digest:
        return _pinned(image, image.digest)
    try:
        return _pinned(image, registry.digest(image))
    except RegistryError as error:
        reason = error.message
    pinned = _from_engine(image, engine, platform, reason) or _from_record(image, recorded, reason)
    if pinned is None:
        raise RegistryError(
            f"The digest of the base image cannot be determined. {reason}",
            fix=f"Check the network and the proxy, or pass the digest yourself: `base_image={image.name}@sha256:...`.",
        )
    return pinned


def replaces(image: ImageReference, recorded: str) -> bool:
    """Return whether an image has the tag of a recorded base image, but another digest."""
    previous = ImageReference.parse(recorded)
    same = bool(image.tag) and (previous.name, previous.tag) == (image.name, image.tag)
    return same and previous.digest != image.digest


def update_of(image: ImageReference) -> str | None:
    """Return the digest that the tag of a pinned image has now, or None if it is the same.

    Raises:
        RegistryError: the registry does not tell.
    """
    current = registry.digest(dataclasses.replace(image, digest=""))
    return None if current == image.digest else current


def _pinned(image: ImageReference, digest: str, note: str = "") -> PinnedImage:
    image = dataclasses.replace(image, digest=digest)
    return PinnedImage(image, f"{image.name}@{digest}", note)


def _from_record(image: ImageReference, recorded: str | None, reason: str) -> PinnedImage | None:
    if not recorded:
        return None
    previous = ImageReference.parse(recorded)
    if (previous.name, previous.tag) != (image.name, image.tag):
        return None
    return _pinned(image, previous.digest, f"{reason} The base image stays that of the last deployment.")


def _from_engine(
    image: ImageReference, engine: Callable[[], Tool] | None, platform: str, reason: str
) -> PinnedImage | None:
    """Pull an image, and take the digest that the container engine knows it by."""
    if engine is None:
        return None
    try:
        program = engine().command[0]
    except ToolchainError:
        return None
    name = str(image)
    pulled = _run([program, "pull", "--quiet", "--platform", platform, name]) is not None
    source = "pulled by the container engine" if pulled else "the container engine's copy"
    note = f"{reason} The base image is {source}."
    output = _run([program, "image", "inspect", "--format", '{"digests":{{json .RepoDigests}},"id":"{{.Id}}"}', name])
    try:
        known = msgspec.json.decode(output or b"", type=_Known)
    except NOT_JSON:
        return None
    for each in known.digests or ():
        with contextlib.suppress(ConfigurationError):
            reference = ImageReference.parse(each)
            if reference.name == image.name and reference.digest:
                return _pinned(image, reference.digest, note)
    # An image that was built here and never pushed has no digest, but an id that changes with its content.
    digest = f"sha256:{known.id.removeprefix('sha256:')}"
    return PinnedImage(dataclasses.replace(image, digest=digest), name, note)


class _Known(msgspec.Struct):
    digests: list[str] | None
    id: str


def _run(command: list[str]) -> str | None:
    """Return the output of a command, or None if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_PULL_SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None

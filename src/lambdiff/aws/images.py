"""Container images in Amazon ECR."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, PermissionDenied, Rejected, translated
from lambdiff.errors import DeployError

if TYPE_CHECKING:
    from types_boto3_ecr.type_defs import ImageDetailTypeDef, ImageIdentifierTypeDef

_BARE_TAG: Final = re.compile(r"[0-9a-f]{64}")
"""The tag of an image that CDK published without a prefix, as lambdiff's first versions did."""
_ADDRESS: Final = re.compile(
    r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/"
    r"(?P<repository>[^:@]+)(?::(?P<tag>[^:@]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class ImageAddress:
    """The address of an image in ECR: a repository with a tag, a digest or both.

    Example:
        >>> ImageAddress.parse("123456789012.dkr.ecr.eu-west-1.amazonaws.com/assets:v1").repository
        'assets'
    """

    uri: str
    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, uri: str) -> ImageAddress | None:
        """Parse an address; return None if it is not that of an image in ECR."""
        match = _ADDRESS.fullmatch(uri)
        if match is None or not (match["tag"] or match["digest"]):
            return None
        return cls(uri, match["repository"], match["tag"], match["digest"])

    @property
    def id(self) -> ImageIdentifierTypeDef:
        """The image as ECR's API identifies it: by digest, if there is one, because a tag can be moved."""
        return {"imageDigest": self.digest} if self.digest else {"imageTag": self.tag or ""}


@dataclass(frozen=True)
class StoredImage:
    """An image in ECR.

    Attributes:
        repository: the name of its repository.
        digest: for example `sha256:0123...`.
        tags: all its tags.
        size: in bytes, compressed.
    """

    repository: str
    digest: str
    tags: frozenset[str]
    size: int

    def __str__(self) -> str:
        return f"{self.repository}:{min(self.tags)}" if self.tags else f"{self.repository}@{self.digest}"


def tag_prefix(stack: str) -> str:
    """Return what the tags of a stack's images begin with; the rest is the hash of the build context.

    Example:
        >>> tag_prefix("lambdiff-tiny")
        'lambdiff-tiny-'
    """
    return f"{stack}-"


def size(account: Account, uri: str) -> int | None:
    """Return the size of an image in ECR in bytes; None if it is not in ECR or the identity may not read it.

    Raises:
        CredentialsError, DeployError: AWS cannot be reached, or does not accept the credentials.
    """
    try:
        image = find(account, uri)
    except (PermissionDenied, Rejected):
        return None
    return image.size if image else None


def find(account: Account, uri: str) -> StoredImage | None:
    """Return the image with this address, or None if it does not exist or is not in ECR.

    Raises:
        CredentialsError, DeployError: it cannot be read.
    """
    image = ImageAddress.parse(uri)
    if image is None:
        return None
    try:
        with translated(f"The image {uri}"):
            reply = account.client("ecr").describe_images(repositoryName=image.repository, imageIds=[image.id])
    except NotFound:
        return None
    return next((_stored(image.repository, each) for each in reply["imageDetails"]), None)


def of_stack(account: Account, repository: str, stack: str) -> list[StoredImage]:
    """Return the images that were published for a stack, the newest first.

    Args:
        account: the account.
        repository: the name of the repository that CDK publishes images to.
        stack: the name of the stack.

    Raises:
        CredentialsError, DeployError: they cannot be read.
    """
    found = []
    try:
        with translated(f"The images in {repository}", "listed"):
            for page in account.client("ecr").get_paginator("describe_images").paginate(repositoryName=repository):
                found += [each for each in page["imageDetails"] if _is_of(stack, each.get("imageTags", []))]
    except NotFound:
        return []
    found.sort(key=lambda each: each["imagePushedAt"], reverse=True)
    return [_stored(repository, each) for each in found]


def delete(account: Account, image: StoredImage, stack: str) -> None:
    """Delete an image of a stack; do nothing if it does not exist.

    If it has tags of other stacks, it stays and loses only this stack's tags.

    Raises:
        CredentialsError, DeployError: it could not be deleted.
    """
    ours = {tag for tag in image.tags if _is_of(stack, [tag])}
    foreign = {tag for tag in image.tags - ours if not _BARE_TAG.fullmatch(tag)}
    # By digest, because deleting one of several tags would keep the image and its cost.
    ids: list[ImageIdentifierTypeDef] = (
        [{"imageTag": tag} for tag in sorted(ours)] if foreign else [{"imageDigest": image.digest}]
    )
    if not ids:
        return
    try:
        with translated(f"The image {image}", "deleted"):
            failures = (
                account.client("ecr")
                .batch_delete_image(repositoryName=image.repository, imageIds=ids)
                .get("failures", [])
            )
    except NotFound:
        return
    for failure in failures:
        if failure.get("failureCode") != "ImageNotFound":
            raise DeployError(
                f"The image {image} could not be deleted: {failure.get('failureReason')}.", fix="Try again."
            )


def delete_others(account: Account, repository: str, digest: str) -> None:
    """Delete all images of a repository but one.

    Raises:
        CredentialsError, DeployError: they could not be deleted.
    """
    client = account.client("ecr")
    with translated(f"The images in {repository}", "deleted"):
        found = [
            each["imageDigest"]
            for page in client.get_paginator("describe_images").paginate(repositoryName=repository)
            for each in page["imageDetails"]
        ]
        for other in found:
            if other != digest:
                client.batch_delete_image(repositoryName=repository, imageIds=[{"imageDigest": other}])


def _is_of(stack: str, tags: Iterable[str]) -> bool:
    prefix = tag_prefix(stack)
    # Completely, because the stack `lambdiff-tiny` begins with the name of the stack `lambdiff`.
    return any(tag.startswith(prefix) and _BARE_TAG.fullmatch(tag.removeprefix(prefix)) for tag in tags)


def _stored(repository: str, detail: ImageDetailTypeDef) -> StoredImage:
    return StoredImage(
        repository, detail["imageDigest"], frozenset(detail.get("imageTags", [])), detail["imageSizeInBytes"]
    )

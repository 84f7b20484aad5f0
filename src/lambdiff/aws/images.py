"""Container images in Amazon ECR."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, PermissionDenied, Rejected, translated
from lambdiff.errors import DeployError

if TYPE_CHECKING:
    from types_boto3_ecr.type_defs import ImageDetailTypeDef, ImageIdentifierTypeDef

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


def size(account: Account, uri: str) -> int | None:
    """Return the size of an image in ECR in bytes; None if it is not in ECR or the identity may not read it.

    Raises:
        CredentialsError, DeployError: AWS cannot be reached, or does not accept the credentials.
    """
    image = ImageAddress.parse(uri)
    if image is None:
        return None
    try:
        return _describe(account, image)["imageSizeInBytes"]
    except (PermissionDenied, Rejected):
        return None


def delete(account: Account, uri: str) -> None:
    """Delete an image with all its tags; do nothing if it does not exist.

    Raises:
        CredentialsError, DeployError: it could not be deleted.
    """
    image = ImageAddress.parse(uri)
    if image is None:
        raise DeployError(f"{uri} is not an image in ECR.", fix="Delete it in its own registry.")
    try:
        # By digest, because deleting one of several tags would keep the image and its cost.
        digest = image.digest or _describe(account, image)["imageDigest"]
        with translated(f"The image {uri}", "deleted"):
            failures = (
                account.client("ecr")
                .batch_delete_image(repositoryName=image.repository, imageIds=[{"imageDigest": digest}])
                .get("failures", [])
            )
    except NotFound:
        return
    for failure in failures:
        if failure.get("failureCode") != "ImageNotFound":
            raise DeployError(
                f"The image {uri} could not be deleted: {failure.get('failureReason')}.", fix="Try again."
            )


def _describe(account: Account, image: ImageAddress) -> ImageDetailTypeDef:
    with translated(f"The image {image.uri}"):
        reply = account.client("ecr").describe_images(repositoryName=image.repository, imageIds=[image.id])
    return reply["imageDetails"][0]

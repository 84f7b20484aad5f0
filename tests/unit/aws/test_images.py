"""Addresses, sizes and deletion of images in ECR, with moto in place of AWS (aws/images.py)."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from lambdiff.aws import images
from lambdiff.aws.account import Account
from lambdiff.aws.images import ImageAddress, StoredImage
from lambdiff.errors import CredentialsError
from support.aws_resources import REGION, image_tags, push_image, refusing

REGISTRY = f"123456789012.dkr.ecr.{REGION}.amazonaws.com"
DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("address", "repository", "tag", "digest"),
    [
        (f"{REGISTRY}/assets:one", "assets", "one", None),
        (f"{REGISTRY}/assets@{DIGEST}", "assets", None, DIGEST),
        (f"{REGISTRY}/team/assets:one@{DIGEST}", "team/assets", "one", DIGEST),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/assets:one", "assets", "one", None),
    ],
)
def test_addresses_are_parsed(address: str, repository: str, tag: str | None, digest: str | None) -> None:
    """An address has a tag, a digest or both; a digest takes precedence."""
    image = ImageAddress.parse(address)
    assert image == ImageAddress(address, repository, tag, digest)
    assert image.id == ({"imageDigest": digest} if digest else {"imageTag": tag})


@pytest.mark.parametrize(
    "address", ["", "public.ecr.aws/lambda/python:3.12", f"{REGISTRY}/assets", f"{REGISTRY}/assets@sha256:12", "a:b"]
)
def test_addresses_outside_ecr_are_refused(account: Account, address: str) -> None:
    """An address that is not in ECR has no size and is not found."""
    assert ImageAddress.parse(address) is None
    assert images.size(account, address) is None
    assert images.find(account, address) is None


@pytest.fixture
def ecr(aws: None) -> Any:
    """A repository `assets` with an image that has the tags `one` and `two`."""
    push_image("one", "two", repository="assets")
    return boto3.client("ecr", REGION)


def by_digest(ecr: Any) -> str:
    """Return the image's address by digest."""
    return f"{REGISTRY}/assets@{ecr.describe_images(repositoryName='assets')['imageDetails'][0]['imageDigest']}"


def test_the_size_is_read_by_tag_or_digest(ecr: Any, account: Account) -> None:
    """Tag and digest give the same size; the size of a missing or unreadable image is None."""
    size = ecr.describe_images(repositoryName="assets")["imageDetails"][0]["imageSizeInBytes"]
    assert images.size(account, f"{REGISTRY}/assets:one") == size
    assert images.size(account, by_digest(ecr)) == size
    assert images.size(account, f"{REGISTRY}/assets:none") is None
    assert images.size(refusing(account, "DescribeImages"), f"{REGISTRY}/assets:one") is None


def test_the_images_of_a_stack_are_told_by_their_tags(ecr: Any, account: Account) -> None:
    """A stack's images have its name before the hash; those of a stack with a longer name are not among them."""
    push_image(f"lambdiff-{'a' * 64}", content="2", repository="assets")
    push_image(f"lambdiff-tiny-{'b' * 64}", content="3", repository="assets")
    push_image("c" * 64, "lambdiff-latest", content="4", repository="assets")
    (found,) = images.of_stack(account, "assets", "lambdiff")
    assert found.tags == {f"lambdiff-{'a' * 64}"}
    assert str(found) == f"assets:lambdiff-{'a' * 64}"
    assert images.of_stack(account, "none", "lambdiff") == []


def test_an_image_is_deleted_with_all_its_tags(ecr: Any, account: Account) -> None:
    """All tags are deleted, because an image that keeps one tag still costs money."""
    uri = push_image(f"lambdiff-{'a' * 64}", "b" * 64, f"lambdiff-{'c' * 64}", content="2", repository="assets")
    found = images.find(account, uri)
    assert found is not None
    images.delete(account, found, "lambdiff")
    assert image_tags("assets") == {"one", "two"}
    images.delete(account, found, "lambdiff")


def test_an_image_with_the_tag_of_another_stack_loses_only_its_own(ecr: Any, account: Account) -> None:
    """An image that another stack was deployed with stays, so that CloudFormation can roll that stack back to it."""
    uri = push_image(f"lambdiff-{'a' * 64}", f"lambdiff-tiny-{'a' * 64}", content="2", repository="assets")
    found = images.find(account, uri)
    assert found is not None
    images.delete(account, found, "lambdiff")
    assert image_tags("assets") == {"one", "two", f"lambdiff-tiny-{'a' * 64}"}


def test_a_missing_image_is_none_and_a_missing_permission_an_error(account: Account) -> None:
    """A missing image or repository is not an error, but a missing permission is."""
    assert images.find(account, f"{REGISTRY}/none:one") is None
    assert images.find(refusing(account, "DescribeImages", "ImageNotFoundException"), f"{REGISTRY}/assets:one") is None
    stored = StoredImage("assets", DIGEST, frozenset(), 1)
    images.delete(refusing(account, "BatchDeleteImage", "RepositoryNotFoundException"), stored, "lambdiff")
    with pytest.raises(CredentialsError, match="AWS's reason"):
        images.delete(refusing(account, "BatchDeleteImage"), stored, "lambdiff")
    with pytest.raises(CredentialsError, match="AWS's reason"):
        images.of_stack(refusing(account, "DescribeImages"), "assets", "lambdiff")

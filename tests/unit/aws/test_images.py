"""Addresses, sizes and deletion of images in ECR, with moto in place of AWS (aws/images.py)."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from lambdiff.aws import images
from lambdiff.aws.account import Account
from lambdiff.aws.images import ImageAddress
from lambdiff.errors import CredentialsError, DeployError
from support.aws_resources import REGION, refusing

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
    """An address that is not in ECR has no size and cannot be deleted."""
    assert ImageAddress.parse(address) is None
    assert images.size(account, address) is None
    with pytest.raises(DeployError, match="is not an image in ECR"):
        images.delete(account, address)


@pytest.fixture
def ecr(aws: None) -> Any:
    """A repository `assets` with an image that has the tags `one` and `two`."""
    client = boto3.client("ecr", REGION)
    client.create_repository(repositoryName="assets")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    layers = {"schemaVersion": 2, "mediaType": kind, "config": {"digest": "sha256:" + "1" * 64}, "layers": []}
    for tag in ("one", "two"):
        client.put_image(repositoryName="assets", imageManifest=json.dumps(layers), imageTag=tag)
    return client


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


@pytest.mark.parametrize("digest", [False, True])
def test_an_image_is_deleted_with_all_its_tags(ecr: Any, account: Account, digest: bool) -> None:
    """All tags are deleted, because an image that keeps one tag still costs money."""
    images.delete(account, by_digest(ecr) if digest else f"{REGISTRY}/assets:one")
    assert ecr.describe_images(repositoryName="assets")["imageDetails"] == []


def test_deleting_a_missing_image_succeeds(account: Account) -> None:
    """A missing image or repository is not an error, but a missing permission is."""
    images.delete(account, f"{REGISTRY}/none:one")
    images.delete(refusing(account, "DescribeImages", "ImageNotFoundException"), f"{REGISTRY}/assets:one")
    with pytest.raises(CredentialsError, match="AWS's reason"):
        images.delete(refusing(account, "BatchDeleteImage"), f"{REGISTRY}/assets@{DIGEST}")

"""aws/images.py: addresses of images, and images in moto's ECR."""

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
def test_addresses_have_a_tag_or_a_digest(address: str, repository: str, tag: str | None, digest: str | None) -> None:
    """Both are possible; a digest identifies the image."""
    image = ImageAddress.parse(address)
    assert image == ImageAddress(address, repository, tag, digest)
    assert image.id == ({"imageDigest": digest} if digest else {"imageTag": tag})


@pytest.mark.parametrize(
    "address", ["", "public.ecr.aws/lambda/python:3.12", f"{REGISTRY}/assets", f"{REGISTRY}/assets@sha256:12", "a:b"]
)
def test_other_addresses_are_not_in_ecr(account: Account, address: str) -> None:
    """They have no size here and are not deleted."""
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
    """The address of the image by its digest."""
    return f"{REGISTRY}/assets@{ecr.describe_images(repositoryName='assets')['imageDetails'][0]['imageDigest']}"


def test_the_size_is_read_by_tag_or_digest(ecr: Any, account: Account) -> None:
    """Both addresses name the same image; an image that does not exist has no size."""
    size = ecr.describe_images(repositoryName="assets")["imageDetails"][0]["imageSizeInBytes"]
    assert images.size(account, f"{REGISTRY}/assets:one") == size
    assert images.size(account, by_digest(ecr)) == size
    assert images.size(account, f"{REGISTRY}/assets:none") is None
    assert images.size(refusing(account, "DescribeImages"), f"{REGISTRY}/assets:one") is None


@pytest.mark.parametrize("digest", [False, True])
def test_an_image_is_deleted_with_all_its_tags(ecr: Any, account: Account, digest: bool) -> None:
    """Deleting one of two tags would keep the image, and its cost."""
    images.delete(account, by_digest(ecr) if digest else f"{REGISTRY}/assets:one")
    assert ecr.describe_images(repositoryName="assets")["imageDetails"] == []


def test_a_missing_image_is_deleted_already(account: Account) -> None:
    """Neither a missing image nor a missing repository is an error; a missing permission is."""
    images.delete(account, f"{REGISTRY}/none:one")
    images.delete(refusing(account, "DescribeImages", "ImageNotFoundException"), f"{REGISTRY}/assets:one")
    with pytest.raises(CredentialsError, match="AWS's reason"):
        images.delete(refusing(account, "BatchDeleteImage"), f"{REGISTRY}/assets@{DIGEST}")

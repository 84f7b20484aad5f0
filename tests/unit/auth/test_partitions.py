"""What botocore knows about AWS's regions (auth/partitions.py)."""

from __future__ import annotations

import pytest

from lambdiff.auth import partitions
from lambdiff.config import Sourced
from lambdiff.errors import ConfigurationError, InvalidRequest


@pytest.mark.parametrize(
    ("region", "partition", "home"),
    [
        ("eu-central-1", "aws", "us-east-1"),
        ("cn-north-1", "aws-cn", "cn-northwest-1"),
        ("us-gov-east-1", "aws-us-gov", "us-gov-west-1"),
        ("us-iso-east-1", "aws-iso", "us-iso-east-1"),
        ("eusc-de-east-1", "aws-eusc", "eusc-de-east-1"),
        ("eu-south-9", "aws", "us-east-1"),
    ],
)
def test_a_region_has_a_partition(region: str, partition: str, home: str) -> None:
    """Each region belongs to a partition, whose home region accepts every session; new regions follow their names."""
    found = partitions.require_region(Sourced(region, "AWS_REGION"))
    assert (found.id, found.home) == (partition, home)
    assert partitions.is_known(region) is (region != "eu-south-9")


@pytest.mark.parametrize(
    "region", ["mars", "us-esat-1", "EU-WEST-1", "us-east-1a", "us-east", "aws-global", "eu-west-1\n", "", "-", "eu--1"]
)
def test_other_names_are_refused(region: str) -> None:
    """Typing errors, availability zones and other words are no regions."""
    assert partitions.partition_of(region) is None
    with pytest.raises(InvalidRequest):
        partitions.require_region(Sourced(region, "`region=`"))
    with pytest.raises(ConfigurationError, match="AWS_REGION"):
        partitions.require_region(Sourced(region, "AWS_REGION"))

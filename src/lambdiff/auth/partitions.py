"""AWS's regions and partitions, as the installed botocore knows them."""

from __future__ import annotations

import difflib
import functools
import importlib.resources
import re
from typing import Final

import msgspec
from msgspec import Struct

from lambdiff.config import Sourced
from lambdiff.environment import quoted
from lambdiff.errors import ConfigurationError, InvalidRequest


class Partition(Struct, frozen=True):
    """A part of AWS with accounts and credentials of its own.

    Attributes:
        id: as in ARNs, for example `aws` or `aws-cn`.
        home: the region that accepts every session of the partition.
        regions: the names of its regions.
        pattern: what the names of its regions look like.
    """

    id: str
    home: str
    regions: frozenset[str]
    pattern: str


_DIRECTIONS: Final = frozenset(
    f"{first}{second}" for first in ("", "north", "south") for second in ("east", "west", "central", "")
) - {""}


def partition_of(region: str) -> Partition | None:
    """Return the partition that a region belongs to, or None if there can be no such region.

    A region that botocore does not know yet belongs to the partition that its name fits.

    Example:
        >>> [found and found.id for found in map(partition_of, ["eu-west-1", "cn-north-1", "eu-north-9", "mars"])]
        ['aws', 'aws-cn', 'aws', None]
    """
    for partition in _partitions():
        if region in partition.regions:
            return partition
    plausible = region.split("-")[-2:-1] and region.split("-")[-2] in _DIRECTIONS
    return next((each for each in _partitions() if plausible and re.fullmatch(each.pattern, region)), None)


def require_region(region: Sourced[str]) -> Partition:
    """Return the partition of a region that was chosen.

    Raises:
        InvalidRequest: the argument `region=` cannot be the name of a region.
        ConfigurationError: the same, for a region from the environment, a profile or a saved deployment.

    Example:
        >>> require_region(Sourced("us-esat-1", "`region=`"))
        Traceback (most recent call last):
        lambdiff.errors.InvalidRequest: There is no AWS region 'us-esat-1' (`region=`).
        Did you mean us-east-1? For a region that is newer than your boto3: pip install -U boto3
    """
    if found := partition_of(region.value):
        return found
    similar = similar_regions(region.value)
    suggestion = f"Did you mean {similar[0]}? " if similar else "A region is called, for example, eu-central-1. "
    error = InvalidRequest if region.source == "`region=`" else ConfigurationError
    raise error(
        f"There is no AWS region {quoted(region.value)} ({region.source}).",
        fix=f"{suggestion}For a region that is newer than your boto3: pip install -U boto3",
    )


def is_known(region: str) -> bool:
    """Return whether botocore knows the region. It does not know regions that are newer than itself."""
    return any(region in partition.regions for partition in _partitions())


def similar_regions(region: str) -> list[str]:
    """Return the regions whose names resemble a wrong one.

    Example:
        >>> similar_regions("us-esat-1")
        ['us-east-1', 'us-west-1', 'us-west-2']
    """
    known = sorted(name for partition in _partitions() for name in partition.regions)
    # Letters that changed places count little, because people transpose them.
    return sorted(
        difflib.get_close_matches(region.lower(), known, n=3), key=lambda name: sorted(name) != sorted(region.lower())
    )


@functools.cache
def _partitions() -> list[Partition]:
    text = importlib.resources.files("botocore").joinpath("data", "partitions.json").read_bytes()
    return [
        Partition(
            id=each["id"],
            home=each["outputs"]["implicitGlobalRegion"],
            regions=frozenset(name for name in each["regions"] if not name.endswith("-global")),
            pattern=each["regionRegex"],
        )
        for each in msgspec.json.decode(text)["partitions"]
    ]

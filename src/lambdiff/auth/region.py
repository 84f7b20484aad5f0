"""Choose the AWS region, by the same rule everywhere."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from lambdiff import environment
from lambdiff.config import Deployment, Sourced
from lambdiff.errors import ConfigurationError

_REGION: Final = re.compile(r"(?=.{1,63}$)[a-z][a-z0-9]*(-[a-z0-9]+)*")
_FUNCTION_URL_HOST: Final = re.compile(r"[a-z0-9]+\.lambda-url\.([a-z0-9-]+)\.on\.aws\.?")


def choose_region(
    region: str | None = None,
    *,
    url: str | None = None,
    deployment: Deployment | None = None,
    profile: Sourced[str] | None = None,
) -> Sourced[str]:
    """Return the region and its source: the first of these that is known.

    1. `region`, the caller's argument;
    2. the host of a Function URL (`url`, else the deployment's), which contains the region;
    3. `LAMBDIFF_REGION`;
    4. the region saved with `deployment`;
    5. `AWS_REGION`, then `AWS_DEFAULT_REGION`;
    6. the AWS profile: `profile`, `AWS_PROFILE` or the default one.

    Only the last step reads the AWS configuration and imports boto3.

    Raises:
        ConfigurationError: no region is known, or its first source has something that is not the name of a region.
        CredentialsError: there is no such profile, or the AWS configuration cannot be read.

    Example:
        >>> str(choose_region(url="https://abc123.lambda-url.eu-central-1.on.aws/"))
        'eu-central-1 (from the URL)'
        >>> str(choose_region("us-east-1"))
        'us-east-1 (`region=`)'
    """
    found = find_region(region, url=url, deployment=deployment, profile=profile)
    if found is None:
        raise ConfigurationError("The AWS region is unknown.", fix="Pass `region=`, or set AWS_REGION.")
    return found


def find_region(
    region: str | None = None,
    *,
    url: str | None = None,
    deployment: Deployment | None = None,
    profile: Sourced[str] | None = None,
) -> Sourced[str] | None:
    """Return the region as `choose_region` does, or None if no region is known."""
    found = _first_region(region, url or (deployment.url if deployment else None), deployment, profile)
    if found and not _REGION.fullmatch(found.value):
        raise ConfigurationError(
            f"{environment.quoted(found.value)} is not the name of a region ({found.source}).",
            fix="A region looks like us-east-1.",
        )
    return found


def _first_region(
    region: str | None, url: str | None, deployment: Deployment | None, profile: Sourced[str] | None
) -> Sourced[str] | None:
    if given := environment.argument(region, "`region=`"):
        return Sourced(given, "`region=`")
    if url and (stated := region_of_url(url)):
        return Sourced(stated, "from the URL")
    if value := environment.read("LAMBDIFF_REGION"):
        return Sourced(value, "LAMBDIFF_REGION")
    if deployment:
        return Sourced(deployment.region, f"deployment {deployment.name}")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if value := environment.read(name):
            return Sourced(value, name)
    from lambdiff.auth.aws_session import open_session

    return open_session(profile).region()


def region_of_url(url: str) -> str | None:
    """Return the region in the host name of a Function URL; None for any other host.

    Example:
        >>> region_of_url("https://abc123.lambda-url.eu-central-1.on.aws/")
        'eu-central-1'
    """
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return None
    match = _FUNCTION_URL_HOST.fullmatch(host)
    return match[1] if match else None

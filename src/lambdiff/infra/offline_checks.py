"""Everything about a deployment that can be checked without AWS, all of it before AWS is called."""

from __future__ import annotations

from typing import Any, Final, get_args

from lambdiff.auth import partitions
from lambdiff.config import Sourced
from lambdiff.engine.manifest import EngineName
from lambdiff.errors import ConfigurationError, InvalidRequest, LambdiffError
from lambdiff.infra import model as models
from lambdiff.infra import settings as stack_settings
from lambdiff.infra.settings import DEFAULT_ENGINE, SettingOverrides
from lambdiff.protocol.validation import raise_for

NO_FUNCTION_URLS: Final = frozenset(
    {
        "ap-east-2",
        "ap-south-2",
        "ap-southeast-4",
        "ap-southeast-5",
        "ap-southeast-6",
        "ap-southeast-7",
        "ca-west-1",
        "eu-central-2",
        "eu-south-2",
        "il-central-1",
        "me-central-1",
    }
)
"""Regions without Function URLs, besides all partitions other than `aws`: the list in the Lambda developer guide in
November 2026 (https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html)."""


def check(
    *,
    name: str,
    model: str,
    region: str | None,
    reserved_concurrency: int | None,
    overrides: SettingOverrides,
) -> None:
    """Check what the caller of `lambdiff deploy` asks for; the arguments are those of `DeployOptions`.

    Raises:
        InvalidRequest: values are out of range or contradict each other; every problem is named.
        ModelError: the model's folder is damaged.
        MissingExtra: the model has to be baked, and the `bake` extra is not installed.
    """
    fields: dict[str, Any] = {"name": name, "reserved_concurrency": reserved_concurrency, **overrides}
    problems = stack_settings.find_problems({**fields, **({"region": region} if region else {})})
    problems = [problem for problem in problems if problem[0] != "region"]
    if region and partitions.partition_of(region) is None:
        similar = partitions.similar_regions(region)
        problems.append(
            ("region", f"must be an AWS region, not {region!r}{f'; did you mean {similar[0]}?' if similar else ''}")
        )
    unusable: LambdiffError | None = None
    engine = overrides.get("engine", DEFAULT_ENGINE)
    if engine in get_args(EngineName):
        try:
            models.check(model, engine)
        except InvalidRequest as error:
            problems += error.problems
        except LambdiffError as error:
            unusable = error
    raise_for(problems)
    if unusable:
        raise unusable


def check_function_urls(region: Sourced[str], *, force: bool) -> list[str]:
    """Refuse a region without Function URLs, which AWS would refuse after the image has been built and pushed.

    Returns:
        A note instead of the error, with `force`.

    Raises:
        ConfigurationError: the region has no Function URLs.
    """
    partition = partitions.partition_of(region.value)
    if partition is not None and partition.id == "aws" and region.value not in NO_FUNCTION_URLS:
        return []
    problem = f"Lambda has no Function URLs in {region}, according to AWS's documentation of November 2026"
    if force:
        return [f"{problem}."]
    raise ConfigurationError(
        f"{problem}, and a deployment needs one.",
        fix="Choose another `region=`, such as eu-central-1 or us-east-1. If AWS has added them, pass `force=True`.",
    )

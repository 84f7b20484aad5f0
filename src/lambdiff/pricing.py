"""Prices of Lambda and of the other resources of a deployment, from a dated table.

    cost = GB x billed seconds x rate + requests x 0.20e-6 + max(0, GB of /tmp - 0.5) x seconds x 3.09e-8

US dollars before tax, first tier of us-east-1 (https://aws.amazon.com/lambda/pricing/). Other regions cost up to a
third more.
"""

from __future__ import annotations

import math
from typing import Final

DATE: Final = "2026-09"
GB_SECOND: Final = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
REQUEST: Final = 0.20e-6
TMP_GB_SECOND: Final = 3.09e-8
FREE_GB_SECONDS: Final = 400_000
FREE_REQUESTS: Final = 1_000_000
# SnapStart is priced by memory; these are for 10,240 MB.
SNAPSTART_MONTH_10_GB: Final = 39.5
SNAPSTART_RESTORE_10_GB: Final = 0.0014
ALARM_MONTH: Final = 0.10
DASHBOARD_MONTH: Final = 3.00
METRIC_MONTH: Final = 0.30
"""Of one custom metric, prorated by the hours in which it has values."""
SECRET_MONTH: Final = 0.40
ECR_GB_MONTH: Final = 0.10
S3_GB_MONTH: Final = 0.023
S3_PUT: Final = 0.005e-3
"""Of one PUT or LIST in S3's standard class (https://aws.amazon.com/s3/pricing/)."""
S3_GET: Final = 0.0004e-3
"""Of one GET or HEAD."""
STATE_TRANSITION: Final = 25e-6
"""Of Step Functions, standard workflows (https://aws.amazon.com/step-functions/pricing/)."""
BUILD_MINUTE: Final = {"x86_64": 0.005, "arm64": 0.0034}
"""CodeBuild, general1.small and arm1.small; the first 100 minutes of a month are free."""


def invocation(memory_mb: int, seconds: float, *, architecture: str = "x86_64", tmp_mb: int = 512) -> float:
    """Return the price of a request in dollars.

    Args:
        memory_mb: MB of memory.
        seconds: the billed duration, cold start included.
        architecture: `x86_64` or `arm64`.
        tmp_mb: MB of `/tmp`; the first 512 are free.

    Example:
        >>> round(invocation(10_240, 10.0), 6)
        0.001667
    """
    compute = memory_mb / 1024 * seconds * GB_SECOND[architecture]
    return compute + REQUEST + max(0.0, tmp_mb / 1024 - 0.5) * seconds * TMP_GB_SECOND


def free_images(memory_mb: int, seconds: float) -> int:
    """Return how many requests of this memory and duration the free tier covers each month.

    Example:
        >>> free_images(10_240, 10.0)
        4000
    """
    return min(FREE_REQUESTS, int(FREE_GB_SECONDS / (memory_mb / 1024 * seconds)))


def build(seconds: float, architecture: str = "x86_64") -> float:
    """Return the price in dollars of a build in CodeBuild, which bills minutes that have begun.

    Example:
        >>> round(build(61), 3)
        0.01
    """
    return math.ceil(seconds / 60) * BUILD_MINUTE[architecture]


def snapstart_month(memory_mb: int) -> float:
    """Return the price in dollars per month for the snapshot of one published version.

    Example:
        >>> snapstart_month(10_240)
        39.5
    """
    return SNAPSTART_MONTH_10_GB * memory_mb / 10_240


def snapstart_restore(memory_mb: int) -> float:
    """Return the price in dollars for one restore of a snapshot.

    Example:
        >>> snapstart_restore(10_240)
        0.0014
    """
    return SNAPSTART_RESTORE_10_GB * memory_mb / 10_240


def dollars(amount: float) -> str:
    """Format an amount with as many digits as it needs.

    Example:
        >>> dollars(39.5), dollars(0.00167), dollars(0.0000002)
        ('$39.50', '$0.0017', '$0.00000020')
    """
    if amount >= 0.1 or amount == 0:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.001 else f"${amount:.8f}"

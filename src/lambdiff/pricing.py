"""What Lambda costs, by a dated table.

    cost = GB x billed seconds x rate + requests x 0.20e-6 + max(0, GB of /tmp - 0.5) x seconds x 3.09e-8

Rates of us-east-1's first tier, in dollars, before tax (https://aws.amazon.com/lambda/pricing/). Other regions cost up
to a third more.
"""

from __future__ import annotations

from typing import Final

DATE: Final = "2026-09"
GB_SECOND: Final = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
REQUEST: Final = 0.20e-6
TMP_GB_SECOND: Final = 3.09e-8
FREE_GB_SECONDS: Final = 400_000
FREE_REQUESTS: Final = 1_000_000
SNAPSTART_MONTH_10_GB: Final = 39.5
SNAPSTART_RESTORE_10_GB: Final = 0.0014
ALARM_MONTH: Final = 0.10
SECRET_MONTH: Final = 0.40
ECR_GB_MONTH: Final = 0.10


def invocation(memory_mb: int, seconds: float, *, architecture: str = "x86_64", tmp_mb: int = 512) -> float:
    """Dollars for one request that is billed for so many seconds, its cold start included in them.

    Example:
        >>> round(invocation(10_240, 10.0), 6)
        0.001667
    """
    computing = memory_mb / 1024 * seconds * GB_SECOND[architecture]
    return computing + REQUEST + max(0.0, tmp_mb / 1024 - 0.5) * seconds * TMP_GB_SECOND


def free_images(memory_mb: int, seconds: float) -> int:
    """How many such requests a month the free tier covers.

    Example:
        >>> free_images(10_240, 10.0)
        4000
    """
    return min(FREE_REQUESTS, int(FREE_GB_SECONDS / (memory_mb / 1024 * seconds)))


def snapstart_month(memory_mb: int) -> float:
    """Dollars a month for keeping one version's snapshot.

    Example:
        >>> snapstart_month(10_240)
        39.5
    """
    return SNAPSTART_MONTH_10_GB * memory_mb / 10_240


def dollars(amount: float) -> str:
    """An amount with as many digits as it needs.

    Example:
        >>> dollars(39.5), dollars(0.00167), dollars(0.0000002)
        ('$39.50', '$0.0017', '$0.00000020')
    """
    if amount >= 0.1 or amount == 0:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.001 else f"${amount:.8f}"

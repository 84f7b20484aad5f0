"""CloudWatch metrics from the request log, in the embedded metric format.

CloudWatch extracts the metrics from the log lines, so the function needs neither an AWS SDK nor a permission:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from lambdiff.handler.request_log import Log

METRICS_VARIABLE: Final = "LAMBDIFF_METRICS"
"""The environment variable that turns metrics on; each metric costs money."""
NAMESPACE: Final = "lambdiff"
DIMENSION: Final = "function"
IMAGES: Final = "images"
REFUSED: Final = "refused"
FAILED: Final = "failed"
SECONDS: Final = "seconds"
PHASES: Final = ("queue", "load", "encode", "denoise", "decode", "compress")
"""The phases of a request, as in its `Server-Timing` header."""


def with_metrics(log: Log, function: str, clock: Callable[[], float] = time.time) -> Log:
    """Return a log whose lines CloudWatch turns into metrics.

    Args:
        log: takes the extended entries.
        function: the function's name, the only dimension.
        clock: the time in seconds since 1970.

    Example:
        >>> lines = []
        >>> with_metrics(lines.append, "cats")({"status": 200, "seconds": 2.5, "timings": {"denoise": 2.0}})
        >>> lines[0]["images"], lines[0]["denoise"]
        (1, 2.0)
    """

    def write(entry: dict[str, Any]) -> None:
        phases = {name: seconds for name, seconds in entry.get("timings", {}).items() if name in PHASES}
        counts = _counts(entry)
        units = dict.fromkeys(counts, "Count") | dict.fromkeys((SECONDS, *phases), "Seconds")
        directive = {
            "Timestamp": int(clock() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": NAMESPACE,
                    "Dimensions": [[DIMENSION]],
                    "Metrics": [{"Name": name, "Unit": unit} for name, unit in units.items()],
                }
            ],
        }
        log({**entry, DIMENSION: function, **counts, **phases, "_aws": directive})

    return write


def _counts(entry: dict[str, Any]) -> dict[str, int]:
    """Count a request as an image, refused or failed; a health check has no phases and counts as none of them."""
    status = entry["status"]
    return {
        IMAGES: int(status < 400 and "timings" in entry),
        REFUSED: int(400 <= status < 500),
        FAILED: int(status >= 500),
    }

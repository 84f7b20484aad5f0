"""Lambda's REPORT line of each invocation, read from a function's log."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Invocation:
    """One REPORT line.

    Attributes:
        billed: seconds, the cold start's included.
        cold: seconds of a new environment's start.
        picture: whether it drew one.
        loaded: whether it read the model's weights first.
    """

    request_id: str
    billed: float
    cold: float
    memory_mb: int
    picture: bool = False
    loaded: bool = False


def invocations(lines: Iterable[str]) -> list[Invocation]:
    """Every REPORT among a log's lines, in Lambda's text and JSON forms; those of pictures are marked.

    Example:
        >>> invocations(["REPORT RequestId: a-1\\tDuration: 900.0 ms\\tBilled Duration: 1000 ms\\tMemory Size: 512 MB"])
        [Invocation(request_id='a-1', billed=1.0, cold=0.0, memory_mb=512, picture=False, loaded=False)]
    """
    reports: dict[str, Invocation] = {}
    drawn: dict[str, bool] = {}
    for line in lines:
        entry = _json(line)
        if entry is not None and entry.get("type") == "platform.report":
            record = entry["record"]
            metrics = record["metrics"]
            reports[record["requestId"]] = Invocation(
                request_id=record["requestId"],
                billed=metrics["billedDurationMs"] / 1000,
                cold=metrics.get("initDurationMs", metrics.get("restoreDurationMs", 0)) / 1000,
                memory_mb=metrics["memorySizeMB"],
            )
        elif entry is not None:
            if entry.get("status") == 200 and "timings" in entry:
                drawn[entry.get("request_id", "")] = "load" in entry["timings"]
        elif line.startswith("REPORT RequestId: "):
            report = _report(line)
            reports[report.request_id] = report
    return [
        dataclasses.replace(each, picture=key in drawn, loaded=drawn.get(key, False)) for key, each in reports.items()
    ]


def _report(line: str) -> Invocation:
    def number(name: str) -> float:
        match = re.search(rf"(?:^|\t){name}: ([\d.]+) (?:ms|MB)", line)
        return float(match[1]) if match else 0.0

    return Invocation(
        request_id=line.split()[2],
        billed=number("Billed Duration") / 1000,
        cold=(number("Init Duration") or number("Restore Duration")) / 1000,
        memory_mb=int(number("Memory Size")),
    )


def _json(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None

"""The REPORT line that Lambda writes to a function's log after each invocation."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Invocation:
    """An invocation as its REPORT line describes it.

    Attributes:
        billed: billed seconds, cold start included.
        cold_start: seconds that the start of the environment took; 0 if it was running.
        memory_mb: MB of memory.
        generated: whether it generated an image.
        loaded: whether it loaded the model first.
    """

    request_id: str
    billed: float
    cold_start: float
    memory_mb: int
    generated: bool = False
    loaded: bool = False


def invocations(lines: Iterable[str]) -> list[Invocation]:
    """Parse the REPORT lines of a log, in Lambda's text and JSON formats.

    The handler's own line with the same request id shows whether an invocation generated an image.

    Example:
        >>> invocations(["REPORT RequestId: a-1\\tDuration: 900.0 ms\\tBilled Duration: 1000 ms\\tMemory Size: 512 MB"])
        [Invocation(request_id='a-1', billed=1.0, cold_start=0.0, memory_mb=512, generated=False, loaded=False)]
    """
    reports: dict[str, Invocation] = {}
    loaded_by_id: dict[str, bool] = {}
    for line in lines:
        entry = _parse_json(line)
        if entry is not None and entry.get("type") == "platform.report":
            report = _from_json(entry["record"])
            reports[report.request_id] = report
        elif entry is not None:
            if entry.get("status") == 200 and "timings" in entry:
                loaded_by_id[entry.get("request_id", "")] = "load" in entry["timings"]
        elif line.startswith("REPORT RequestId: "):
            report = _from_text(line)
            reports[report.request_id] = report
    return [
        dataclasses.replace(report, generated=id_ in loaded_by_id, loaded=loaded_by_id.get(id_, False))
        for id_, report in reports.items()
    ]


def _from_json(record: dict[str, Any]) -> Invocation:
    metrics = record["metrics"]
    return Invocation(
        request_id=record["requestId"],
        billed=metrics["billedDurationMs"] / 1000,
        cold_start=metrics.get("initDurationMs", metrics.get("restoreDurationMs", 0)) / 1000,
        memory_mb=metrics["memorySizeMB"],
    )


def _from_text(line: str) -> Invocation:
    def number(name: str) -> float:
        match = re.search(rf"(?:^|\t){name}: ([\d.]+) (?:ms|MB)", line)
        return float(match[1]) if match else 0.0

    return Invocation(
        request_id=line.split()[2],
        billed=number("Billed Duration") / 1000,
        cold_start=(number("Init Duration") or number("Restore Duration")) / 1000,
        memory_mb=int(number("Memory Size")),
    )


def _parse_json(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None

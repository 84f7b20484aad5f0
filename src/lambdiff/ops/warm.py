"""`lambdiff warm`: start environments before they are needed."""

from __future__ import annotations

import time

from msgspec import Struct

from lambdiff.client.batch import Failure
from lambdiff.client.client import Client
from lambdiff.stages import Stages


class Warmed(Struct, frozen=True, kw_only=True):
    """What was found; the form of `--json`.

    Attributes:
        loaded: environments that read the model now; the others had it in memory already.
        failed: requests that did not end well, by message.
    """

    asked: int
    answered: int
    loaded: int
    seconds: float
    failed: list[str]


def warm(client: Client, count: int, report: Stages) -> Warmed:
    """Send `count` requests side by side, each for one step of the smallest work there is, with the model loaded.

    Each occupies an environment, so that as many are warm afterwards. Each is billed.
    """
    report.stage(f"Warming {count}")
    start = time.monotonic()
    results = list(client.generate_many(["warm"] * count, max_workers=count, num_inference_steps=1))
    failed = [str(each.error.message) for each in results if isinstance(each, Failure)]
    loaded = sum("load" in each.timings for each in results if not isinstance(each, Failure))
    report.done()
    return Warmed(
        asked=count,
        answered=count - len(failed),
        loaded=loaded,
        seconds=round(time.monotonic() - start, 2),
        failed=sorted(set(failed)),
    )

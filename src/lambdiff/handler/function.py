"""The Lambda function's entry point, `lambdiff.handler.function.handler`.

Prefetching starts before anything else is imported, so that files are read while Python is busy importing. With
SnapStart there is no prefetching: no request waits for that start, and the snapshot would contain the file pages.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lambdiff.handler import prefetch

MODEL_DIR: Final = Path(os.environ.get("LAMBDIFF_MODEL_DIR", "/opt/model"))
MEMORY_BYTES: Final = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "0")) * 2**20 or None
SNAPSTART: Final = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"

if not SNAPSTART:
    prefetch.start(MODEL_DIR)

# After the prefetch has started.
from lambdiff.engine.factory import open_engine  # noqa: E402
from lambdiff.handler import metrics, request_log  # noqa: E402
from lambdiff.handler.app import App  # noqa: E402

if TYPE_CHECKING:
    from lambdiff.handler import event

_log = request_log.to_stream()
if os.environ.get(metrics.METRICS_VARIABLE):
    _log = metrics.with_metrics(_log, os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "unknown"))

app: Final = App(functools.partial(open_engine, MODEL_DIR, memory_bytes=MEMORY_BYTES), write_log=_log)


def handler(lambda_event: object, context: event.LambdaContext | None) -> dict[str, Any]:
    """Answer an event from a Function URL."""
    return app.invoke(lambda_event, context)


def _prepare_snapshot() -> None:
    """Warm up before the snapshot is taken, so that a model that cannot be loaded fails the deployment.

    Nothing has to be renewed after a restore: seeds and ids come from the operating system for each request.
    """
    try:
        from snapshot_restore_py import register_before_snapshot  # type: ignore[import-untyped]
    except ImportError:  # a Lambda runtime client older than 4
        app.warm_up()
    else:
        register_before_snapshot(app.warm_up)


if SNAPSTART:
    _prepare_snapshot()

"""The function's entry point, `lambdiff.handler.function.handler`.

Reading ahead begins before anything else is imported, so that files arrive while Python is busy. Not with SnapStart:
nobody waits for its start, and the snapshot would keep what was read in vain.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lambdiff.handler import prefetch

MODEL: Final = Path(os.environ.get("LAMBDIFF_MODEL_DIR", "/opt/model"))
SNAPSHOT: Final = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"

if not SNAPSHOT:
    prefetch.begin(MODEL)

from lambdiff.engine.factory import open_engine  # noqa: E402
from lambdiff.handler import request_log  # noqa: E402 -- after the line above, as the next ones
from lambdiff.handler.app import App  # noqa: E402

if TYPE_CHECKING:
    from lambdiff.handler import event

app: Final = App(functools.partial(open_engine, MODEL), write_log=request_log.to_stream())


def handler(lambda_event: object, context: event.LambdaContext | None) -> dict[str, Any]:
    """Answer a Function URL's event."""
    return app.invoke(lambda_event, context)


def _prepare_snapshot() -> None:
    """Warm up before the snapshot is taken; a model that does not load then fails the deployment.

    Nothing has to be renewed after a restore: seeds and ids come from the operating system at each request.
    """
    try:
        from snapshot_restore_py import register_before_snapshot  # type: ignore[import-untyped]
    except ImportError:  # a runtime client older than 4
        app.warm_up()
    else:
        register_before_snapshot(app.warm_up)


if SNAPSHOT:
    _prepare_snapshot()

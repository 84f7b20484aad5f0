"""The batch function's entry point, `lambdiff.handler.batch.handler`: the same container image, another command.

It is called by the state machine of a batch run, once for each item, and has no URL.
"""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lambdiff.handler import prefetch

_STARTED: Final = time.time()
MODEL_DIR: Final = Path(os.environ.get("LAMBDIFF_MODEL_DIR", "/opt/model"))
prefetch.start(MODEL_DIR)

# After the prefetch has started.
from lambdiff.engine.factory import open_engine  # noqa: E402
from lambdiff.handler import request_log  # noqa: E402
from lambdiff.handler.app import App  # noqa: E402
from lambdiff.handler.batch_worker import BatchWorker  # noqa: E402
from lambdiff.protocol.batch_layout import BUCKET_VARIABLE  # noqa: E402

if TYPE_CHECKING:
    from obstore.store import ClientConfig

    from lambdiff.handler import event
    from lambdiff.handler.claims import ObjectStore


def open_store() -> ObjectStore:
    """Return the bucket that the environment names, with the function's own credentials."""
    from obstore.store import S3Store

    # An endpoint of its own is another service than AWS's (China's, or an emulator), whose bucket is in the path.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: ClientConfig = {}
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        options["root_certificate"] = Path(bundle).read_bytes()
    return S3Store(os.environ[BUCKET_VARIABLE], virtual_hosted_style_request=not endpoint, client_options=options)


_worker: Final = BatchWorker(
    App(functools.partial(open_engine, MODEL_DIR), write_log=request_log.to_stream()),
    open_store,
    write_log=request_log.to_stream(),
    started=_STARTED,
)


def handler(lambda_event: object, context: event.LambdaContext | None) -> dict[str, Any]:
    """Make the image of one item; see `BatchWorker`."""
    return _worker(lambda_event, context)

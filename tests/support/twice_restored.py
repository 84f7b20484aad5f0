"""The stub engine's function with SnapStart, restored twice: the process forks after the restore.

Both processes have the same state, like two execution environments of one snapshot. In a reply, `process` is the id of
the process that has answered, and `state` is the next number of a generator that was seeded before the snapshot.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from snapshot_restore_py import register_after_restore, register_before_snapshot

from support.lambda_stub import app

generator = np.random.default_rng()
register_before_snapshot(app.warm_up)
register_after_restore(os.fork)


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Return the reply with the two additional fields."""
    reply = app.invoke(event, context)
    return {**reply, "process": os.getpid(), "state": int(generator.integers(2**63))}

"""Pools of idle connections that a fork may copy.

urllib3 keeps idle connections in a queue, and takes the queue's lock when a pool is destroyed. In a forked child, a
thread of the parent may hold it for ever. The queue here has no lock.
"""

from __future__ import annotations

import queue
from collections import deque
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, poolmanager


def use_in(manager: PoolManager) -> None:
    """Let a manager create such pools, unless it creates special ones (SOCKS)."""
    if manager.pool_classes_by_scheme is poolmanager.pool_classes_by_scheme:
        manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}


class _IdleConnections:
    """A stack with the interface of `queue.LifoQueue`, as far as urllib3 uses it."""

    def __init__(self, maxsize: int) -> None:
        self._connections: deque[Any] = deque()  # whose methods are atomic
        self._maxsize = maxsize

    def get(self, block: bool = False, timeout: float | None = None) -> Any:
        try:
            return self._connections.pop()
        except IndexError:
            raise queue.Empty from None

    def put(self, connection: Any, block: bool = False) -> None:
        if len(self._connections) >= self._maxsize:
            raise queue.Full
        self._connections.append(connection)

    def qsize(self) -> int:
        return len(self._connections)


class _HttpPool(HTTPConnectionPool):
    QueueCls: Any = _IdleConnections


class _HttpsPool(HTTPSConnectionPool):
    QueueCls: Any = _IdleConnections

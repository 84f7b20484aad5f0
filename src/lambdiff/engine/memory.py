"""How much memory this process may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where the kernel shows a container's limit: cgroups of version 2, and of version 1."""


def limit_bytes() -> int | None:
    """Return the machine's memory, or the limit of the container if that is less; None where neither is known.

    It does not depend on what other processes use, so that the same request gives the same image.
    """
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, or a system without these names
        return None
    return min([machine, *_container_limits()])


def _container_limits() -> list[int]:
    limits = []
    for path in CGROUP_LIMITS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return limits

"""The memory of mapped files, from the kernel (Linux)."""

from __future__ import annotations

from pathlib import Path


def mapped(path: Path, field: str) -> int | None:
    """Return the bytes of a file in a field of /proc/self/smaps such as `Rss`; None if the file is not mapped."""
    total, in_section = None, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            in_section = line.endswith(f" {path}")
        elif in_section and line.startswith(f"{field}:"):
            total = (total or 0) + int(line.split()[1]) * 1024
    return total

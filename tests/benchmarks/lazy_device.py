"""Serve a file whose chunks are slow to read for the first time, like the lazily loaded container images of Lambda.

    python tests/benchmarks/lazy_device.py FILE FOLDER --milliseconds 5

Serves FILE as FOLDER/image through FUSE. The first read of each chunk of 512 KiB waits; up to ten reads run in
parallel. FOLDER/touched has the number of chunks read, and the seconds during which at least one was being fetched,
which hardly depend on other load. Removing FOLDER/touched makes all chunks slow again.
Needs Linux, root, libfuse 3 and `pip install mfusepy`.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHUNK = 512 * 1024
REPORT = 80
"""The size of the file `touched` in bytes."""


@contextmanager
def serve(path: Path, folder: Path, milliseconds: float) -> Iterator[Path]:
    """Serve a file from a process of its own; the context is the path of the slow file."""
    command = [sys.executable, __file__, str(path), str(folder), "--milliseconds", str(milliseconds)]
    process = subprocess.Popen(command)
    try:
        while not (folder / "image").exists():
            if process.poll() is not None:
                raise RuntimeError("the lazy device did not start: it needs libfuse 3 and mfusepy")
            time.sleep(0.05)
        yield folder / "image"
    finally:
        subprocess.run(["umount", str(folder)], check=False)
        process.wait()


def mount(path: Path, folder: Path, seconds: float) -> None:
    """Serve a file until the folder is unmounted."""
    import mfusepy

    size = path.stat().st_size
    descriptor = os.open(path, os.O_RDONLY)

    class Lazy(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.forget()

        def forget(self) -> None:
            self.arrivals: dict[int, float] = {}
            self.fetching, self.until = 0.0, 0.0

        def getattr(self, name: str, fh: Any = None) -> dict[str, Any]:
            if name == "/":
                return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
            if name == "/image":
                return {"st_mode": stat.S_IFREG | 0o444, "st_nlink": 1, "st_size": size}
            if name == "/touched":
                return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": REPORT}
            raise mfusepy.FuseOSError(errno.ENOENT)

        def read(self, name: str, length: int, offset: int, fh: Any) -> bytes:
            if name == "/touched":
                report = json.dumps({"chunks": len(self.arrivals), "seconds": round(self.fetching, 3)})
                return report.ljust(REPORT).encode()[offset : offset + length]
            now = time.monotonic()
            with self.lock:
                chunks = range(offset // CHUNK, (offset + length - 1) // CHUNK + 1)
                if any(chunk not in self.arrivals for chunk in chunks):
                    self.fetching += now + seconds - max(now, self.until)
                    self.until = now + seconds
                arrival = max(self.arrivals.setdefault(chunk, now + seconds) for chunk in chunks)
            time.sleep(max(0.0, arrival - now))
            return os.pread(descriptor, length, offset)

        def unlink(self, name: str) -> None:
            if name == "/touched":
                with self.lock:
                    self.forget()

    mfusepy.FUSE(Lazy(), str(folder), foreground=True, ro=False, attr_timeout=0, entry_timeout=0)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--milliseconds", type=float, required=True)
    options = parser.parse_args()
    mount(options.file, options.folder, options.milliseconds / 1000)


if __name__ == "__main__":
    main()

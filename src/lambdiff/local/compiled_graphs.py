"""Compiled graphs in the user's cache folder, so that the next process does not compile them again.

A graph is identified by a hash of everything that it depends on. If there is no intact file with this hash, or OpenVINO
does not accept it, the graph is compiled. Only what this machine generates for itself uses the cache;
docs/cold-start.md explains why Lambda has none.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lambdiff import config, forks
from lambdiff._version import __version__
from lambdiff.engine import cpu
from lambdiff.errors import LambdiffError
from lambdiff.local.cache_folder import CacheFolder, remove

if TYPE_CHECKING:
    from lambdiff.engine.manifest import Manifest
    from lambdiff.engine.mapped_weights import MappedWeights
    from lambdiff.engine.runtime import Source
    from lambdiff.engine.without_telemetry import openvino

MODEL_LIMIT: Final = 60_000_000
"""Maximum bytes of one model's graphs."""
LIMIT: Final = 4 * MODEL_LIMIT
"""Maximum bytes of all graphs."""


class CompiledGraphs:
    """The graphs of one model; see `GraphCache`. New ones are kept in memory until `save`.

    A thread begins at once to read and hash files, which takes about as long as importing OpenVINO.

    Args:
        folder: from `cache_folder`, without a problem.
        model_dir: a baked folder.
        manifest: its manifest.
    """

    def __init__(self, folder: CacheFolder, model_dir: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._model_dir = model_dir
        name = re.sub(r"[^a-z0-9]+", "-", manifest.name.lower())[:40]
        self._group = folder.root / f"{name}-{hashlib.sha256(manifest.to_json()).hexdigest()[:12]}"
        self._new: dict[Path, tuple[openvino.CompiledModel, MappedWeights]] = {}
        self._used: set[Path] = set()
        ahead = ThreadPoolExecutor(1)
        weights = [file for file in manifest.files if file.path.endswith(".bin") and file.size <= MODEL_LIMIT]
        self._digests = {file.path: ahead.submit(_digest, model_dir / file.path) for file in weights}
        self._contents = {path: ahead.submit(folder.read, path) for path in folder.paths(self._group)}
        ahead.shutdown(wait=False)
        forks.renew_in_children(self)

    def renew_after_fork(self) -> None:
        """Forget what the parent has compiled and what its thread is reading; see `forks`."""
        from lambdiff.engine.core import never_free

        never_free(self._new)
        self._new, self._digests, self._contents = {}, {}, {}

    def restore(self, source: Source) -> tuple[openvino.CompiledModel, object] | None:
        """Return a graph and the memory that it reads, or None if it has to be compiled; see `GraphCache`."""
        import numpy as np

        from lambdiff.engine.core import core
        from lambdiff.engine.without_telemetry import openvino

        if source.weights.size > MODEL_LIMIT:
            return None
        path = self._path(source)
        content = self._content(path)
        if content is None:
            return None
        array = np.frombuffer(content, np.uint8)
        try:
            compiled = core().import_model(openvino.Tensor(array, shared_memory=True), "CPU", dict(source.settings))
        except RuntimeError:  # all that OpenVINO raises
            remove(path)
            return None
        self._folder.mark_used(path)
        self._used.add(path)
        return compiled, array

    def offer(self, source: Source, compiled: openvino.CompiledModel) -> None:
        """Take note of a graph that has just been compiled, unless it is certainly too large; see `GraphCache`."""
        if source.weights.size <= MODEL_LIMIT:
            self._new[self._path(source)] = (compiled, source.weights)  # exporting reads the weights once more

    def save(self) -> None:
        """Write the new graphs that fit. What cannot be written is compiled again by the next process."""
        new, self._new = self._new, {}
        self._contents = {}
        for path, (compiled, _) in new.items():
            if not path.exists():  # another process may have been faster
                self._folder.write(path, compiled.export_model(), self._used)
                self._used.add(path)

    def _content(self, path: Path) -> memoryview | None:
        if path in self._contents:
            return self._contents.pop(path).result()
        return self._folder.read(path)

    def _path(self, source: Source) -> Path:
        from lambdiff.engine.core import core
        from lambdiff.engine.without_telemetry import openvino

        part, shape, weights, settings, winograd_memory = source
        file = f"{part.stem}.bin"
        facts: list[Any] = [
            __version__,
            # Not the hash in the manifest, which may be out of date.
            self._digests[file].result() if file in self._digests else _digest(self._model_dir / file),
            hashlib.sha256(weights.description.encode()).hexdigest(),
            shape,
            part.rewrite and part.rewrite.__qualname__,
            settings,
            winograd_memory,
            openvino.get_version(),
            core().get_property("CPU", "FULL_DEVICE_NAME"),
            cpu.identity(),
        ]
        key = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
        return self._group / f"{part.name}-{key[:32]}"


def _digest(path: Path) -> str:
    # In one piece: for each piece, this thread would have to wait for the interpreter, which is busy with imports.
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return hashlib.sha256(content).hexdigest()


def cache_folder() -> CacheFolder:
    """Return the folder of all models' graphs.

    Raises:
        ConfigurationError: `LAMBDIFF_HOME` is not a path.
    """
    return CacheFolder(config.cache_home() / "compiled", group_limit=MODEL_LIMIT, limit=LIMIT)


def problem() -> str | None:
    """Return why no graphs are kept; None if they are."""
    if os.environ.get("LAMBDIFF_NO_CACHE"):
        return "LAMBDIFF_NO_CACHE is set."
    try:
        return cache_folder().problem()
    except LambdiffError as error:
        return error.message


def open_graphs(model_dir: Path, manifest: Manifest) -> CompiledGraphs | None:
    """Return the graphs of a model; None if none are kept."""
    return None if problem() else CompiledGraphs(cache_folder(), model_dir, manifest)

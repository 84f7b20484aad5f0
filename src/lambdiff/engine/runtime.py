"""Compiled OpenVINO graphs: which one serves a call, and when its memory is released.

A part of a model is compiled with **dynamic shapes**, as one graph for every batch and size, or with **static shapes**,
as one graph for each shape. Static shapes are faster (by a fifth for a UNet of 13 M parameters at 128x128, by a
twentieth for one of 323 M at 512x512), but every graph has its own copy of the weights. Two rules follow:

1. The choice of graphs depends only on the shapes that a request needs. Static and dynamic graphs round differently, so
   if it depended on earlier requests, the same request could give different pixels.
2. Static graphs and the dynamic graph of a part are never in memory together. A request that needs the other kind
   evicts one and compiles the other, which takes about as long as loading the part.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from lambdiff.engine import cancellation, cpu, winograd
from lambdiff.engine.core import core
from lambdiff.engine.mapped_weights import MappedWeights
from lambdiff.engine.without_telemetry import openvino

Array = NDArray[np.float32]
Inputs = dict[str, Any]
"""A call's inputs: arrays by the names of the model's inputs."""
Call = Callable[[Inputs], tuple[Array, ...]]
"""Runs a part once and returns its outputs."""
Observer = Callable[[str, Inputs], None]
"""Called before each inference with the part's name and its inputs."""

_INTERVAL_MS: Final = round(1000 * cancellation.INTERVAL_S)

IsStatic = Callable[[str, "Shape"], bool]
"""Whether calls of a part (by name) with this shape get a graph of their own."""


class Shape(NamedTuple):
    """The dimensions of a call that are dynamic in the model files.

    Attributes:
        batch: the number of samples.
        height, width: of the latents; 0 for parts that take none.
        tokens: of the embedded prompts, including padding; 0 for parts that take none.
    """

    batch: int
    height: int = 0
    width: int = 0
    tokens: int = 0

    @classmethod
    def of(cls, inputs: Inputs) -> Self:
        """Return the shape of a call. The first input of rank 4 is the latents, and that of rank 3 the prompts."""
        shapes = {np.ndim(value): np.shape(value) for value in reversed(inputs.values())}
        height, width = shapes[4][2:] if 4 in shapes else (0, 0)
        batch, *_ = shapes.get(4) or np.shape(next(iter(inputs.values())))
        return cls(batch, height, width, shapes[3][1] if 3 in shapes else 0)

    def fill(self, shape: openvino.PartialShape) -> list[int]:
        """Return an input's shape with its dynamic dimensions filled in."""
        if len(shape) == 4:
            return [self.batch, shape[1].get_length(), self.height, self.width]
        sizes = [self.batch, self.tokens, 0]
        return [size if side.is_dynamic else side.get_length() for size, side in zip(sizes, shape, strict=False)]


@dataclass(frozen=True)
class Part:
    """A model that a pipeline calls.

    Attributes:
        name: unique within a model folder.
        file: its `.xml` and `.bin` files, without the suffix; parts may share them. By default the name.
        rewrite: changes the graph after its shapes are set and before it is compiled.
    """

    name: str
    file: str = ""
    rewrite: Callable[[openvino.Model], openvino.Model] | None = None

    @property
    def stem(self) -> str:
        """The files' name without the suffix."""
        return self.file or self.name


class Graph(NamedTuple):
    """Identifies a compiled graph: a part for one shape, or for every shape if `shape` is None."""

    part: str
    shape: Shape | None = None


class Source(NamedTuple):
    """What a graph is compiled from; the result also depends on OpenVINO's version and on the processor.

    Attributes:
        part: the model.
        shape: None for dynamic shapes.
        weights: the part's files.
        settings: OpenVINO's properties.
        winograd_memory: as for `Runtime`; 0 with dynamic shapes.
    """

    part: Part
    shape: Shape | None
    weights: MappedWeights
    settings: Mapping[str, Any]
    winograd_memory: float = 0.0


class GraphCache(Protocol):
    """Keeps compiled graphs for later processes. Called from several threads."""

    def restore(self, source: Source) -> tuple[openvino.CompiledModel, object] | None:
        """Return the graph of an earlier process, or None if it has to be compiled.

        The graph is valid as long as the second value, the memory that it reads.
        """

    def offer(self, source: Source, compiled: openvino.CompiledModel) -> None:
        """Take note of a graph that has just been compiled."""


class Runtime:
    """Compiles and runs the parts of one model folder. Not thread-safe: calls must not overlap.

    Args:
        folder: a baked folder.
        precision: the arithmetic, `bf16` or `f32`. None takes `bf16` if the processor has it.
        threads: the number of threads that an inference uses.
        observe: called before each inference. The input arrays may be reused; copy what you keep.
        cache: keeps the graphs that `load` compiles; by default they are compiled in every process.
        winograd_memory: the memory that `winograd.py` may use in addition, as a multiple of a graph's weights; 0 leaves
            convolutions as they are.

    Attributes:
        precision: the arithmetic; `f32-winograd-18` if `load` has rewritten 18 convolutions.
        compiling: whether a graph is being compiled.

    Example:
        >>> runtime, shapes = Runtime(folder, threads=2), [Shape(1, 16, 16)]
        >>> runtime.load([Part("decoder")], {"decoder": shapes})
        >>> (image,) = runtime.serve("decoder", shapes)({"latents": np.zeros((1, 12, 16, 16), np.float32)})
        >>> image.shape
        (1, 3, 128, 128)
    """

    def __init__(
        self,
        folder: Path,
        *,
        precision: str | None = None,
        threads: int,
        observe: Observer | None = None,
        cache: GraphCache | None = None,
        winograd_memory: float = 0.0,
    ) -> None:
        self._folder = folder
        self._observe = observe
        self._cache = cache
        self._core = core()
        self.precision = precision or _best_precision(self._core)
        self._winograd_memory = winograd_memory if self.precision == "f32" else 0.0
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": self.precision,
            # A pinned thread waits for its processor even if another one is free.
            "ENABLE_CPU_PINNING": False,
        }
        if not cpu.has_vnni():
            self._settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
        self._is_static: IsStatic = _never
        self._parts: dict[str, Part] = {}
        self._weights: dict[str, MappedWeights] = {}
        self._compiled: dict[Graph, _CompiledGraph] = {}
        self.compiling = False

    @property
    def graphs(self) -> list[Graph]:
        """The graphs that are compiled now."""
        return list(self._compiled)

    def load(
        self, parts: Iterable[Part], shapes: Mapping[str, Collection[Shape]], *, is_static: IsStatic | None = None
    ) -> None:
        """Read the parts and compile, in parallel, the graphs that serve `shapes`.

        Args:
            parts: all parts that will be called.
            shapes: by part, the shapes that requests are expected to call it with. Parts without an entry are compiled
                when they are first called.
            is_static: which shapes of which parts get a graph of their own; by default none.

        Raises:
            Exception: OpenVINO's own, if a file is missing or damaged.
        """
        self._is_static = is_static or _never
        self._parts = {part.name: part for part in parts}
        self._weights = {
            stem: MappedWeights(self._folder / f"{stem}.bin") for stem in {part.stem for part in self._parts.values()}
        }
        self._open(
            self._restore_or_compile,
            [graph for part, needed in shapes.items() for graph in self._choose(part, needed)],
        )
        self.compiling = False
        if rewritten := sum(compiled.rewritten for compiled in self._compiled.values()):
            self.precision = f"f32-winograd-{rewritten}"

    def serve(self, part: str, shapes: Collection[Shape]) -> Call:
        """Return a function that runs a part for one request. If necessary, it compiles a graph at its first call.

        Args:
            part: the part's name.
            shapes: all shapes that the request will call the part with. If each of them has a static graph, these are
                used; otherwise the dynamic graph is.
        """
        if self._all_static(part, shapes):
            return lambda inputs: self._run(Graph(part, Shape.of(inputs)), inputs)
        return functools.partial(self._run, Graph(part))

    def release_buffers(self, *parts: str) -> None:
        """Release the memory of the parts' intermediate results. Weights stay; the next call allocates it again."""
        for graph, compiled in self._compiled.items():
            if graph.part in parts:
                compiled.release_buffers()

    def _all_static(self, part: str, shapes: Collection[Shape]) -> bool:
        return all(self._is_static(part, shape) for shape in shapes)

    def _choose(self, part: str, shapes: Collection[Shape]) -> list[Graph]:
        """Return the graphs that serve a request with these shapes."""
        return [Graph(part, shape) for shape in shapes] if self._all_static(part, shapes) else [Graph(part)]

    def _run(self, graph: Graph, inputs: Inputs) -> tuple[Array, ...]:
        if self._observe is not None:
            self._observe(graph.part, inputs)
        if graph not in self._compiled:
            self._evict_other_kind(graph)
            self._open(self._compile, [graph])
            self.compiling = False
        return self._compiled[graph].infer(inputs)

    def _evict_other_kind(self, graph: Graph) -> None:
        """Before a static graph is compiled, drop the part's dynamic one, and vice versa."""

        def stays(other: Graph) -> bool:
            return other.part != graph.part or (other.shape is None) == (graph.shape is None)

        self._compiled = {other: compiled for other, compiled in self._compiled.items() if stays(other)}

    def _restore_or_compile(self, graph: Graph) -> _CompiledGraph:
        if self._cache is None:
            return self._compile(graph)
        source = self._source(graph)
        if restored := self._cache.restore(source):
            compiled, memory = restored
            return _CompiledGraph(compiled.create_infer_request(), memory=memory)
        compiled_graph = self._compile(graph)
        if not compiled_graph.rewritten:  # rewritten weights are too large for the cache
            self._cache.offer(source, compiled_graph.model)
        return compiled_graph

    def _open(self, open_one: Callable[[Graph], _CompiledGraph], graphs: Collection[Graph]) -> None:
        """Open graphs in parallel, on other threads: this one can be interrupted while it waits for them."""

        def work(graph: Graph) -> _CompiledGraph:
            with cancellation.native_code():
                return open_one(graph)

        pool = ThreadPoolExecutor(len(graphs))
        try:
            opened = {graph: pool.submit(work, graph) for graph in graphs}
            cancellation.wait_for_loading(opened.values())
            self._compiled |= {graph: future.result() for graph, future in opened.items()}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _compile(self, graph: Graph) -> _CompiledGraph:
        self.compiling = True
        part, shape, weights, settings, extra = self._source(graph)
        model = self._core.read_model(weights.description, weights.tensor)
        if shape is not None:
            model.reshape({port: shape.fill(port.partial_shape) for port in model.inputs})
        if part.rewrite is not None:
            model = part.rewrite(model)
        with weights.releasing_pages():
            rewritten = winograd.rewrite(model, extra * winograd.weight_bytes(model)) if extra else 0
            compiled = self._core.compile_model(model, "CPU", settings)
            return _CompiledGraph(compiled.create_infer_request(), weights, rewritten=rewritten)

    def _source(self, graph: Graph) -> Source:
        part = self._parts[graph.part]
        weights = self._weights[part.stem]
        extra = self._winograd_memory if graph.shape is not None else 0.0
        return Source(part, graph.shape, weights, self._settings, extra)


class _CompiledGraph:
    """A compiled graph that releases the pages of its weights after the calls that read them.

    Args:
        request: runs it.
        weights: what it was compiled from; None if it was restored from a cache.
        memory: what it reads, if it was restored.
        rewritten: the number of convolutions that were rewritten.
    """

    def __init__(
        self,
        request: openvino.InferRequest,
        weights: MappedWeights | None = None,
        *,
        memory: object = None,
        rewritten: int = 0,
    ) -> None:
        self.rewritten = rewritten
        self._request = request
        self._weights = weights
        self._memory = memory
        self._served: set[tuple[tuple[int, ...], ...]] = set()

    def infer(self, inputs: Inputs) -> tuple[Array, ...]:
        shapes = tuple(np.shape(value) for value in inputs.values())
        # A dynamic graph copies weights at its first call, and possibly again for other shapes.
        first = shapes not in self._served
        with self._weights.releasing_pages() if first and self._weights else nullcontext():
            self._run(inputs)
        self._served.add(shapes)
        # Copies, because the next call overwrites the originals, and schedulers keep outputs.
        outputs: tuple[Array, ...] = self._request.results.to_tuple()
        return outputs

    @property
    def model(self) -> openvino.CompiledModel:
        return self._request.get_compiled_model()

    def _run(self, inputs: Inputs) -> None:
        cancellation.check()
        try:
            self._request.start_async(inputs, share_inputs=True)
            while not self._request.wait_for(_INTERVAL_MS):
                cancellation.check()
        except BaseException:
            self._request.cancel()  # takes effect after the graph's current operation
            with suppress(RuntimeError):  # "Infer Request was canceled"
                self._request.wait()
            raise

    def release_buffers(self) -> None:
        self.model.release_memory()


def _never(part: str, shape: Shape) -> bool:
    return False


def _best_precision(core: openvino.Core) -> str:
    listed = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if listed and cpu.has_bf16() else "f32"

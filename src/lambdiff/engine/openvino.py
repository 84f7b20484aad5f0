"""The default engine: OpenVINO models on the CPU and our own denoising loop, without torch.

A model folder contains the parts of its family (see `pipelines/`) and a decoder, each as an `.xml` and a `.bin` file:

    decoder        latents (b, channels, h, w)        -> (b, 3, factor * h, factor * w) in -1..1

and for start images, if the manifest's limits allow them, an encoder; see `start_image.py`. It is compiled when it is
first used, so it does not delay the start.

Batch, height and width are dynamic in the files. `runtime.py` compiles them with static or dynamic shapes.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lambdiff import forks
from lambdiff.engine import cpu, latents, memory, start_image
from lambdiff.engine.base import COMPILING, LOADING, EngineOutput, first_line
from lambdiff.engine.core import never_free
from lambdiff.engine.finishing import finish
from lambdiff.engine.manifest import Manifest
from lambdiff.engine.pipelines import PIPELINES
from lambdiff.engine.pipelines.base import Array, Pipeline
from lambdiff.engine.pixels import to_pixels
from lambdiff.engine.runtime import GraphCache, Observer, Part, Runtime, Shape
from lambdiff.engine.timing import timed
from lambdiff.errors import LambdiffError, ModelError
from lambdiff.protocol.contract import GenerateRequest, Generation, OnStep

_MB: Final = 2**20
_SPARE: Final = 1.25
"""The memory that Winograd convolutions leave free, as a multiple of what the model needs without them."""
_MAX_WINOGRAD: Final = 1.5
"""The most memory that they use, as a multiple of the weights in f32: enough for all of a UNet."""
_DECODER: Final = "decoder"
ENCODER: Final = "encoder"


class OpenVinoEngine:
    """Generates images with OpenVINO.

    Args:
        folder: a folder baked for this engine.
        manifest: its manifest.
        precision: the arithmetic, `bf16` or `f32`; by default as in the manifest, where `auto` means `bf16` on
            processors that support it.
        observe: called before each inference with the part's name and its inputs, for calibration and tests. The input
            arrays may be reused; copy what you keep.
        cache: keeps compiled graphs for later processes; by default none are kept.
        memory_bytes: the memory that this process may use; by default the machine's. What the model does not need makes
            convolutions in f32 faster, see `winograd.py`.

    Example:
        >>> from lambdiff.engine import manifest as manifests
        >>> engine = OpenVinoEngine(folder, manifests.read(folder))
        >>> output = engine.generate(GenerateRequest(prompt="a cat").resolve(engine.manifest.defaults))
        >>> output.pixels.shape, list(output.timings)
        ((256, 256, 3), ['encode', 'denoise', 'decode', 'resize'])
    """

    name = "openvino"

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        precision: str | None = None,
        observe: Observer | None = None,
        cache: GraphCache | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self._precision = precision or ("f32" if manifest.inference_precision == "f32" else None)
        self._observe = observe
        self._cache = cache
        self._memory_bytes = memory_bytes
        self._loading = threading.Lock()
        self._generating = threading.Lock()
        self._loaded: tuple[Runtime, Pipeline] | None = None
        self._runtime: Runtime | None = None
        self._current: tuple[Runtime, Pipeline, Generation] | None = None
        forks.renew_in_children(self)

    def renew_after_fork(self) -> None:
        """Replace the locks; see `forks`. The inherited graphs cannot be used; see `native_library`."""
        never_free(self._loaded)
        self._loading, self._generating, self._loaded = threading.Lock(), threading.Lock(), None

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._loaded is not None

    @property
    def precision(self) -> str:
        """The arithmetic once loaded; before that, the storage precision from the manifest."""
        return self._loaded[0].precision if self._loaded else self.manifest.precision

    @property
    def activity(self) -> str:
        """What it does apart from generating."""
        if self._runtime is not None and self._runtime.compiling:
            return COMPILING
        return "" if self.loaded else LOADING

    @property
    def threads(self) -> int:
        """The number of threads that a request uses: one for each processor."""
        return cpu.threads()

    def load(self) -> None:
        """Read the model and compile, in parallel, its graphs for the default request. A second call does nothing.

        Raises:
            ModelError: the folder cannot be loaded.
            ConfigurationError: the parent of this forked process has used OpenVINO.
        """
        self._load()

    def generate(self, generation: Generation, on_step: OnStep | None = None) -> EngineOutput:
        """Generate one image; see `Engine.generate`. Concurrent requests wait for each other."""
        runtime, pipeline = self._load()
        with self._generating:
            return self._generate(runtime, pipeline, generation, on_step)

    @property
    def can_preview(self) -> bool:
        """Whether the decoder is fast enough for previews: a tiny one, or that of a small model."""
        return self.manifest.tiny_decoder or self.manifest.native_size is not None

    def preview(self) -> NDArray[np.uint8] | None:
        """Return what the image looks like so far: (height, width, 3). To be called from `on_step`; otherwise None.

        It takes as long as decoding the image does.
        """
        if self._current is None or not self.can_preview:
            return None
        runtime, pipeline, generation = self._current
        estimate = pipeline.estimate
        if estimate is None:
            return None
        pixels = self._decode(runtime, generation, estimate)
        return finish(pixels, generation, self.manifest, timings={}, warnings=[]).pixels

    def _load(self) -> tuple[Runtime, Pipeline]:
        with self._loading:
            if self._loaded is None:
                try:
                    self._loaded = self._open()
                except LambdiffError:
                    raise
                except Exception as error:  # OpenVINO and tokenizers raise no narrower class
                    raise ModelError(
                        f"The model in {self.folder} cannot be loaded: {first_line(error)}",
                        fix="Bake the model again.",
                    ) from error
            return self._loaded

    def _open(self) -> tuple[Runtime, Pipeline]:
        runtime = Runtime(
            self.folder,
            precision=self._precision,
            threads=self.threads,
            observe=self._observe,
            cache=self._cache,
            winograd_memory=self._winograd_memory(),
        )
        self._runtime = runtime  # already while it compiles
        pipeline = PIPELINES[self.manifest.family](self.folder, self.manifest, runtime)
        default_shapes = self._default_shapes(pipeline)
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(pipeline.load)
            runtime.load(
                [*pipeline.parts, Part(_DECODER), *self._optional_parts()],
                default_shapes,
                # Not a bound method: in a reference cycle, weights would stay in memory after the engine is dropped.
                is_static=functools.partial(_is_static, self.manifest, default_shapes),
            )
            loading.result()
        return runtime, pipeline

    def _winograd_memory(self) -> float:
        """Return how much memory convolutions in f32 may use in addition, as a multiple of a graph's weights."""
        needed, available = self.manifest.memory, self._memory_bytes or memory.limit_bytes()
        if not self.manifest.winograd or needed is None or available is None:
            return 0.0
        left = available / (needed.f32_mb * _MB) - _SPARE
        return round(min(max(left, 0.0), _MAX_WINOGRAD), 2)

    def _optional_parts(self) -> list[Part]:
        return [] if self.manifest.limits.image == "unsupported" else [Part(ENCODER)]

    def _default_shapes(self, pipeline: Pipeline) -> dict[str, Collection[Shape]]:
        """Return, by part, the shapes of a request with the model's defaults."""
        generation = GenerateRequest(prompt="a cat").resolve(self.manifest.defaults)
        return {**pipeline.shapes(generation), _DECODER: [self._latents_shape(generation)]}

    def _generate(
        self, runtime: Runtime, pipeline: Pipeline, generation: Generation, on_step: OnStep | None
    ) -> EngineOutput:
        timings: dict[str, float] = {}
        # 1. Encode: the prompts, and a start image, become inputs of the denoiser.
        with timed(timings, "encode"):
            conditioning = pipeline.encode(generation)
            if start := start_image.prepare(generation, self.manifest):
                encoded = start_image.encode(start, self._encoder(runtime, generation), generation, self.manifest)
                warnings = [*conditioning.warnings, *start.warnings]
                conditioning = dataclasses.replace(conditioning, start=encoded, warnings=warnings)
                self._make_room(runtime, ENCODER)
        # 2. Denoise: seeded noise becomes latents.
        with timed(timings, "denoise"):
            self._current = runtime, pipeline, generation
            try:
                denoised = pipeline.denoise(generation, conditioning, on_step)
            finally:
                self._current = None
        self._make_room(runtime, *(part.name for part in pipeline.parts))
        # 3. Decode: latents become pixels.
        with timed(timings, "decode"):
            pixels = self._decode(runtime, generation, denoised)
        self._make_room(runtime, _DECODER)
        # 4. Finish: pixels get the requested size.
        return finish(pixels, generation, self.manifest, timings=timings, warnings=conditioning.warnings)

    def _encoder(self, runtime: Runtime, generation: Generation) -> Callable[[Array], Array]:
        """Return a function that encodes pixels of the size that the model generates."""
        _, _, height, width = latents.latents_shape(generation, self.manifest)
        factor = self.manifest.latents.factor
        encode = runtime.serve(ENCODER, [Shape(1, height * factor, width * factor)])

        def run(pixels: Array) -> Array:
            (encoded,) = encode({"image": pixels})
            return encoded

        return run

    def _decode(self, runtime: Runtime, generation: Generation, denoised: Array) -> NDArray[np.uint8]:
        decode = runtime.serve(_DECODER, [self._latents_shape(generation)])
        scaled = (denoised / self.manifest.latents.scaling_factor).astype(np.float32)
        (decoded,) = decode({"latents": scaled})
        return to_pixels(decoded)

    def _latents_shape(self, generation: Generation) -> Shape:
        batch, _, height, width = latents.latents_shape(generation, self.manifest)
        return Shape(batch, height, width)

    def _make_room(self, runtime: Runtime, *parts: str) -> None:
        """Release buffers between the phases, if the model has a full decoder.

        A full decoder needs 0.8 GB for 512x512 in f32. For others, saving the memory is not worth the time to allocate
        the buffers again (some hundredths of a UNet call).
        """
        if not (self.manifest.tiny_decoder or self.manifest.native_size):
            runtime.release_buffers(*parts)


def _is_static(manifest: Manifest, default_shapes: dict[str, Collection[Shape]], part: str, shape: Shape) -> bool:
    """Whether a graph is compiled for this shape alone.

    It is if the shape hardly varies (the part takes no latents, or the model has a native size), and for the default
    shapes if the manifest sets `static_shapes`.
    """
    if not shape.height or manifest.native_size:
        return True
    return manifest.static_shapes and shape in default_shapes.get(part, ())

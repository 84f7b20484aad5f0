"""The default engine: OpenVINO models on the CPU, our own denoising loop, no torch.

A folder holds `text_encoder`, `unet` and `decoder` as OpenVINO models (`.xml` and `.bin`) and `tokenizer.json`:

    text_encoder   input_ids (b, tokens) int64                              -> (b, tokens, width)
    unet           sample (b, channels, h, w), timestep (1,), encoder_hidden_states (b, tokens, width)
                   and, with a guidance embedding, timestep_cond (b, n)     -> (b, channels, h, w)
    decoder        latents (b, channels, h, w)                              -> (b, 3, factor * h, factor * w) in -1..1

The samples of one call of the UNet are the same latents, once for each text (see `rewrites.py`, which relies on it).
Batch and size are open in the files. Fixing them before compilation made the UNet faster (by a fifth for one of 13 M
parameters at 128x128, by a twentieth for one of 323 M at 512x512) but keeps the weights once for each shape, so it is
done for models that draw a single size, and for the default size where the manifest asks for it (`static_shapes`),
until another one is asked for.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lambdiff.engine import cpu, latents, schedulers
from lambdiff.engine.base import EngineOutput
from lambdiff.engine.manifest import Manifest
from lambdiff.engine.pixels import crop, fit, to_pixels
from lambdiff.engine.tokenizer import PromptTokenizer
from lambdiff.errors import Cancelled, ModelError
from lambdiff.protocol.contract import GenerateRequest, Generation
from lambdiff.protocol.http import OnStep

# OpenVINO reports every import to its maker unless its telemetry package cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402 -- after the line above

from lambdiff.engine import deepcache  # noqa: E402 -- imports openvino too
from lambdiff.engine.core import core  # noqa: E402
from lambdiff.engine.mapped_weights import Weights  # noqa: E402

Array = NDArray[np.float32]
Observe = Callable[[str, dict[str, Any]], None]

TOKENIZER: Final = "tokenizer.json"
_KEPT_PROMPTS: Final = 32


class _Graph(NamedTuple):
    """What is compiled: a part, or `unet_outer` (see `deepcache.py`), for one shape or for all."""

    part: str
    batch: int = 0
    """0 leaves batch and size open."""
    size: tuple[int, int] | None = None
    """(width, height) of the picture."""

    @property
    def file(self) -> str:
        """Where it is stored, without the ending."""
        return "unet" if self.part == "unet_outer" else self.part


class OpenVinoEngine:
    """Draws with OpenVINO.

    Args:
        folder: a folder baked for this engine.
        manifest: its manifest.
        precision: the arithmetic, `bf16` or `f32`; by default the manifest's, or `bf16` where the processor has it.
        observe: called before each inference with the part's name and its inputs. Copy what you keep: the arrays are
            reused.
    """

    name = "openvino"

    def __init__(
        self, folder: Path, manifest: Manifest, *, precision: str | None = None, observe: Observe | None = None
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self._precision = precision or ("f32" if manifest.inference_precision == "f32" else None)
        self._observe = observe
        self._loading = threading.Lock()
        self._drawing = threading.Lock()
        self._requests: dict[_Graph, openvino.InferRequest] = {}
        self._seen: set[tuple[Any, ...]] = set()

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return bool(self._requests)

    @property
    def precision(self) -> str:
        """The arithmetic once loaded, the manifest's precision of storage before."""
        return (self._precision or self.manifest.precision) if self.loaded else self.manifest.precision

    @property
    def threads(self) -> int:
        """Threads a request uses: one for each processor there is."""
        return cpu.threads()

    def load(self) -> None:
        """Read and compile what a request with the model's defaults needs, side by side; a second call does nothing."""
        with self._loading:
            if self.loaded:
                return
            self._core = core()
            if self._precision is None:
                listed = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
                self._precision = "bf16" if listed and cpu.has_bf16() else "f32"
            wanted = list(self._usual_graphs())
            try:
                self._tokenizer = self._read_tokenizer()
                self._weights = {
                    file: Weights(self.folder / f"{file}.bin") for file in {graph.file for graph in wanted}
                }
                with ThreadPoolExecutor(len(wanted)) as pool:
                    compiled = list(pool.map(self._compile, wanted))
            except Exception as error:  # OpenVINO and tokenizers raise nothing narrower
                raise ModelError(
                    f"{self.folder} cannot be loaded: {str(error).splitlines()[0][:200]}", fix="Bake the model again."
                ) from error
            self._embed = lru_cache(_KEPT_PROMPTS)(self._encode)
            self._requests = dict(zip(wanted, compiled, strict=True))

    def generate(self, generation: Generation, on_step: OnStep | None = None) -> EngineOutput:
        """Draw one picture; requests that come at the same time wait for each other."""
        self.load()
        with self._drawing:
            return self._draw(generation, on_step)

    def _draw(self, generation: Generation, on_step: OnStep | None) -> EngineOutput:
        timings: dict[str, float] = {}
        with _timed(timings, "encode"):
            warnings = self._tokenizer.warnings(generation.prompt)
            texts = self._embed(generation.prompt)
            if self._guided(generation):
                warnings += self._tokenizer.warnings(generation.negative_prompt, what="negative prompt")
                texts = np.concatenate([self._embed(generation.negative_prompt), texts])
                steps = generation.num_inference_steps
                if not any(self.manifest.approximations.guides(step, steps) for step in range(steps)):
                    warnings.append(f"This endpoint guides none of {steps} steps: ask for more.")
        with _timed(timings, "denoise"):
            sample = self._denoise(generation, texts, on_step)
        self._free("text_encoder", "unet", "unet_outer")
        with _timed(timings, "decode"):
            inputs = {"latents": (sample / self.manifest.latents.scaling_factor).astype(np.float32)}
            (decoded,) = self._run(self._graph("decoder", 1, latents.drawn_size(generation, self.manifest)), inputs)
            pixels = to_pixels(decoded)
        self._free("decoder")
        if self.manifest.native_size:
            with _timed(timings, "resize"):
                pixels, resized = fit(pixels, generation.width, generation.height)
            warnings += resized
        else:
            pixels = crop(pixels, generation.width, generation.height)
        return EngineOutput(pixels=pixels, timings=timings, warnings=warnings)

    def _denoise(self, generation: Generation, texts: Array, on_step: OnStep | None) -> Array:
        """The clean latents, from embeddings of the prompt or, guided, of the negative prompt and the prompt."""
        noise = latents.noise_generator(generation.seed)
        scheduler = schedulers.make(
            generation.scheduler, self.manifest.diffusion, generation.num_inference_steps, noise
        )
        sample = latents.initial_latents(generation, self.manifest, noise) * np.float32(scheduler.init_noise_sigma)
        size = latents.drawn_size(generation, self.manifest)
        approximations = self.manifest.approximations
        inputs: dict[str, Any] = {}
        if width := self.manifest.guidance_embedding:
            inputs["timestep_cond"] = latents.guidance_embedding(generation.guidance_scale, width)
        calls = len(scheduler.timesteps)
        features: Array | None = None
        for call, timestep in enumerate(scheduler.timesteps):
            batch = 2 if len(texts) == 2 and approximations.guides(call, calls) else 1
            scaled = scheduler.scale_model_input(sample).astype(np.float32, copy=False)
            inputs["sample"] = np.repeat(scaled, batch, axis=0)
            inputs["timestep"] = np.array([timestep], dtype=np.float32)
            inputs["encoder_hidden_states"] = texts[-batch:]
            if call % approximations.deepcache_interval == 0 or features is None or len(features) < batch:
                output, *kept = self._run(self._graph("unet", batch, size), inputs)
                features = kept[0] if kept else None
            else:
                reused = inputs | {deepcache.FEATURES: features[-batch:]}
                (output,) = self._run(self._graph("unet_outer", batch, size), reused)
            if batch == 2:
                without, along = output[:1], output[1:]
                output = without + np.float32(generation.guidance_scale) * (along - without)
            sample = scheduler.step(output, sample)
            if on_step is not None and on_step(call + 1, calls):
                raise Cancelled(f"Stopped after step {call + 1} of {calls}.")
        return sample

    def _guided(self, generation: Generation) -> bool:
        """Whether a request takes a second sample along; models with a guidance embedding need none."""
        return generation.guided and not self.manifest.guidance_embedding

    def _encode(self, prompt: str) -> Array:
        (embedding,) = self._run(_Graph("text_encoder", 1), {"input_ids": self._tokenizer.ids(prompt)})
        return embedding

    def _run(self, graph: _Graph, inputs: dict[str, Any]) -> tuple[Array, ...]:
        if self._observe is not None:
            self._observe(graph.part, inputs)
        if graph not in self._requests:
            if not graph.batch:  # serves whatever the part's graphs of one shape serve: the weights need be there once
                self._requests = {known: r for known, r in self._requests.items() if known.part != graph.part}
            self._requests[graph] = self._compile(graph)
        seen = (graph, *(np.shape(value) for value in inputs.values()))
        with nullcontext() if seen in self._seen else self._weights[graph.file].released():
            # A shared output would be overwritten by the next call, and schedulers keep earlier ones.
            outputs = self._requests[graph].infer(inputs, share_inputs=True, share_outputs=False).to_tuple()
        self._seen.add(seen)
        return outputs  # type: ignore[no-any-return]

    def _free(self, *parts: str) -> None:
        """Give up the memory between the layers of the parts' last calls, weights excepted.

        Only beside the full decoder, which needs 0.8 GB for 512x512 in f32: elsewhere the time to get the memory again,
        some hundredths of a UNet's call, is worth more.
        """
        if self.manifest.tiny_decoder or self.manifest.native_size:
            return
        for graph, request in self._requests.items():
            if graph.part in parts:
                request.get_compiled_model().release_memory()

    def _graph(self, part: str, batch: int, size: tuple[int, int]) -> _Graph:
        """What serves a part of a picture of (width, height): compiled for it alone, or for every shape."""
        alone = _Graph(part, batch, size)
        return alone if self.manifest.native_size or alone in self._requests else _Graph(part)

    def _usual_graphs(self) -> dict[_Graph, None]:
        """What a request with the model's defaults runs, longest to compile first."""
        usual = GenerateRequest(prompt="a picture").resolve(self.manifest.defaults)
        size = latents.drawn_size(usual, self.manifest)
        approximations = self.manifest.approximations
        partly = approximations.guidance_interval != (0.0, 1.0)
        batches = ((2, 1) if partly else (2,)) if self._guided(usual) else (1,)
        parts = ("unet",) if approximations.deepcache_interval == 1 else ("unet", "unet_outer")
        graphs = [*(_Graph(part, batch, size) for part in parts for batch in batches), _Graph("decoder", 1, size)]
        if not (self.manifest.native_size or self.manifest.static_shapes):
            graphs = [_Graph(graph.part) for graph in graphs]
        return dict.fromkeys([*graphs, _Graph("text_encoder", 1)])

    def _compile(self, graph: _Graph) -> openvino.InferRequest:
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": self._precision,
        }
        if not cpu.has_vnni():
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
        weights = self._weights[graph.file]
        model = self._core.read_model(weights.description, weights.tensor)
        if graph.batch:
            sides = [side // self.manifest.latents.factor for side in graph.size or ()]
            model.reshape({port: _fixed(port.partial_shape, graph.batch, sides) for port in model.inputs})
        if graph.part == "unet_outer":
            model = deepcache.outer(model)
        elif graph.part == "unet" and self.manifest.approximations.deepcache_interval > 1:
            deepcache.add_features(model)
        with weights.released():
            return self._core.compile_model(model, "CPU", settings).create_infer_request()

    def _read_tokenizer(self) -> PromptTokenizer:
        tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
        pad_id = (tokenizer.padding or {"pad_id": 0})["pad_id"]
        text = self.manifest.text
        return PromptTokenizer(tokenizer, max_length=text.max_length, pad_id=pad_id, vocabulary=text.vocabulary)


def _fixed(shape: openvino.PartialShape, batch: int, sides: list[int]) -> list[int]:
    """An input's shape with its open dimensions filled in: batch first, `sides` (width, height) last and reversed."""
    if len(shape) == 4:
        return [batch, shape[1].get_length(), *reversed(sides)]
    return [batch if side.is_dynamic else side.get_length() for side in shape]


@contextmanager
def _timed(timings: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[phase] = time.perf_counter() - start

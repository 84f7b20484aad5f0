"""The default engine: OpenVINO models on the CPU, our own denoising loop, no torch. Copied into the image.

A folder holds `text_encoder`, `unet` and `decoder` as OpenVINO models (`.xml` and `.bin`) and `tokenizer.json`:

    text_encoder   input_ids (b, tokens) int64                              -> (b, tokens, width)
    unet           sample (b, channels, h, w), timestep (1,), encoder_hidden_states (b, tokens, width)
                   and, with a guidance embedding, timestep_cond (b, n)     -> (b, channels, h, w)
    decoder        latents (b, channels, h, w)                              -> (b, 3, factor * h, factor * w) in -1..1

Batch and size are open in the files. Fixing them before compilation made the UNet faster (by a fifth for one of 13 M
parameters at 128x128, by a twentieth for one of 323 M at 512x512) but starts slower and keeps the weights once for each
shape, so it is done only for models that draw a single size.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lambdiff.contract import Generation
from lambdiff.errors import Cancelled, ModelError
from lambdiff.handler.engine import canvas, cpu, latents, schedulers
from lambdiff.handler.engine.base import Drawing, OnStep
from lambdiff.handler.engine.text import PromptTokenizer
from lambdiff.handler.manifest import Manifest

# OpenVINO reports every import to its maker unless its telemetry package cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402 -- after the line above

Array = NDArray[np.float32]

PARTS: Final = ("text_encoder", "unet", "decoder")
TOKENIZER: Final = "tokenizer.json"
_KEPT_PROMPTS: Final = 32


class OpenVinoEngine:
    """Draws with OpenVINO.

    Args:
        folder: a folder baked for this engine.
        manifest: its manifest.
        precision: the arithmetic, `bf16` or `f32`; by default `bf16` where the processor has it.
    """

    name = "openvino"

    def __init__(self, folder: Path, manifest: Manifest, *, precision: str | None = None) -> None:
        self.folder = folder
        self.manifest = manifest
        self._precision = precision
        self._loading = threading.Lock()
        self._drawing = threading.Lock()
        self._requests: dict[tuple[str, int], openvino.InferRequest] = {}

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
        """Read and compile the three parts, side by side; a second call does nothing."""
        with self._loading:
            if self.loaded:
                return
            self._core = openvino.Core()
            if self._precision is None:
                listed = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
                self._precision = "bf16" if listed and cpu.has_bf16() else "f32"
            guided = self.manifest.defaults.guidance_scale > 1 and not self.manifest.guidance_embedding
            wanted = [("unet", self._batch(2 if guided else 1)), ("decoder", self._batch(1)), ("text_encoder", 1)]
            try:
                self._tokenizer = self._read_tokenizer()
                with ThreadPoolExecutor(len(wanted)) as pool:
                    compiled = list(pool.map(lambda key: self._compile(*key), wanted))
            except Exception as error:  # OpenVINO and tokenizers raise nothing narrower
                raise ModelError(
                    f"{self.folder} cannot be loaded: {str(error).splitlines()[0][:200]}", fix="Bake the model again."
                ) from error
            self._embed = lru_cache(_KEPT_PROMPTS)(self._encode)
            self._requests = dict(zip(wanted, compiled, strict=True))

    def generate(self, generation: Generation, on_step: OnStep | None = None) -> Drawing:
        """Draw one picture; requests that come at the same time wait for each other."""
        self.load()
        with self._drawing:
            return self._draw(generation, on_step)

    def _draw(self, generation: Generation, on_step: OnStep | None) -> Drawing:
        timings: dict[str, float] = {}
        noise = latents.noise_generator(generation.seed)
        scheduler = schedulers.make(
            generation.scheduler, self.manifest.diffusion, generation.num_inference_steps, noise
        )
        sample = latents.initial_latents(generation, self.manifest, noise) * np.float32(scheduler.init_noise_sigma)

        with _timed(timings, "encode"):
            warnings = self._tokenizer.warnings(generation.prompt)
            inputs = {"encoder_hidden_states": self._embed(generation.prompt)}
            guided = generation.guided and not self.manifest.guidance_embedding
            if guided:
                warnings += self._tokenizer.warnings(generation.negative_prompt, what="negative prompt")
                pair = [self._embed(generation.negative_prompt), inputs["encoder_hidden_states"]]
                inputs["encoder_hidden_states"] = np.concatenate(pair)
            if width := self.manifest.guidance_embedding:
                inputs["timestep_cond"] = latents.guidance_embedding(generation.guidance_scale, width)

        with _timed(timings, "denoise"):
            count = len(scheduler.timesteps)
            batch = self._batch(2 if guided else 1)
            for done, timestep in enumerate(scheduler.timesteps, start=1):
                scaled = scheduler.scale_model_input(sample).astype(np.float32, copy=False)
                inputs["sample"] = np.concatenate([scaled, scaled]) if guided else scaled
                inputs["timestep"] = np.array([timestep], dtype=np.float32)
                output = self._run("unet", batch, inputs)
                if guided:
                    without, along = output[:1], output[1:]
                    output = without + np.float32(generation.guidance_scale) * (along - without)
                sample = scheduler.step(output, sample)
                if on_step is not None and on_step(done, count):
                    raise Cancelled(f"Stopped after step {done} of {count}.")

        with _timed(timings, "decode"):
            scale = np.float32(self.manifest.latents.scaling_factor)
            pixels = canvas.to_pixels(
                self._run("decoder", self._batch(1), {"latents": (sample / scale).astype(np.float32)})
            )
        if self.manifest.native_size:
            with _timed(timings, "enlarge"):
                pixels, resized = canvas.fit(pixels, generation.width, generation.height)
            warnings += resized
        return Drawing(pixels=pixels, timings=timings, warnings=warnings)

    def _encode(self, prompt: str) -> Array:
        return self._run("text_encoder", 1, {"input_ids": self._tokenizer.ids(prompt)})

    def _run(self, part: str, batch: int, inputs: dict[str, Any]) -> Array:
        key = (part, batch)
        if key not in self._requests:
            self._requests[key] = self._compile(*key)
        # A shared output would be overwritten by the next call, and schedulers keep earlier ones.
        outputs = self._requests[key].infer(inputs, share_inputs=True, share_outputs=False)
        return outputs[0]  # type: ignore[no-any-return]

    def _batch(self, size: int) -> int:
        """The batch size that a part is compiled for; 0 leaves it and the picture's size open."""
        return size if self.manifest.native_size else 0

    def _compile(self, part: str, batch: int) -> openvino.InferRequest:
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": self._precision,
        }
        if not cpu.has_vnni():
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
        model = self._core.read_model(self.folder / f"{part}.xml")
        if batch:
            model.reshape({port: self._fixed(port.partial_shape, batch) for port in model.inputs})
        return self._core.compile_model(model, "CPU", settings).create_infer_request()

    def _fixed(self, shape: openvino.PartialShape, batch: int) -> list[int]:
        """An input's shape with its open dimensions filled in: batch first, height and width last."""
        if len(shape) == 4 and self.manifest.native_size:
            width, height = (side // self.manifest.latents.factor for side in self.manifest.native_size)
            return [batch, shape[1].get_length(), height, width]
        return [batch if side.is_dynamic else side.get_length() for side in shape]

    def _read_tokenizer(self) -> PromptTokenizer:
        tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
        pad_id = (tokenizer.padding or {"pad_id": 0})["pad_id"]
        text = self.manifest.text
        return PromptTokenizer(tokenizer, max_length=text.max_length, pad_id=pad_id, vocabulary=text.vocabulary)


@contextmanager
def _timed(timings: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[phase] = time.perf_counter() - start

"""The reference engine: a `DiffusionPipeline` of diffusers, in torch on the CPU.

It runs any text-to-image pipeline with a UNet that predicts noise or v, from safetensors only. The safety checker is
not loaded; images are returned as the model generates them.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import diffusers
import msgspec
import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PNDMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from lambdiff import forks
from lambdiff.engine import cpu, guidance, latents, schedulers, start_image
from lambdiff.engine.base import LOADING, EngineOutput, first_line, report_step
from lambdiff.engine.finishing import finish
from lambdiff.engine.manifest import Diffusion, Manifest
from lambdiff.engine.native_library import NativeLibrary
from lambdiff.engine.pixels import to_pixels
from lambdiff.engine.start_image import StartImage
from lambdiff.engine.tokenizer import Piece, PromptTokenizer
from lambdiff.errors import ModelError
from lambdiff.protocol.contract import Generation, OnStep, SchedulerName, SigmaSchedule

_NOT_LOADED: Final = ("safety_checker", "feature_extractor", "image_encoder")


_torch: Final = NativeLibrary("PyTorch")


Task = Literal["text", "image", "mask"]
"""What an image is generated from, besides the prompt: nothing, a start image, or a start image with a mask."""


class _Reference(NamedTuple):
    """diffusers' class of a scheduler, with the settings that are not in the manifest."""

    scheduler: Any
    settings: Mapping[str, Any] = MappingProxyType({})


_REFERENCES: Final[dict[SchedulerName, _Reference]] = {
    "ddim": _Reference(DDIMScheduler),
    "ddpm": _Reference(DDPMScheduler),
    "dpmpp_2m": _Reference(DPMSolverMultistepScheduler),
    "dpmpp_2m_sde": _Reference(DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "euler": _Reference(EulerDiscreteScheduler),
    "euler_ancestral": _Reference(EulerAncestralDiscreteScheduler),
    "heun": _Reference(HeunDiscreteScheduler),
    "lcm": _Reference(LCMScheduler),
    "pndm": _Reference(PNDMScheduler, {"skip_prk_steps": True}),
    "tcd": _Reference(TCDScheduler),
    "unipc": _Reference(UniPCMultistepScheduler),
}


class _Text(NamedTuple):
    """A text encoder with its tokenizer.

    Attributes:
        tokenizer: our own, on the vocabulary of the pipeline's.
        encoder: a model of transformers.
        inner: whether the UNet reads the hidden states before the last layer, and not the output.
    """

    tokenizer: PromptTokenizer
    encoder: Any
    inner: bool = False

    def embed(self, pieces: list[Piece], count: int) -> torch.Tensor:
        """Return the weighted hidden states of pieces, followed by empty ones up to `count`, (1, tokens, width)."""
        return torch.cat([self._embed(piece) for piece in self.tokenizer.padded(pieces, count)], dim=1)

    def pool(self, pieces: list[Piece]) -> torch.Tensor:
        """Return the pooled vector of the first piece, (1, n), without its weights, as the web UI does."""
        pooled: torch.Tensor = self.encoder(torch.from_numpy(pieces[0].ids)).text_embeds
        return pooled

    def _embed(self, piece: Piece) -> torch.Tensor:
        output = self.encoder(torch.from_numpy(piece.ids), output_hidden_states=True)
        hidden = output.hidden_states[-2] if self.inner else output.last_hidden_state
        return torch.from_numpy(piece.weigh(hidden.float().numpy()))


_RANDOM_NUMBERS: Final = threading.Lock()
"""Held while the random numbers of a scheduler's module, which all engines of the process share, are replaced."""


def make_scheduler(name: SchedulerName, diffusion: Diffusion, sigma_schedule: SigmaSchedule = "normal") -> Any:
    """Return diffusers' scheduler with the manifest's noise process."""
    reference = _REFERENCES[name]
    limit = diffusion.clip_sample_range
    settings = {
        **msgspec.structs.asdict(diffusion),
        "solver_type": diffusion.solver_type or ("bh2" if name == "unipc" else "midpoint"),
        "clip_sample": limit is not None,
        "clip_sample_range": 1.0 if limit is None else limit,
        "use_karras_sigmas": sigma_schedule == "karras",
        "use_exponential_sigmas": sigma_schedule == "exponential",
        **reference.settings,
    }
    accepted = inspect.signature(reference.scheduler.__init__).parameters
    return reference.scheduler(**{key: value for key, value in settings.items() if key in accepted})


Noise = Callable[[tuple[int, ...]], NDArray[np.float32]]
"""Returns the noise of a shape."""


@contextlib.contextmanager
def seeded_steps(scheduler: Any, noise: latents.StepNoise, first: int = 0) -> Iterator[None]:
    """Let diffusers' scheduler add the same noise at each step as ours, instead of torch's.

    A scheduler that adds noise does so from its first step on, once a step.

    Args:
        scheduler: diffusers' scheduler.
        noise: the request's noise of each step.
        first: the number of the first step that runs.
    """
    steps = itertools.count(first)
    with _seeded({type(scheduler): lambda shape: noise(next(steps), shape)}):
        yield


@contextlib.contextmanager
def _seeded(noises: Mapping[type, Noise]) -> Iterator[None]:
    """Let the modules of some of diffusers' classes draw these noises instead of torch's, if they draw any."""

    def replacement(noise: Noise) -> Callable[..., torch.Tensor]:
        return lambda shape, *_, dtype=None, **__: torch.from_numpy(noise(tuple(shape))).to(dtype or torch.float32)

    modules: dict[Any, Noise] = {sys.modules[kind.__module__]: noise for kind, noise in noises.items()}
    originals = {module: module.randn_tensor for module in modules if hasattr(module, "randn_tensor")}
    with _RANDOM_NUMBERS:
        try:
            for module in originals:
                module.randn_tensor = replacement(modules[module])
            yield
        finally:
            for module, original in originals.items():
                module.randn_tensor = original


class DiffusersEngine:
    """Generates images with diffusers.

    Args:
        folder: a folder baked for this engine.
        manifest: its manifest.
        precision: the arithmetic, `f32` or `bf16`; by default the manifest's.
    """

    name = "diffusers"

    def __init__(self, folder: Path, manifest: Manifest, *, precision: str | None = None) -> None:
        self.folder = folder
        self.manifest = manifest
        self.precision = precision or ("bf16" if manifest.precision == "bf16" else "f32")
        self._pipeline: Any = None
        self.renew_after_fork()
        forks.renew_in_children(self)

    def renew_after_fork(self) -> None:
        """Replace the lock; see `forks`."""
        self._lock = threading.RLock()

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._pipeline is not None

    @property
    def activity(self) -> str:
        """What it does apart from generating."""
        return "" if self.loaded else LOADING

    @property
    def threads(self) -> int:
        """The number of threads that a request uses: one for each processor."""
        return cpu.threads()

    def load(self) -> None:
        """Read the pipeline. A second call does nothing.

        Raises:
            ModelError: the folder cannot be loaded.
            ConfigurationError: the parent of this forked process has used PyTorch.
        """
        with self._lock:
            _torch.use()
            if self.loaded:
                return
            # The libraries' warnings quote the prompt.
            for logging in (diffusers_logging, transformers_logging):
                logging.set_verbosity_error()
                logging.disable_progress_bar()
            torch.set_num_threads(self.threads)
            pipeline = self._read_pipeline()
            pipeline.to(torch.bfloat16 if self.precision == "bf16" else torch.float32)
            pipeline.set_progress_bar_config(disable=True)
            self._texts = self._read_texts(pipeline)
            self._pipelines: dict[Task, Any] = {}
            for name in ("tokenizer", "tokenizer_2"):
                if tokenizer := getattr(pipeline, name, None):
                    # The pipeline pads to this length, which many tokenizers leave open.
                    tokenizer.model_max_length = self.manifest.text.max_length
            self._pipeline = pipeline

    def generate(self, generation: Generation, on_step: OnStep | None = None) -> EngineOutput:
        """Generate one image; see `Engine.generate`. Concurrent requests wait for each other."""
        self.load()
        with self._lock, torch.inference_mode():
            return self._generate(generation, on_step)

    def _generate(self, generation: Generation, on_step: OnStep | None) -> EngineOutput:
        # 1. Noise and schedule. Our own scheduler rejects what diffusers' cannot run, and knows the number of calls.
        diffusion = self.manifest.diffusion
        calls = len(schedulers.for_request(generation, diffusion).remaining)
        start = start_image.prepare(generation, self.manifest)
        guided = guidance.is_guided(generation, self.manifest)
        warnings = self._texts[0].tokenizer.warnings_for(generation, guided=guided) + (start.warnings if start else [])
        # 2. Encode, denoise and decode, which a pipeline does in one call.
        times = [time.perf_counter()]

        def after_step(_: Any, index: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
            times.append(time.perf_counter())
            report_step(on_step, index + 1, calls)
            return values

        pixels = self._run_pipeline(generation, start, guided=guided, after_step=after_step)
        # The pipeline does not report when encoding ends, so encoding counts as denoising.
        timings = {"denoise": times[-1] - times[0], "decode": time.perf_counter() - times[-1]}
        # 3. Finish: pixels get the requested size.
        return finish(pixels, generation, self.manifest, timings=timings, warnings=warnings)

    def _run_pipeline(
        self, generation: Generation, start: StartImage | None, *, guided: bool, after_step: Callable[..., Any]
    ) -> NDArray[np.uint8]:
        task: Task = "text" if start is None else "image" if start.mask is None else "mask"
        pipeline = self._pipeline_for(task)
        pipeline.scheduler = make_scheduler(generation.scheduler, self.manifest.diffusion, generation.sigma_schedule)
        width, height = latents.generated_size(generation, self.manifest)
        sample = latents.initial_latents(generation, self.manifest)
        arguments: dict[str, Any] = {
            **self._prompts(generation, guided=guided),
            **(
                _start_arguments(start, generation)
                if start
                else {"latents": torch.from_numpy(sample).to(self._pipeline.dtype)}
            ),
            "num_inference_steps": generation.num_inference_steps,
            "guidance_scale": generation.guidance_scale,
            "width": width,
            "height": height,
            "output_type": "pt",
            "callback_on_step_end": after_step,
        }
        if generation.scheduler == "tcd":
            arguments["eta"] = self.manifest.diffusion.eta
        accepted = inspect.signature(pipeline.__call__).parameters
        steps = itertools.count(generation.num_inference_steps - generation.steps)
        step_noise = latents.step_noise(generation.seed)
        noises: dict[type, Noise] = {
            type(pipeline): lambda _: sample,
            DiagonalGaussianDistribution: lambda shape: latents.posterior_noise(generation.seed, shape),
            type(pipeline.scheduler): lambda shape: step_noise(next(steps), shape),
        }
        with _seeded(noises):
            images = pipeline(**{name: value for name, value in arguments.items() if name in accepted}).images
        return to_pixels(images.float().numpy() * 2 - 1)

    def _pipeline_for(self, task: Task) -> Any:
        """Return the folder's components as the pipeline for a task."""
        if task not in self._pipelines:
            pipeline_class = _task_class(type(self._pipeline), task)
            # Not `from_pipe`, which refuses a tiny autoencoder.
            parts = {**self._pipeline.config, **self._pipeline.components}
            if not isinstance(self._pipeline.unet.config.sample_size, int):
                # The inpainting class compares it with a number. It is only a default; every call passes a size.
                default = self.manifest.defaults.width // self.manifest.latents.factor
                self._pipeline.unet.register_to_config(sample_size=default)
            accepted = inspect.signature(pipeline_class.__init__).parameters
            pipeline = pipeline_class(**{name: part for name, part in parts.items() if name in accepted})
            pipeline.set_progress_bar_config(disable=True)
            self._pipelines[task] = pipeline
        return self._pipelines[task]

    def _prompts(self, generation: Generation, *, guided: bool) -> dict[str, Any]:
        """Return the pipeline's arguments for the prompts: embeddings, or texts where these give the same."""
        # None, and not an empty text, makes SDXL pipelines use zeros as the unconditional embedding.
        negative = generation.negative_prompt or None if guided else None
        if generation.prompt_syntax == "plain":
            return {"prompt": generation.prompt, "negative_prompt": negative}
        # Left out, the pipeline makes the zeros itself.
        zeros = negative is None and getattr(self._pipeline.config, "force_zeros_for_empty_prompt", False)
        prompts = [generation.prompt, generation.negative_prompt] if guided and not zeros else [generation.prompt]
        pieces = [[text.tokenizer.pieces(each, generation.prompt_syntax) for text in self._texts] for each in prompts]
        longest = max(len(each) for own in pieces for each in own)
        arguments = {}
        for prefix, own in zip(("", "negative_"), pieces, strict=False):
            texts = list(zip(self._texts, own, strict=True))
            hidden = torch.cat([text.embed(each, longest) for text, each in texts], dim=2)
            arguments[f"{prefix}prompt_embeds"] = hidden.to(self._pipeline.dtype)
            if len(texts) > 1:
                arguments[f"{prefix}pooled_prompt_embeds"] = self._texts[-1].pool(own[-1])
        return arguments

    def _read_pipeline(self) -> Any:
        try:
            components = DiffusionPipeline.load_config(self.folder, local_files_only=True)
            without = {name: None for name in _NOT_LOADED if name in components}
            return DiffusionPipeline.from_pretrained(
                self.folder, use_safetensors=True, local_files_only=True, **without
            )
        except Exception as error:  # diffusers, transformers and safetensors share no narrower class
            raise ModelError(
                f"The model in {self.folder} cannot be loaded: {first_line(error)}",
                fix='Bake the model again with `engine="diffusers"`.',
            ) from error

    def _read_texts(self, pipeline: Any) -> list[_Text]:
        suffixes = ("", "_2") if hasattr(pipeline, "text_encoder_2") else ("",)
        return [
            _Text(
                self._copy_tokenizer(getattr(pipeline, f"tokenizer{suffix}")),
                getattr(pipeline, f"text_encoder{suffix}"),
                inner=len(suffixes) > 1,
            )
            for suffix in suffixes
        ]

    def _copy_tokenizer(self, tokenizer: Any) -> PromptTokenizer:
        """Return our tokenizer on a copy of the pipeline's, which stays unchanged."""
        backend = tokenizer.backend_tokenizer
        return PromptTokenizer(
            backend.from_str(backend.to_str()),
            max_length=self.manifest.text.max_length,
            pad_id=tokenizer.pad_token_id,
            vocabulary=self.manifest.text.vocabulary,
        )


def _task_class(pipeline_class: type, task: Task) -> Any:
    """Return the class of a pipeline for another task with the same components."""
    if task == "text" and "LatentConsistency" in pipeline_class.__name__:
        return LatentConsistencyModelPipeline
    name = "StableDiffusionXL" if "XL" in pipeline_class.__name__ else "StableDiffusion"
    return getattr(diffusers, name + {"text": "Pipeline", "image": "Img2ImgPipeline", "mask": "InpaintPipeline"}[task])


def _start_arguments(start: StartImage, generation: Generation) -> dict[str, Any]:
    """Return a pipeline's arguments for a start image; its noise is drawn, see `_seeded`."""
    arguments = {"image": torch.from_numpy((start.pixels + 1) / 2), "strength": generation.strength}
    return arguments if start.mask is None else arguments | {"mask_image": torch.from_numpy(start.mask)}

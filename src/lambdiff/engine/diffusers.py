"""The reference engine: a `DiffusionPipeline` of diffusers, in torch on the CPU.

It runs any text-to-image pipeline with a UNet that predicts noise or v, from safetensors only. The safety checker is
not loaded; images are returned as the model generates them.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
)
from diffusers.schedulers.scheduling_lcm import LCMSchedulerOutput
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from lambdiff import forks
from lambdiff.engine import cpu, guidance, latents, schedulers
from lambdiff.engine.base import LOADING, EngineOutput, first_line, report_step
from lambdiff.engine.finishing import finish
from lambdiff.engine.manifest import Diffusion, Manifest
from lambdiff.engine.native_library import NativeLibrary
from lambdiff.engine.pixels import to_pixels
from lambdiff.engine.tokenizer import PromptTokenizer
from lambdiff.errors import ModelError
from lambdiff.protocol.contract import Generation, OnStep

_NOT_LOADED: Final = ("safety_checker", "feature_extractor", "image_encoder")
_SCHEDULE_FIELDS: Final = ("prediction_type", "beta_schedule", "beta_start", "beta_end", "num_train_timesteps")


_torch: Final = NativeLibrary("PyTorch")


class _SeededLCM(LCMScheduler):  # type: ignore[misc]
    """LCM that draws the noise between steps from the request's numpy generator, as the OpenVINO engine does."""

    noise: np.random.Generator

    def step(
        self, model_output: Any, timestep: Any, sample: Any, generator: Any = None, return_dict: bool = True
    ) -> Any:
        unused = torch.Generator().manual_seed(0)
        is_last = (self.step_index or 0) == len(self.timesteps) - 1
        denoised = super().step(model_output, timestep, sample, generator=unused).denoised
        if is_last:
            next_sample = denoised
        else:
            alpha = self.alphas_cumprod[self.timesteps[self.step_index]]
            fresh = torch.from_numpy(self.noise.standard_normal(tuple(sample.shape), dtype=np.float32))
            next_sample = alpha.sqrt() * denoised + (1 - alpha).sqrt() * fresh.to(denoised.dtype)
        return (
            LCMSchedulerOutput(prev_sample=next_sample, denoised=denoised) if return_dict else (next_sample, denoised)
        )


def make_scheduler(generation: Generation, diffusion: Diffusion, noise: np.random.Generator) -> Any:
    """Return diffusers' scheduler for a request, with the manifest's noise process."""
    settings = {name: getattr(diffusion, name) for name in _SCHEDULE_FIELDS}
    spacing = {"timestep_spacing": diffusion.timestep_spacing, "steps_offset": diffusion.steps_offset}
    end = {"set_alpha_to_one": diffusion.set_alpha_to_one}
    match generation.scheduler:
        case "ddim":
            return DDIMScheduler(**settings, **spacing, **end, clip_sample=False)
        case "dpmpp_2m":
            return DPMSolverMultistepScheduler(**settings, **spacing)
        case "euler":
            return EulerDiscreteScheduler(**settings, **spacing)
        case "pndm":
            return PNDMScheduler(**settings, **spacing, **end, skip_prk_steps=True)
        case "lcm":
            lcm = _SeededLCM(**settings, **end, original_inference_steps=diffusion.original_inference_steps)
            lcm.noise = noise
            return lcm


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
            self._tokenizer = self._copy_tokenizer(pipeline.tokenizer)
            self._pipeline = pipeline

    def generate(self, generation: Generation, on_step: OnStep | None = None) -> EngineOutput:
        """Generate one image; see `Engine.generate`. Concurrent requests wait for each other."""
        self.load()
        with self._lock, torch.inference_mode():
            return self._generate(generation, on_step)

    def _generate(self, generation: Generation, on_step: OnStep | None) -> EngineOutput:
        # 1. Noise and schedule. Our own scheduler rejects what diffusers' cannot run, and knows the number of calls.
        noise = latents.noise_generator(generation.seed)
        diffusion, steps = self.manifest.diffusion, generation.num_inference_steps
        calls = len(schedulers.make(generation.scheduler, diffusion, steps, noise).timesteps)
        sample = latents.initial_latents(generation, self.manifest, noise)
        self._pipeline.scheduler = make_scheduler(generation, diffusion, noise)
        guided = guidance.is_guided(generation, self.manifest)
        warnings = self._tokenizer.warnings_for(generation, guided=guided)
        # 2. Encode, denoise and decode, which a pipeline does in one call.
        times = [time.perf_counter()]

        def after_step(_: Any, index: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
            times.append(time.perf_counter())
            report_step(on_step, index + 1, calls)
            return values

        pixels = self._run_pipeline(generation, sample, guided=guided, after_step=after_step)
        # The pipeline does not report when encoding ends, so encoding counts as denoising.
        timings = {"denoise": times[-1] - times[0], "decode": time.perf_counter() - times[-1]}
        # 3. Finish: pixels get the requested size.
        return finish(pixels, generation, self.manifest, timings=timings, warnings=warnings)

    def _run_pipeline(
        self, generation: Generation, sample: NDArray[np.float32], *, guided: bool, after_step: Callable[..., Any]
    ) -> NDArray[np.uint8]:
        width, height = latents.generated_size(generation, self.manifest)
        arguments: dict[str, Any] = {
            "prompt": generation.prompt,
            "negative_prompt": generation.negative_prompt if guided else None,
            "num_inference_steps": generation.num_inference_steps,
            "guidance_scale": generation.guidance_scale,
            "width": width,
            "height": height,
            "latents": torch.from_numpy(sample).to(self._pipeline.dtype),
            "output_type": "pt",
            "callback_on_step_end": after_step,
        }
        accepted = inspect.signature(self._pipeline.__call__).parameters
        images = self._pipeline(**{name: value for name, value in arguments.items() if name in accepted}).images
        return to_pixels(images.float().numpy() * 2 - 1)

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

    def _copy_tokenizer(self, tokenizer: Any) -> PromptTokenizer:
        """Return our tokenizer on a copy of the pipeline's, which stays unchanged."""
        backend = tokenizer.backend_tokenizer
        return PromptTokenizer(
            backend.from_str(backend.to_str()),
            max_length=self.manifest.text.max_length,
            pad_id=tokenizer.pad_token_id,
            vocabulary=self.manifest.text.vocabulary,
        )

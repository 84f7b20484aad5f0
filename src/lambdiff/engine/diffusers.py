"""The reference engine: a `DiffusionPipeline` of diffusers, in torch on the CPU.

It draws with any text-to-image pipeline whose scheduler is of the Stable Diffusion kind (a `unet` that predicts noise
or v), from safetensors alone. The safety checker is not loaded: pictures are returned as the model draws them.
"""

from __future__ import annotations

import inspect
import threading
import time
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
from transformers.utils import logging as transformers_logging

from lambdiff.engine import cpu, latents, schedulers
from lambdiff.engine.base import EngineOutput
from lambdiff.engine.manifest import Diffusion, Manifest
from lambdiff.engine.pixels import crop, fit, to_pixels
from lambdiff.engine.tokenizer import PromptTokenizer
from lambdiff.errors import Cancelled, ModelError
from lambdiff.protocol.contract import Generation
from lambdiff.protocol.http import OnStep

_LEFT_OUT: Final = ("safety_checker", "feature_extractor", "image_encoder")
_NOISE_SETTINGS: Final = ("prediction_type", "beta_schedule", "beta_start", "beta_end", "num_train_timesteps")


class _SeededLCM(LCMScheduler):  # type: ignore[misc]
    """LCM whose noise between the steps comes from the request's numpy generator, as in the other engine."""

    noise: np.random.Generator

    def step(
        self, model_output: Any, timestep: Any, sample: Any, generator: Any = None, return_dict: bool = True
    ) -> Any:
        unused = torch.Generator().manual_seed(0)
        last = (self.step_index or 0) == len(self.timesteps) - 1
        denoised = super().step(model_output, timestep, sample, generator=unused).denoised
        if last:
            following = denoised
        else:
            alpha = self.alphas_cumprod[self.timesteps[self.step_index]]
            fresh = torch.from_numpy(self.noise.standard_normal(tuple(sample.shape), dtype=np.float32))
            following = alpha.sqrt() * denoised + (1 - alpha).sqrt() * fresh.to(denoised.dtype)
        return LCMSchedulerOutput(prev_sample=following, denoised=denoised) if return_dict else (following, denoised)


def make_scheduler(generation: Generation, diffusion: Diffusion, noise: np.random.Generator) -> Any:
    """diffusers' scheduler for a request, with the noise process of the manifest."""
    settings = {name: getattr(diffusion, name) for name in _NOISE_SETTINGS}
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
    """Draws with diffusers.

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
        self._lock = threading.RLock()
        self._pipeline: Any = None

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._pipeline is not None

    @property
    def threads(self) -> int:
        """Threads a request uses: one for each processor there is."""
        return cpu.threads()

    def load(self) -> None:
        """Read the pipeline; a second call does nothing."""
        with self._lock:
            if self.loaded:
                return
            # Their warnings quote the prompt.
            for logging in (diffusers_logging, transformers_logging):
                logging.set_verbosity_error()
                logging.disable_progress_bar()
            torch.set_num_threads(self.threads)
            dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
            without = {name: None for name in _LEFT_OUT if name in self._components()}
            try:
                pipeline = DiffusionPipeline.from_pretrained(
                    self.folder, use_safetensors=True, local_files_only=True, **without
                )
            except Exception as error:  # diffusers, transformers and safetensors raise nothing narrower together
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise ModelError(
                    f"{self.folder} cannot be loaded: {reason[:200]}",
                    fix="Bake the model again with --engine diffusers.",
                ) from error
            pipeline.to(dtype)
            pipeline.set_progress_bar_config(disable=True)
            text = self.manifest.text
            tokenizer = pipeline.tokenizer
            self._tokenizer = PromptTokenizer(
                tokenizer.backend_tokenizer.from_str(tokenizer.backend_tokenizer.to_str()),
                max_length=text.max_length,
                pad_id=tokenizer.pad_token_id,
                vocabulary=text.vocabulary,
            )
            self._pipeline = pipeline

    def generate(self, generation: Generation, on_step: OnStep | None = None) -> EngineOutput:
        """Draw one picture; requests that come at the same time wait for each other."""
        self.load()
        with self._lock, torch.inference_mode():
            return self._draw(generation, on_step)

    def _components(self) -> list[str]:
        return list(DiffusionPipeline.load_config(self.folder, local_files_only=True))

    def _draw(self, generation: Generation, on_step: OnStep | None) -> EngineOutput:
        manifest, pipeline = self.manifest, self._pipeline
        noise = latents.noise_generator(generation.seed)
        # Ours refuses what the scheduler cannot do, and knows how many calls there will be.
        ours = schedulers.make(generation.scheduler, manifest.diffusion, generation.num_inference_steps, noise)
        count = len(ours.timesteps)
        first = latents.initial_latents(generation, manifest, noise)
        pipeline.scheduler = make_scheduler(generation, manifest.diffusion, noise)
        guided = generation.guided and not manifest.guidance_embedding
        warnings = self._tokenizer.warnings(generation.prompt)
        if guided:
            warnings += self._tokenizer.warnings(generation.negative_prompt, what="negative prompt")
        moments = [time.perf_counter()]

        def after_step(_: Any, index: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
            moments.append(time.perf_counter())
            if on_step is not None and on_step(index + 1, count):
                raise Cancelled(f"Stopped after step {index + 1} of {count}.")
            return values

        width, height = latents.drawn_size(generation, manifest)
        arguments: dict[str, Any] = {
            "prompt": generation.prompt,
            "negative_prompt": generation.negative_prompt if guided else None,
            "num_inference_steps": generation.num_inference_steps,
            "guidance_scale": generation.guidance_scale,
            "width": width,
            "height": height,
            "latents": torch.from_numpy(first).to(pipeline.dtype),
            "output_type": "pt",
            "callback_on_step_end": after_step,
        }
        accepted = inspect.signature(pipeline.__call__).parameters
        drawn = pipeline(**{name: value for name, value in arguments.items() if name in accepted}).images
        pixels = to_pixels(drawn.float().numpy() * 2 - 1)
        end = time.perf_counter()
        # The pipeline does not say when encoding ends, so it counts as denoising.
        timings = {"denoise": moments[-1] - moments[0], "decode": end - moments[-1]}
        if manifest.native_size:
            pixels, resized = fit(pixels, generation.width, generation.height)
            warnings += resized
            timings["resize"] = time.perf_counter() - end
        else:
            pixels = crop(pixels, generation.width, generation.height)
        return EngineOutput(pixels=pixels, timings=timings, warnings=warnings)

"""The denoising loop of families with a UNet: guidance, limited guidance intervals, DeepCache and start images.

    unet           sample (b, channels, h, w), timestep (1,), and the conditioning's inputs   -> (b, channels, h, w)

The samples of one call are the same latents, once for each prompt; `bake/graph_rewrites.py` relies on this.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from lambdiff.engine import deepcache, guidance, latents, schedulers
from lambdiff.engine.base import report_step
from lambdiff.engine.deepcache import CachedUNet
from lambdiff.engine.manifest import Manifest
from lambdiff.engine.pipelines.base import Array, Conditioning
from lambdiff.engine.runtime import Part, Runtime, Shape
from lambdiff.protocol.contract import Generation, OnStep

_WHOLE_INTERVAL = (0.0, 1.0)


class UNetDenoiser:
    """Denoises latents with a UNet that predicts noise or v.

    Args:
        manifest: the model's manifest, with the noise process and the approximations.
        runtime: runs the UNet.

    Attributes:
        parts: the UNet and, with DeepCache, its outer layers.
        estimate: returns the clean latents that the last call implies; None before the first.
    """

    parts: Sequence[Part]

    def __init__(self, manifest: Manifest, runtime: Runtime) -> None:
        self._manifest = manifest
        self._runtime = runtime
        self.estimate: Callable[[], Array] | None = None
        if manifest.approximations.deepcache_interval == 1:
            self.parts = (Part("unet"),)
        else:
            self.parts = (
                Part("unet", rewrite=deepcache.with_features),
                Part("unet_outer", "unet", rewrite=deepcache.outer),
            )

    def shapes(self, generation: Generation, tokens: int) -> dict[str, Collection[Shape]]:
        """Return, by part, the shapes that a request may call it with; `tokens` is the length of its prompts."""
        *_, height, width = latents.latents_shape(generation, self._manifest)
        if not guidance.is_guided(generation, self._manifest):
            batches = [1]
        elif self._manifest.approximations.guidance_interval == _WHOLE_INTERVAL:
            batches = [2]
        else:
            batches = [2, 1]
        return {part.name: [Shape(batch, height, width, tokens) for batch in batches] for part in self.parts}

    def warnings(self, generation: Generation) -> list[str]:
        """Warn if the guidance interval contains none of a guided request's steps."""
        steps = generation.steps
        guides = self._manifest.approximations.guides
        if not guidance.is_guided(generation, self._manifest) or any(guides(step, steps) for step in range(steps)):
            return []
        return [f"With {steps} steps, this model's guidance interval contains none of them; request more steps."]

    def denoise(self, generation: Generation, conditioning: Conditioning, on_step: OnStep | None) -> Array:
        """See `Pipeline.denoise`."""
        # 1. The schedule, and noise at its first level, on the start image if there is one.
        scheduler = schedulers.for_request(generation, self._manifest.diffusion)
        noise, start = latents.initial_latents(generation, self._manifest), conditioning.start
        sample = start.first_sample(scheduler, noise) if start else noise * np.float32(scheduler.init_noise_sigma)
        unet = self._unet(generation, conditioning)
        timesteps = scheduler.remaining
        calls = len(timesteps)
        for call, timestep in enumerate(timesteps):
            # 2. The model's prediction, with an unconditional pass if this call is guided.
            guided = conditioning.guided and self._manifest.approximations.guides(call, calls)
            scaled = scheduler.scale_model_input(sample)
            model_input = start.model_input(scaled) if start else scaled
            inputs = _inputs(model_input, timestep, conditioning, batch=2 if guided else 1)
            output = unet(call, inputs)
            # 3. Guidance.
            if guided:
                output = guidance.combine(output, generation.guidance_scale)
            # 4. The next, less noisy sample, and outside of a mask the start image.
            self.estimate = functools.partial(scheduler.estimate, output, sample, scheduler.noise_level())
            sample = scheduler.step(output, sample)
            if start:
                sample = start.keep_outside(scheduler, sample, noise)
            report_step(on_step, call + 1, calls)
        return sample

    def _unet(self, generation: Generation, conditioning: Conditioning) -> CachedUNet:
        """Return the UNet for one request, with graphs chosen for all of its calls."""
        tokens = conditioning.inputs["encoder_hidden_states"].shape[1]
        served = {part: self._runtime.serve(part, shapes) for part, shapes in self.shapes(generation, tokens).items()}
        interval = self._manifest.approximations.deepcache_interval
        return CachedUNet(served["unet"], served.get("unet_outer", served["unet"]), interval)


def _inputs(sample: Array, timestep: float, conditioning: Conditioning, *, batch: int) -> dict[str, Any]:
    return {
        "sample": np.repeat(sample.astype(np.float32, copy=False), batch, axis=0),
        "timestep": np.array([timestep], dtype=np.float32),
        **conditioning.batch(batch),
    }

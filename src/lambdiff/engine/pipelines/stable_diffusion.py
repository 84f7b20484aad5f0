"""Stable Diffusion 1.x and 2.x, and models with their architecture: a CLIP text encoder and a UNet.

text_encoder   see `clip_text.py`
unet           sample (b, channels, h, w), timestep (1,), encoder_hidden_states (b, tokens, width)
               and, with a guidance embedding, timestep_cond (1, n)         -> (b, channels, h, w)
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from lambdiff.engine import guidance
from lambdiff.engine.manifest import Manifest
from lambdiff.engine.pipelines.base import Array, Conditioning
from lambdiff.engine.pipelines.clip_text import ClipText
from lambdiff.engine.pipelines.unet import UNetDenoiser
from lambdiff.engine.runtime import Runtime, Shape
from lambdiff.protocol.contract import Generation, OnStep


class StableDiffusionPipeline:
    """See `Pipeline`."""

    def __init__(self, folder: Path, manifest: Manifest, runtime: Runtime) -> None:
        self._manifest = manifest
        self._text = ClipText(folder, manifest.text, runtime)
        self._denoiser = UNetDenoiser(manifest, runtime)
        self.parts = (*self._denoiser.parts, self._text.part)

    def load(self) -> None:
        """Read the tokenizer.

        Raises:
            Exception: the tokenizer's own, if its file is missing or damaged.
        """
        import numpy.random  # noqa: F401 (numpy would import it at the first noise)

        self._text.load()

    def shapes(self, generation: Generation) -> dict[str, Collection[Shape]]:
        """Return, by part, the shapes that a request calls it with if its prompts have one piece each."""
        return {**self._denoiser.shapes(generation, self._manifest.text.max_length), **self._text.shapes}

    def encode(self, generation: Generation) -> Conditioning:
        """Embed the prompt and, if guided, the negative prompt."""
        guided = guidance.is_guided(generation, self._manifest)
        prompts = [generation.negative_prompt, generation.prompt] if guided else [generation.prompt]
        pieces = [self._text.pieces(prompt, generation.prompt_syntax) for prompt in prompts]
        longest = max(map(len, pieces))
        inputs = {"encoder_hidden_states": np.concatenate([self._text.embed(each, longest) for each in pieces])}
        inputs |= guidance.embedded_scale(generation, self._manifest)
        warnings = self._text.tokenizer.warnings_for(generation, guided=guided) + self._denoiser.warnings(generation)
        return Conditioning(inputs, guided, warnings)

    @property
    def estimate(self) -> Array | None:
        """See `Pipeline.estimate`."""
        return self._denoiser.estimate() if self._denoiser.estimate else None

    def denoise(self, generation: Generation, conditioning: Conditioning, on_step: OnStep | None) -> Array:
        """See `Pipeline.denoise`."""
        return self._denoiser.denoise(generation, conditioning, on_step)

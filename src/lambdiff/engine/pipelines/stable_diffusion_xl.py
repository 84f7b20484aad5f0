"""Stable Diffusion XL, and models with its architecture: two CLIP text encoders and a UNet.

    text_encoder, text_encoder_2   see `clip_text.py`; the hidden states are those before the last layer
    unet           sample (b, channels, h, w), timestep (1,), encoder_hidden_states (b, tokens, width + width 2),
                   text_embeds (b, n), time_ids (b, 6) and, with a guidance embedding, timestep_cond (1, n)
                                                                                -> (b, channels, h, w)

`text_embeds` is the pooled vector of the second text encoder. `time_ids` are six numbers that the model was trained
with to tell cropped and upscaled images apart; as in diffusers, a request asks for an uncropped image of its own size.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from lambdiff.engine import guidance, latents
from lambdiff.engine.manifest import Manifest
from lambdiff.engine.pipelines.base import Array, Conditioning
from lambdiff.engine.pipelines.clip_text import ClipText
from lambdiff.engine.pipelines.unet import UNetDenoiser
from lambdiff.engine.runtime import Runtime, Shape
from lambdiff.engine.tokenizer import Piece
from lambdiff.protocol.contract import Generation, OnStep


class StableDiffusionXLPipeline:
    """See `Pipeline`."""

    def __init__(self, folder: Path, manifest: Manifest, runtime: Runtime) -> None:
        self._manifest = manifest
        self._texts = (
            ClipText(folder, manifest.text, runtime),
            ClipText(folder, manifest.text, runtime, part="text_encoder_2", tokenizer="tokenizer_2.json"),
        )
        self._denoiser = UNetDenoiser(manifest, runtime)
        self.parts = (*self._denoiser.parts, *(text.part for text in self._texts))

    def load(self) -> None:
        """Read the tokenizers.

        Raises:
            Exception: the tokenizer's own, if a file is missing or damaged.
        """
        import numpy.random  # noqa: F401 (numpy would import it at the first noise)

        for text in self._texts:
            text.load()

    def shapes(self, generation: Generation) -> dict[str, Collection[Shape]]:
        """Return, by part, the shapes that a request calls it with if its prompts have one piece each."""
        first, second = self._texts
        denoiser = self._denoiser.shapes(generation, self._manifest.text.max_length)
        return {**denoiser, **first.shapes, **second.shapes}

    def encode(self, generation: Generation) -> Conditioning:
        """Embed the prompt and, if guided, the negative prompt with both text encoders."""
        guided = guidance.is_guided(generation, self._manifest)
        # 1. The unconditional pass is that of the negative prompt, or of zeros.
        zeros = guided and not generation.negative_prompt and self._manifest.text.zeros_for_empty_negative
        prompts = [generation.negative_prompt, generation.prompt] if guided and not zeros else [generation.prompt]
        # 2. The hidden states of both text encoders side by side, and the pooled vector of the second.
        pieces = [[text.pieces(prompt, generation.prompt_syntax) for text in self._texts] for prompt in prompts]
        longest = max(len(each) for both in pieces for each in both)
        hidden = np.concatenate([self._embed(both, longest) for both in pieces])
        pooled = np.concatenate([self._texts[1].pool(second) for _, second in pieces])
        if zeros:
            hidden, pooled = (np.concatenate([np.zeros_like(each), each]) for each in (hidden, pooled))
        # 3. The size conditions: an original of the generated size, not cropped.
        width, height = latents.generated_size(generation, self._manifest)
        size = np.array([[height, width, 0, 0, height, width]], np.float32)
        inputs = {
            "encoder_hidden_states": hidden,
            "text_embeds": pooled,
            "time_ids": np.repeat(size, len(hidden), axis=0),
            **guidance.embedded_scale(generation, self._manifest),
        }
        warnings = self._texts[0].tokenizer.warnings_for(generation, guided=guided)
        return Conditioning(inputs, guided, warnings + self._denoiser.warnings(generation))

    def _embed(self, pieces: list[list[Piece]], count: int) -> Array:
        return np.concatenate([text.embed(own, count) for text, own in zip(self._texts, pieces, strict=True)], axis=2)

    @property
    def estimate(self) -> Array | None:
        """See `Pipeline.estimate`."""
        return self._denoiser.estimate() if self._denoiser.estimate else None

    def denoise(self, generation: Generation, conditioning: Conditioning, on_step: OnStep | None) -> Array:
        """See `Pipeline.denoise`."""
        return self._denoiser.denoise(generation, conditioning, on_step)

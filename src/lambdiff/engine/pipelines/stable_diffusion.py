"""Stable Diffusion 1.x and 2.x, and models with their architecture: a CLIP text encoder and a UNet.

    text_encoder   input_ids (1, tokens) int64                                  -> (1, tokens, width)
    unet           sample (b, channels, h, w), timestep (1,), encoder_hidden_states (b, tokens, width)
                   and, with a guidance embedding, timestep_cond (1, n)         -> (b, channels, h, w)

`tokenizer.json` is read with the `tokenizers` package.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import numpy as np

from lambdiff.engine import guidance
from lambdiff.engine.manifest import Manifest
from lambdiff.engine.pipelines.base import Array, Conditioning
from lambdiff.engine.pipelines.unet import UNetDenoiser
from lambdiff.engine.runtime import Part, Runtime, Shape
from lambdiff.engine.tokenizer import Piece, PromptTokenizer
from lambdiff.protocol.contract import Generation, OnStep

TOKENIZER: Final = "tokenizer.json"
CACHED_PROMPTS: Final = 32
"""How many embeddings of prompts, or of their pieces, are cached, including the empty negative prompt."""
_ONE_PROMPT: Final = Shape(1)


class StableDiffusionPipeline:
    """See `Pipeline`."""

    _tokenizer: PromptTokenizer
    _embed: Callable[[tuple[int, ...]], Array]

    def __init__(self, folder: Path, manifest: Manifest, runtime: Runtime) -> None:
        self._folder = folder
        self._manifest = manifest
        self._runtime = runtime
        self._denoiser = UNetDenoiser(manifest, runtime)
        self.parts = (*self._denoiser.parts, Part("text_encoder"))

    def load(self) -> None:
        """Read the tokenizer.

        Raises:
            Exception: the tokenizer's own, if its file is missing or damaged.
        """
        import numpy.random  # noqa: F401 (numpy would import it at the first noise)

        self._tokenizer = _read_tokenizer(self._folder, self._manifest)
        # Not a bound method: in a reference cycle, the weights would stay in memory after the engine is dropped.
        self._embed = lru_cache(CACHED_PROMPTS)(partial(_run_text_encoder, self._runtime))

    def shapes(self, generation: Generation) -> dict[str, Collection[Shape]]:
        """Return, by part, the shapes that a request calls it with if its prompts have one piece each."""
        denoiser = self._denoiser.shapes(generation, self._manifest.text.max_length)
        return {**denoiser, "text_encoder": [_ONE_PROMPT]}

    def encode(self, generation: Generation) -> Conditioning:
        """Embed the prompt and, if guided, the negative prompt."""
        guided = guidance.is_guided(generation, self._manifest)
        prompts = [generation.negative_prompt, generation.prompt] if guided else [generation.prompt]
        pieces = [self._tokenizer.pieces(prompt, generation.prompt_syntax) for prompt in prompts]
        longest = max(map(len, pieces))
        embeddings = [self._embed_pieces(self._tokenizer.padded(each, longest)) for each in pieces]
        inputs = {"encoder_hidden_states": np.concatenate(embeddings)}
        if width := self._manifest.guidance_embedding:
            inputs["timestep_cond"] = guidance.guidance_embedding(generation.guidance_scale, width)
        warnings = self._tokenizer.warnings_for(generation, guided=guided) + self._denoiser.warnings(generation)
        return Conditioning(inputs, guided, warnings)

    def _embed_pieces(self, pieces: Sequence[Piece]) -> Array:
        """Return the pieces' embeddings side by side, (1, tokens, width)."""
        return np.concatenate([piece.weigh(self._embed(tuple(piece.ids[0]))) for piece in pieces], axis=1)

    def denoise(self, generation: Generation, conditioning: Conditioning, on_step: OnStep | None) -> Array:
        """See `Pipeline.denoise`."""
        return self._denoiser.denoise(generation, conditioning, on_step)


def _run_text_encoder(runtime: Runtime, ids: tuple[int, ...]) -> Array:
    encode = runtime.serve("text_encoder", [_ONE_PROMPT])
    (embeddings,) = encode({"input_ids": np.array([ids], np.int64)})
    return embeddings


def _read_tokenizer(folder: Path, manifest: Manifest) -> PromptTokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    pad_id = (tokenizer.padding or {"pad_id": 0})["pad_id"]
    text = manifest.text
    return PromptTokenizer(tokenizer, max_length=text.max_length, pad_id=pad_id, vocabulary=text.vocabulary)

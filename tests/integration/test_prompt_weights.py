"""Weighted and long prompts give the same image as diffusers' pipeline with embeddings from a plain torch reference."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from lambdiff.bake.bake import bake
from lambdiff.engine import latents
from lambdiff.engine import manifest as manifests
from lambdiff.engine.base import Engine
from lambdiff.engine.diffusers import DiffusersEngine
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.engine.pixels import to_pixels
from lambdiff.protocol.contract import Generation
from support import tiny_pipeline, tiny_xl

pytestmark = pytest.mark.engine

Pieces = list[list[tuple[str, float]]]
"""Pieces of 14 tokens; in each, words and their weights."""
NAME = "embeddings-with-a-mean"
SQUARE = 1 / 1.1
LONG = ["a", "cat", "in", "the", "top", "hat", "with", "red", "background", "on", "blue", "dog"] * 2
CASES: dict[str, tuple[str, str, Pieces, Pieces]] = {
    "weights": (
        "a (cat:1.5) in ((the)) [top] hat",
        "(dog:0.7)",
        [[("a", 1), ("cat", 1.5), ("in", 1), ("the", 1.1 * 1.1), ("top", SQUARE), ("hat", 1)]],
        [[("dog", 0.7)]],
    ),
    "more pieces than the negative prompt": (
        " ".join(LONG),
        "dog",
        [[(word, 1) for word in LONG[:14]], [(word, 1) for word in LONG[14:]]],
        [[("dog", 1)], []],
    ),
    "fewer pieces than the negative prompt": (
        "a (cat:1.2)",
        "a dog BREAK a (red:1.4) hat BREAK blue",
        [[("a", 1), ("cat", 1.2)], [], []],
        [[("a", 1), ("dog", 1)], [("a", 1), ("red", 1.4), ("hat", 1)], [("blue", 1)]],
    ),
    "plain text": ("a cat in the top hat", "", [[(word, 1) for word in ["a", "cat", "in", "the", "top", "hat"]]], [[]]),
}


def request_with(prompt: str, negative_prompt: str, **changes: Any) -> Generation:
    """Return a small request."""
    request = Generation(
        prompt=prompt, negative_prompt=negative_prompt, num_inference_steps=3, guidance_scale=4.0,
        width=64, height=64, seed=7, scheduler="euler", prompt_syntax="a1111",
    )  # fmt: skip
    return msgspec.structs.replace(request, **changes)


def embed(pipeline: Any, pieces: Pieces, suffix: str = "") -> torch.Tensor:
    """Return the embeddings of pieces: each is encoded, multiplied with its weights, and gets its old mean."""
    embedded = []
    for piece in pieces:
        weights = [1.0, *(weight for _, weight in piece)]
        weights += [1.0] * (16 - len(weights))
        output = run(pipeline, piece, suffix)
        hidden = output.hidden_states[-2] if hasattr(pipeline, "text_encoder_2") else output.last_hidden_state
        weighted = hidden * torch.tensor(weights)[None, :, None]
        embedded.append(weighted * (hidden.mean() / weighted.mean()))
    return torch.cat(embedded, dim=1)


def run(pipeline: Any, piece: list[tuple[str, float]], suffix: str) -> Any:
    """Return the output of a text encoder for one piece."""
    tokenizer = getattr(pipeline, f"tokenizer{suffix}")
    ids = tokenizer(" ".join(word for word, _ in piece), padding="max_length", max_length=16).input_ids
    return getattr(pipeline, f"text_encoder{suffix}")(torch.tensor([ids]), output_hidden_states=True)


def prompt_arguments(pipeline: Any, pieces: Pieces, negative: Pieces) -> dict[str, torch.Tensor]:
    """Return the arguments of diffusers' pipeline: the pooled vector is that of the first piece, without weights.

    With two text encoders, zeros stand for an empty negative prompt.
    """
    if not hasattr(pipeline, "text_encoder_2"):
        return {"prompt_embeds": embed(pipeline, pieces), "negative_prompt_embeds": embed(pipeline, negative)}
    arguments = {}
    for prefix, each in (("", pieces), ("negative_", negative)):
        scale = 0 if prefix and not any(negative) else 1
        hidden = torch.cat([embed(pipeline, each, suffix) for suffix in ("", "_2")], dim=2)
        arguments[f"{prefix}prompt_embeds"] = hidden * scale
        arguments[f"{prefix}pooled_prompt_embeds"] = run(pipeline, each[0], "_2").text_embeds * scale
    return arguments


@functools.cache
def folder(family: str) -> Path:
    """Return a pipeline whose embeddings have a mean, as those of trained models do."""
    if family == "sd":
        folder = tiny_pipeline.folder(name=NAME)
        parts = {"text_encoder": "final_layer_norm.bias"}
    else:
        folder = Path(shutil.copytree(tiny_xl.folder(), tiny_pipeline.scratch() / f"xl-{NAME}"))
        parts = dict.fromkeys(("text_encoder", "text_encoder_2"), "position_embedding.weight")
    for part, ending in parts.items():
        weights = folder / part / "model.safetensors"
        tensors = load_file(weights)
        (shifted,) = (name for name in tensors if name.endswith(ending))
        tensors[shifted] += 0.2
        save_file(tensors, weights, {"format": "pt"})
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Use one thread, because in networks this small additional threads only wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdiff.engine.cpu.threads", lambda: 1)
        yield


@pytest.fixture(scope="module", params=["sd", "xl"])
def family(request: pytest.FixtureRequest) -> str:
    """Stable Diffusion with one text encoder, or XL with two."""
    return str(request.param)


@pytest.fixture(scope="module")
def pipeline(family: str) -> Any:
    """diffusers' own pipeline."""
    pipeline_class = StableDiffusionPipeline if family == "sd" else StableDiffusionXLPipeline
    pipeline = pipeline_class.from_pretrained(folder(family))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module", params=["openvino", "diffusers"])
def engine(request: pytest.FixtureRequest, family: str) -> Engine:
    """Each engine with the same weights."""
    baked = tiny_pipeline.scratch() / f"{family}-{NAME}-{request.param}"
    bake(folder(family), baked, engine=request.param, precision="f32" if request.param == "openvino" else "auto")
    classes = {"openvino": OpenVinoEngine, "diffusers": DiffusersEngine}
    engine: Engine = classes[request.param](baked, manifests.read(baked), precision="f32")
    return engine


def expected(pipeline: Any, engine: Engine, generation: Generation, pieces: Pieces, negative: Pieces) -> NDArray[Any]:
    """Return the pixels that diffusers' pipeline generates from embeddings."""
    noise = engine.manifest.diffusion
    pipeline.scheduler = EulerDiscreteScheduler.from_config(
        pipeline.scheduler.config, steps_offset=noise.steps_offset, timestep_spacing=noise.timestep_spacing
    )
    with torch.inference_mode():
        images = pipeline(
            **prompt_arguments(pipeline, pieces, negative),
            num_inference_steps=generation.num_inference_steps,
            guidance_scale=generation.guidance_scale,
            width=64,
            height=64,
            latents=torch.from_numpy(latents.initial_latents(generation, engine.manifest)),
            output_type="pt",
        ).images
    return to_pixels(images.numpy() * 2 - 1)


@pytest.mark.parametrize("case", CASES)
def test_images_equal_the_reference(pipeline: Any, engine: Engine, case: str) -> None:
    """Weights, long prompts, BREAK, and prompts of different lengths: 40 dB or better."""
    prompt, negative_prompt, pieces, negative = CASES[case]
    generation = request_with(prompt, negative_prompt)
    ours = engine.generate(generation).pixels.astype(float)
    theirs = expected(pipeline, engine, generation, pieces, negative).astype(float)
    error = np.mean((ours - theirs) ** 2)
    assert error == 0 or 10 * np.log10(255**2 / error) >= 40
    assert ours.std() > 10


def test_weights_and_further_pieces_count(engine: Engine) -> None:
    """A weight, a further piece and the syntax change the image; the same request again, after others, does not."""
    base = engine.generate(request_with("a (cat:1.5) in the top hat", "dog")).pixels
    for prompt, changes in (
        ("a (cat:1.4) in the top hat", {}),
        ("a (cat:1.5) in the top hat BREAK red", {}),
        ("a (cat:1.5) in the top hat", {"prompt_syntax": "plain"}),
    ):
        assert (engine.generate(request_with(prompt, "dog", **changes)).pixels != base).any()
    assert engine.generate(request_with("a (cat:1.5) in the top hat", "dog")).pixels.tobytes() == base.tobytes()

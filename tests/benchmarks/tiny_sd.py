"""The model of the benchmarks: the architecture of segmind/tiny-sd with random weights, in each contender's format.

    PYTHONPATH=tests python -m benchmarks.tiny_sd [--out build/bench/models]

Speed does not depend on the values of the weights, and the real ones are a large download with a license of their own.
All formats take 11 GB and ten minutes on two cores. Existing folders are not made again.

    pipeline/         diffusers, with f32 safetensors as on the hub; stable-diffusion.cpp reads it, too
    taesd/            an AutoencoderTiny
    baked-*/          lambdiff, one folder for each set of arguments of `bake`
    openvino-full/    the export of optimum-intel with f16 weights, for optimum-intel and OpenVINO GenAI
    openvino-tiny/    the same with the tiny decoder
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import environments

WORK = environments.BUILD / "models"
TOKENS = 77
UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3,
    "mid_block_type": None,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
KL = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "sample_size": 512,
}
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": TOKENS,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
    "hidden_act": "quick_gelu",
}
NOISE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "skip_prk_steps": True,
}


@dataclass(frozen=True)
class Architecture:
    """The sizes of a pipeline, as arguments of classes of diffusers and transformers; by default those of tiny-sd.

    With a second text encoder, it is a pipeline of Stable Diffusion XL.
    """

    name: str = "tiny-sd"
    unet: dict[str, Any] = field(default_factory=lambda: UNET)
    autoencoder: dict[str, Any] = field(default_factory=lambda: KL)
    text: dict[str, Any] = field(default_factory=lambda: TEXT)
    text_2: dict[str, Any] = field(default_factory=dict)
    tiny_autoencoder: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def folder_name(self) -> str:
        """A name that changes with every setting."""
        return f"{self.name}-{_digest(asdict(self))}"


SMALL_XL = Architecture(
    name="small-xl",
    unet={
        "sample_size": 64,
        "block_out_channels": (320, 640),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "transformer_layers_per_block": (1, 4),
        "attention_head_dim": (5, 10),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 6 * 256 + 1280,
    },
    autoencoder=KL | {"scaling_factor": 0.13025},
    text_2=TEXT
    | {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "projection_dim": 1280,
        "num_hidden_layers": 4,
        "num_attention_heads": 20,
        "hidden_act": "gelu",
    },
)
"""The form of Stable Diffusion XL with fewer layers: two levels, and 4 of 32 layers in the second text encoder."""


@dataclass(frozen=True)
class Models:
    """The folders of one architecture in all formats; each is made when it is first used."""

    folder: Path
    architecture: Architecture = Architecture()

    @classmethod
    def under(cls, work: Path, architecture: Architecture | None = None) -> Models:
        """Return the models of an architecture, in a folder below `work`."""
        architecture = architecture or Architecture()
        return cls(work / architecture.folder_name, architecture)

    def of(self, architecture: Architecture) -> Models:
        """Return the models of another architecture, beside these."""
        return Models.under(self.folder.parent, architecture)

    def pipeline(self) -> Path:
        """Return a pipeline folder of diffusers."""
        return once(self.folder / "pipeline", lambda out: _save_pipeline(out, self.architecture))

    def tiny_autoencoder(self) -> Path:
        """Return the folder of an AutoencoderTiny; by default with the architecture of TAESD."""
        return once(self.folder / "taesd", lambda out: _save_tiny(out, self.architecture))

    def baked(
        self, settings: dict[str, Any], changes: dict[str, Any] | None = None, *, left_out: tuple[str, ...] = ()
    ) -> Path:
        """Return a model folder of lambdiff.

        Args:
            settings: arguments of `bake`; `decoder: tiny` stands for `tiny_autoencoder()`.
            changes: fields of the manifest to change afterwards, in a copy that shares the weights.
            left_out: functions of `graph_rewrites.py` to skip, which only a benchmark can do.
        """

        def bake(out: Path) -> None:
            from lambdiff.bake import graph_rewrites
            from lambdiff.bake.bake import bake

            arguments = settings | (
                {"decoder": str(self.tiny_autoencoder())} if settings.get("decoder") == "tiny" else {}
            )
            with contextlib.ExitStack() as stack:
                for rewrite in left_out:
                    stack.enter_context(mock.patch.object(graph_rewrites, rewrite))
                bake(self.pipeline(), out, name=self.architecture.name, license="MIT", progress=_tell, **arguments)

        plain = once(self.folder / f"baked-{_digest([settings, left_out, _conversion()])}", bake)
        if not changes:
            return plain
        return once(self.folder / f"{plain.name}-{_digest(changes)}", lambda out: _with_manifest(plain, out, changes))

    def openvino(self, decoder: str = "full") -> Path:
        """Return a folder that optimum-intel and OpenVINO GenAI read."""
        if decoder == "full":
            return once(self.folder / "openvino-full", lambda out: _export(self.pipeline(), out))
        tiny = self.tiny_autoencoder()
        return once(self.folder / "openvino-tiny", lambda out: _with_decoder(self.openvino(), tiny, out))


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """Make a folder unless it exists. An interrupted run leaves no folder of that name."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"partial-{path.name}")
        shutil.rmtree(partial, ignore_errors=True)
        _tell(f"making {path.name}")
        make(partial)
        partial.rename(path)
    return path


def share(source: Path, out: Path) -> None:
    """Copy a folder with hard links. Replace its files instead of changing them, because both folders share them."""
    shutil.copytree(source, out, copy_function=os.link)


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder and its subfolders."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def flops(architecture: Architecture, width: int, height: int) -> dict[str, float]:
    """Return the floating-point operations of one call of each part, with two for each multiply-add.

    They are counted without computing anything: for diffusers' modules, for one sample, and as lambdiff rewrites them.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from lambdiff.bake import graph_rewrites

    def count(call: Callable[..., object], *inputs: torch.Tensor) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            call(*inputs)
        return float(counter.get_total_flops())

    with torch.device("meta"):
        parts = _parts(architecture)
        latents = torch.zeros(1, 4, height // 8, width // 8)
        texts = torch.zeros(2, TOKENS, architecture.text["hidden_size"])
        tokens = torch.zeros(1, TOKENS, dtype=torch.long)
        one, both = (latents, torch.zeros(1), texts[:1]), (latents.repeat(2, 1, 1, 1), torch.zeros(1), texts)
        counted = {
            "unet": count(parts["unet"], *one),
            "text encoder": count(parts["text_encoder"], tokens),
            "full decoder": count(parts["vae"].decode, latents),
            "tiny decoder": count(parts["tiny"].decode, latents),
        }
        for part in ("unet", "vae", "tiny"):
            graph_rewrites.merge_upsampling(parts[part])
        graph_rewrites.share_guidance(parts["unet"])
        return counted | {
            "unet, rewritten": count(parts["unet"], *one),
            "unet, rewritten, guided": count(parts["unet"], *both),
            "full decoder, rewritten": count(parts["vae"].decode, latents),
            "tiny decoder, rewritten": count(parts["tiny"].decode, latents),
        }


def _parts(architecture: Architecture) -> dict[str, Any]:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    return {
        "unet": UNet2DConditionModel(**architecture.unet).eval(),
        "vae": AutoencoderKL(**architecture.autoencoder).eval(),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**architecture.text)).eval(),
        "tiny": AutoencoderTiny(**architecture.tiny_autoencoder).eval(),
    }


def _save_pipeline(out: Path, architecture: Architecture) -> None:
    import torch
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    torch.manual_seed(architecture.seed)
    parts = _parts(architecture)
    if architecture.text_2:
        _save_xl(out, architecture, parts)
        return
    StableDiffusionPipeline(
        vae=parts["vae"],
        text_encoder=parts["text_encoder"],
        tokenizer=make_tokenizer(),
        unet=parts["unet"],
        scheduler=PNDMScheduler(**NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(out, safe_serialization=True)
    _as_the_hub_has_it(out / "text_encoder" / "model.safetensors")


def _save_xl(out: Path, architecture: Architecture, parts: dict[str, Any]) -> None:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    noise = {name: value for name, value in NOISE.items() if name != "skip_prk_steps"}
    StableDiffusionXLPipeline(
        vae=parts["vae"],
        text_encoder=parts["text_encoder"],
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**architecture.text_2)).eval(),
        tokenizer=make_tokenizer(),
        tokenizer_2=make_tokenizer(),
        unet=parts["unet"],
        scheduler=EulerDiscreteScheduler(**noise, timestep_spacing="trailing"),
        add_watermarker=False,
    ).save_pretrained(out, safe_serialization=True)
    for name in ("text_encoder", "text_encoder_2"):
        _as_the_hub_has_it(out / name / "model.safetensors")


_PROJECTION = "text_projection.weight"


def _as_the_hub_has_it(path: Path) -> None:
    """Restore the prefix that transformers 5 omits: older versions would use random weights, with only a warning."""
    from safetensors.torch import load_file, save_file

    plain = {name.removeprefix("text_model."): value for name, value in load_file(path).items()}
    weights = {name if name == _PROJECTION else f"text_model.{name}": value for name, value in plain.items()}
    path.unlink()
    save_file(weights, path, {"format": "pt"})


def _save_tiny(out: Path, architecture: Architecture) -> None:
    import torch

    torch.manual_seed(architecture.seed)
    _parts(architecture)["tiny"].save_pretrained(out, safe_serialization=True)


def make_tokenizer() -> Any:
    """Return CLIP's tokenizer with the words of the tests, filled up to CLIP's 49,408 ids with unused tokens."""
    from transformers import CLIPTokenizer

    from support.tiny_pipeline import END, START
    from support.tiny_pipeline import make_tokenizer as make_small_tokenizer

    known = json.loads(make_small_tokenizer().backend_tokenizer.to_str())["model"]
    vocab = {token: index for token, index in known["vocab"].items() if token not in {START, END}}
    vocab = {token: index for index, token in enumerate(vocab)}
    for index in range(len(vocab), TEXT["bos_token_id"]):
        vocab[f"<|unused-{index}|>"] = index
    vocab |= {START: TEXT["bos_token_id"], END: TEXT["eos_token_id"]}
    return CLIPTokenizer(vocab=vocab, merges=[tuple(pair) for pair in known["merges"]], model_max_length=TOKENS)


def _with_manifest(baked: Path, out: Path, changes: dict[str, Any]) -> None:
    share(baked, out)
    manifest = json.loads((out / "manifest.json").read_text()) | changes
    (out / "manifest.json").unlink()
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1))


def _export(pipeline: Path, out: Path) -> None:
    """Export the pipeline with optimum-intel, in its own environment, and check the text encoder."""
    command = [environments.program("optimum", "optimum-cli"), "export", "openvino", "--model", pipeline]
    command += ["--library", "diffusers", "--task", "text-to-image", "--weight-format", "fp16", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environments.quiet())
    _check_text_encoder(pipeline, out)


def _check_text_encoder(pipeline: Path, exported: Path) -> None:
    import openvino
    import torch
    from transformers import CLIPTextModel

    original = CLIPTextModel.from_pretrained(pipeline / "text_encoder")
    ids = torch.arange(TOKENS)[None]
    with torch.no_grad():
        expected = original(ids).last_hidden_state.numpy()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(exported / "text_encoder" / "openvino_model.xml", "CPU", settings)
    embeddings = compiled(ids.numpy())[0]
    error = abs(embeddings - expected).max()
    if error > 0.05:
        raise RuntimeError(f"the exported text encoder differs from the original by {error:.2g}")


def _with_decoder(exported: Path, tiny: Path, out: Path) -> None:
    """Write the export with the tiny decoder, which OpenVINO GenAI takes for an AutoencoderKL of factor 8, scale 1."""
    import openvino
    import torch
    from diffusers import AutoencoderTiny

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tiny = AutoencoderTiny.from_pretrained(tiny).eval()

        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return self.tiny.decode(latents, return_dict=False)[0]

    share(exported, out)
    decoder = out / "vae_decoder"
    config = json.loads((decoder / "config.json").read_text()) | {"scaling_factor": 1.0, "shift_factor": None}
    shutil.rmtree(decoder)
    shutil.rmtree(out / "vae_encoder", ignore_errors=True)
    decoder.mkdir()
    (decoder / "config.json").write_text(json.dumps(config))
    with torch.no_grad():
        model = openvino.convert_model(Decoder(), example_input=torch.zeros(1, 4, 64, 64))
    model.reshape([-1, 4, -1, -1])
    model.inputs[0].get_tensor().set_names({"latent_sample"})
    model.outputs[0].get_tensor().set_names({"sample"})
    openvino.save_model(model, decoder / "openvino_model.xml")


def _conversion() -> list[str]:
    """Return the source of `lambdiff.bake`, because folders baked by another version are not comparable."""
    sources = environments.ROOT / "src" / "lambdiff" / "bake"
    return [path.read_text() for path in sorted(sources.rglob("*.py"))]


def _digest(settings: Any) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Make every format that the contenders of the plan need."""
    from benchmarks import ablation, plan

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WORK)
    models = Models.under(parser.parse_args().out)
    for row in plan.ROWS + ablation.ROWS:
        if environments.missing(row.environment) is None:
            print(row.model(models))


if __name__ == "__main__":
    main()

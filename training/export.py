"""Export the averaged weights as an ordinary diffusers folder (`StableDiffusionPipeline`), with a card."""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
from pathlib import Path

import torch
import vocabulary as V
from diffusers import StableDiffusionPipeline
from latents import Codec
from parts import load_denoiser, make_scheduler, make_vae
from safetensors.torch import save_file


def card(unet_state: dict, decoder_state: dict, machine: str, vocabulary: V.Vocabulary) -> dict:
    """Return machine-readable metadata of the model."""
    return {
        "name": "lambdiff-emoji",
        "license": "MIT",
        "origin": [
            {"package": "@lobehub/fluent-emoji-3d", "version": "1.1.0", "license": "MIT", "use": "images"},
            {"package": "emojibase-data", "version": "17.0.0", "license": "MIT", "use": "names"},
        ],
        "image_size": 128,
        "vocabulary": vocabulary.words,
        "things": list(vocabulary.things),
        "wearers": list(V.WEARERS),
        "hats": [*V.HATS, *V.GLASSES],
        "colors": list(V.COLORS),
        "training": {
            "machine": machine,
            "denoiser_minutes": round(unet_state["minutes"], 1),
            "denoiser_samples": unet_state["samples"],
            "decoder_minutes": round(decoder_state["minutes"], 1),
        },
        "defaults": {"steps": 8, "guidance": 3.0, "scheduler": "DDIM, trailing spacing"},
        "note": "The encoder of the vae is untrained. Training used a fixed linear projection instead "
        "(codec.safetensors); text-to-image generation does not need an encoder.",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def build(run: Path) -> tuple[StableDiffusionPipeline, dict, dict]:
    """Return the pipeline made of the checkpoints in `run`, and the two checkpoints."""
    tokenizer, text_encoder, unet, unet_state = load_denoiser(run / "unet.pt")
    decoder_state = torch.load(run / "decoder.pt", map_location="cpu")
    vae = make_vae()
    decoder = torch.nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv})
    decoder.load_state_dict(decoder_state["average"])
    for part in (*vae.encoder.parameters(), *vae.quant_conv.parameters()):
        torch.nn.init.zeros_(part)
    pipeline = StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline, unet_state, decoder_state


def main() -> None:
    """Save the pipeline, read it back, and only then replace the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the node_modules folder with the data")
    parser.add_argument("--run", type=Path, required=True, help="folder with the checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="the diffusers folder, which is replaced")
    parser.add_argument("--machine", default="2 CPU cores", help="description of the training machine, for the card")
    args = parser.parse_args()

    pipeline, unet_state, decoder_state = build(args.run)
    new, old = args.out.with_name(args.out.name + ".new"), args.out.with_name(args.out.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    pipeline.save_pretrained(new, safe_serialization=True)
    codec = Codec.load(args.run / "codec.safetensors")
    save_file({"mean": codec.mean, "basis": codec.basis, "scale": codec.scale}, new / "codec.safetensors")
    text = json.dumps(
        card(unet_state, decoder_state, args.machine, V.Vocabulary(args.data)), indent=1, ensure_ascii=False
    )
    (new / "card.json").write_text(text + "\n")

    reloaded = StableDiffusionPipeline.from_pretrained(new, safety_checker=None)
    for name in ("text_encoder", "unet", "vae"):
        for key, value in getattr(pipeline, name).state_dict().items():
            if not torch.equal(value, getattr(reloaded, name).state_dict()[key]):
                raise SystemExit(f"{name}.{key} differs after saving")
    if args.out.exists():
        args.out.rename(old)
    new.rename(args.out)
    shutil.rmtree(old, ignore_errors=True)
    print(f"{args.out}: {unet_state['samples']} samples, step {unet_state['step']}")


if __name__ == "__main__":
    main()

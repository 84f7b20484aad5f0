"""Trains the decoder: latents of the fixed linear encoder back to sharp pictures.

First on crops of 64x64 (more steps a minute), then on whole pictures. Noise on the latents teaches it to forgive
what the denoiser gets slightly wrong; with --denoiser, half of the latents are its own guesses at noisy ones.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import vocabulary as V
from latents import Codec, to_tensor
from optimiser import Muon, split
from parts import Average, device, load_denoiser, make_scheduler, make_vae, save_atomically
from scenes import Scenes
from torch import Tensor
from torch.nn import functional as F


def picture_loss(made: Tensor, real: Tensor) -> Tensor:
    """Pixels, edges at two scales, and the colours of 8x8 areas."""
    difference = made - real
    loss = difference.abs().mean()
    for scale in (1, 2):
        d = F.avg_pool2d(difference, scale) if scale > 1 else difference
        loss = loss + (d.diff(dim=2).abs().mean() + d.diff(dim=3).abs().mean()) * 0.7
    return loss + F.avg_pool2d(difference, 8).abs().mean()


class Guesses:
    """Latents as the trained denoiser would have them: noised a little, then guessed back with the caption."""

    def __init__(self, checkpoint: Path, where: torch.device) -> None:
        self.where = where
        self.tokenizer, self.text_encoder, self.unet, _ = load_denoiser(checkpoint)
        self.text_encoder.to(where), self.unet.to(where)
        self.alphas = make_scheduler().alphas_cumprod.to(where)

    @torch.no_grad()
    def __call__(self, z: Tensor, texts: list[str]) -> Tensor:
        """The denoiser's guesses at `z`, seen through a little noise and guided as in sampling."""
        n = len(z)
        words = self.tokenizer([*texts, *[""] * n], padding="max_length", truncation=True, return_tensors="pt")
        t = torch.randint(20, 400, (n,), device=self.where)
        a, s = self.alphas[t].sqrt()[:, None, None, None], (1 - self.alphas[t]).sqrt()[:, None, None, None]
        noisy = a * z + s * torch.randn_like(z)
        with torch.autocast(self.where.type, torch.bfloat16):
            text = self.text_encoder(words.input_ids.to(self.where)).last_hidden_state
            v, plain = self.unet(noisy.repeat(2, 1, 1, 1), t.repeat(2), text).sample.float().chunk(2)
        guidance = 1 + 3 * torch.rand(n, 1, 1, 1, device=self.where)
        return a * noisy - s * (plain + guidance * (v - plain))


def main() -> None:
    """Trains until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the node_modules folder of the data")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--minutes", type=float, default=25, help="wall-clock time in all, earlier runs included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--noise", type=float, default=0.15, help="largest deviation of the noise on the latents")
    parser.add_argument("--crops", type=float, default=0.5, help="part of the time spent on crops")
    parser.add_argument("--denoiser", type=Path, help="checkpoint of the denoiser, to train on its guesses too")
    parser.add_argument("--restart", action="store_true", help="count the time and the rate from the start again")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    where = device()
    args.out.mkdir(parents=True, exist_ok=True)
    codec_file, checkpoint = args.out / "codec.safetensors", args.out / "decoder.pt"
    vocabulary = V.Vocabulary(args.data)
    if not codec_file.exists():
        Codec.fit(Scenes(vocabulary, seed=1)).save(codec_file)
    codec = Codec.load(codec_file).to(where)
    vae = make_vae().to(where)
    model = torch.nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv})
    torch.nn.init.dirac_(vae.post_quant_conv.weight)
    torch.nn.init.zeros_(vae.post_quant_conv.bias)
    inner, outer = split(model)
    optimisers = [Muon(inner, 5 * args.rate), torch.optim.AdamW(outer, args.rate, (0.9, 0.99), weight_decay=0.0)]
    rates = [[g["lr"] for g in o.param_groups] for o in optimisers]
    average = Average(model)
    step, spent, earlier = 0, 0.0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=where)
        model.load_state_dict(state["model"])
        average.state = state["average"]
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        step, spent = state["step"], state["minutes"]
        earlier, spent = (spent, 0.0) if args.restart else (0.0, spent)
    scenes = Scenes(vocabulary, seed=args.seed + 5000 + step)
    guesses = Guesses(args.denoiser, where) if args.denoiser else None

    def save(minutes: float) -> None:
        saved = [o.state_dict() for o in optimisers]
        state = {"model": model.state_dict(), "average": average.state, "optimisers": saved}
        save_atomically({**state, "step": step, "minutes": earlier + minutes}, checkpoint)

    begun, saved_at, told_at, losses = time.monotonic(), 0.0, 0.0, []
    with (args.out / "decoder.log").open("a") as log:
        while True:
            now = time.monotonic() - begun
            minutes = spent + now / 60
            progress = minutes / args.minutes
            if progress >= 1:
                break
            factor = min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * progress))
            for optimiser, initial in zip(optimisers, rates, strict=True):
                for group, rate in zip(optimiser.param_groups, initial, strict=True):
                    group["lr"] = rate * factor
            crop = progress < args.crops
            pictures, texts = scenes.batch(16 if crop else 8)
            x = to_tensor(pictures).to(where)
            z = codec.encode(x)
            if guesses:
                half = len(z) // 2
                z[:half] = guesses(z[:half], texts[:half])
            if crop:
                i, j = random.randint(0, 8), random.randint(0, 8)
                z, x = z[:, :, i : i + 8, j : j + 8], x[:, :, 8 * i : 8 * i + 64, 8 * j : 8 * j + 64]
            z = z + torch.randn_like(z) * torch.rand(len(z), 1, 1, 1, device=where) * args.noise
            with torch.autocast(where.type, torch.bfloat16):
                made = vae.decoder(vae.post_quant_conv(z))
            loss = picture_loss(made.float(), x)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if torch.isfinite(loss):
                for optimiser in optimisers:
                    optimiser.step()
            model.zero_grad(set_to_none=True)
            step += 1
            average.update(model, step)
            losses.append(loss.item())
            if now - told_at > 15:
                line = {"minutes": round(minutes, 2), "step": step, "loss": round(sum(losses) / len(losses), 4)}
                told_at = now
                losses.clear()
                print(json.dumps(line), file=log, flush=True)
            if now - saved_at > 120:
                saved_at = now
                save(minutes)
    save(args.minutes)


if __name__ == "__main__":
    main()

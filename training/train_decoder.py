"""Train the decoder, which turns the latents of the fixed linear encoder back into sharp images.

It first sees crops of 64x64, which allow more steps per minute, then whole images. Noise on the latents teaches it to
tolerate small errors of the denoiser. With --denoiser, half of the latents are the denoiser's own predictions.
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
from optimizer import Muon, split
from parts import Average, load_denoiser, make_scheduler, make_vae, pick_device, save_atomically
from scenes import Scenes
from torch import Tensor
from torch.nn import functional as F


def image_loss(decoded: Tensor, target: Tensor) -> Tensor:
    """Return the error of pixels, of edges at two scales, and of the mean colors of 8x8 areas."""
    difference = decoded - target
    loss = difference.abs().mean()
    for scale in (1, 2):
        d = F.avg_pool2d(difference, scale) if scale > 1 else difference
        loss = loss + (d.diff(dim=2).abs().mean() + d.diff(dim=3).abs().mean()) * 0.7
    return loss + F.avg_pool2d(difference, 8).abs().mean()


class DenoiserPredictions:
    """Latents as the trained denoiser predicts them: with a little noise added, then denoised with the caption."""

    def __init__(self, checkpoint: Path, device: torch.device) -> None:
        self.device = device
        self.tokenizer, self.text_encoder, self.unet, _ = load_denoiser(checkpoint)
        self.text_encoder.to(device), self.unet.to(device)
        self.alphas = make_scheduler().alphas_cumprod.to(device)

    @torch.no_grad()
    def __call__(self, z: Tensor, texts: list[str]) -> Tensor:
        """Add a little noise to `z`, and return what the denoiser predicts, guided as in sampling."""
        n = len(z)
        words = self.tokenizer([*texts, *[""] * n], padding="max_length", truncation=True, return_tensors="pt")
        t = torch.randint(20, 400, (n,), device=self.device)
        a, s = self.alphas[t].sqrt()[:, None, None, None], (1 - self.alphas[t]).sqrt()[:, None, None, None]
        noisy = a * z + s * torch.randn_like(z)
        with torch.autocast(self.device.type, torch.bfloat16):
            text = self.text_encoder(words.input_ids.to(self.device)).last_hidden_state
            v, plain = self.unet(noisy.repeat(2, 1, 1, 1), t.repeat(2), text).sample.float().chunk(2)
        guidance = 1 + 3 * torch.rand(n, 1, 1, 1, device=self.device)
        return a * noisy - s * (plain + guidance * (v - plain))


def main() -> None:
    """Train until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the node_modules folder with the data")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--minutes", type=float, default=25, help="total wall-clock time, earlier runs included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--noise", type=float, default=0.15, help="maximum deviation of the noise on the latents")
    parser.add_argument("--crops", type=float, default=0.5, help="fraction of the time spent on crops")
    parser.add_argument("--denoiser", type=Path, help="checkpoint of a denoiser, to train on its predictions too")
    parser.add_argument(
        "--restart", action="store_true", help="start the time and the learning rate from the beginning"
    )
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    device = pick_device()
    args.out.mkdir(parents=True, exist_ok=True)
    codec_file, checkpoint = args.out / "codec.safetensors", args.out / "decoder.pt"
    vocabulary = V.Vocabulary(args.data)
    if not codec_file.exists():
        Codec.fit(Scenes(vocabulary, seed=1)).save(codec_file)
    codec = Codec.load(codec_file).to(device)
    vae = make_vae().to(device)
    model = torch.nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv})
    torch.nn.init.dirac_(vae.post_quant_conv.weight)
    torch.nn.init.zeros_(vae.post_quant_conv.bias)
    inner, outer = split(model)
    optimizers = [Muon(inner, 5 * args.rate), torch.optim.AdamW(outer, args.rate, (0.9, 0.99), weight_decay=0.0)]
    rates = [[g["lr"] for g in o.param_groups] for o in optimizers]
    average = Average(model)
    step, spent, earlier = 0, 0.0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        model.load_state_dict(state["model"])
        average.state = state["average"]
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, spent = state["step"], state["minutes"]
        earlier, spent = (spent, 0.0) if args.restart else (0.0, spent)
    scenes = Scenes(vocabulary, seed=args.seed + 5000 + step)
    predictions = DenoiserPredictions(args.denoiser, device) if args.denoiser else None

    def save(minutes: float) -> None:
        saved = [o.state_dict() for o in optimizers]
        state = {"model": model.state_dict(), "average": average.state, "optimizers": saved}
        save_atomically({**state, "step": step, "minutes": earlier + minutes}, checkpoint)

    started, saved_at, logged_at, losses = time.monotonic(), 0.0, 0.0, []
    with (args.out / "decoder.log").open("a") as log:
        while True:
            now = time.monotonic() - started
            minutes = spent + now / 60
            progress = minutes / args.minutes
            if progress >= 1:
                break
            factor = min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * progress))
            for optimizer, initial in zip(optimizers, rates, strict=True):
                for group, rate in zip(optimizer.param_groups, initial, strict=True):
                    group["lr"] = rate * factor
            crop = progress < args.crops
            images, texts = scenes.batch(16 if crop else 8)
            x = to_tensor(images).to(device)
            z = codec.encode(x)
            if predictions:
                half = len(z) // 2
                z[:half] = predictions(z[:half], texts[:half])
            if crop:
                i, j = random.randint(0, 8), random.randint(0, 8)
                z, x = z[:, :, i : i + 8, j : j + 8], x[:, :, 8 * i : 8 * i + 64, 8 * j : 8 * j + 64]
            z = z + torch.randn_like(z) * torch.rand(len(z), 1, 1, 1, device=device) * args.noise
            with torch.autocast(device.type, torch.bfloat16):
                decoded = vae.decoder(vae.post_quant_conv(z))
            loss = image_loss(decoded.float(), x)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if torch.isfinite(loss):
                for optimizer in optimizers:
                    optimizer.step()
            model.zero_grad(set_to_none=True)
            step += 1
            average.update(model, step)
            losses.append(loss.item())
            if now - logged_at > 15:
                line = {"minutes": round(minutes, 2), "step": step, "loss": round(sum(losses) / len(losses), 4)}
                logged_at = now
                losses.clear()
                print(json.dumps(line), file=log, flush=True)
            if now - saved_at > 120:
                saved_at = now
                save(minutes)
    save(args.minutes)


if __name__ == "__main__":
    main()

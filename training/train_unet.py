"""Train the text encoder and the denoiser together, on scenes rendered on the fly.

Started by `torchrun`, several processes of one thread each share the work. On busy cores that is faster than threads.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
import vocabulary as V
from diffusers.models.attention_processor import AttnProcessor
from latents import Codec, to_tensor
from optimizer import Muon, split
from parts import (
    WIDTH,
    Average,
    SharedEmbedding,
    embeddings,
    load_tokenizer,
    make_scheduler,
    make_text_encoder,
    make_unet,
    pick_device,
    save_atomically,
)
from scenes import Scenes


def learning_rate(progress: float, step: int, hold: float = 0.35) -> float:
    """Return the factor of the learning rate: a short warm-up, a constant part, then a cosine to zero at the end."""
    warm_up = min(1.0, (step + 1) / 100)
    if progress <= hold:
        return warm_up
    return warm_up * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - hold) / (1 - hold))))


def share_gradients(parameters: list[torch.nn.Parameter], world: int) -> None:
    """Replace the gradients of each process by their mean over all processes."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world
    for g, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        g.copy_(part.view_as(g))


def main() -> None:
    """Train until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the node_modules folder with the data")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--minutes", type=float, default=60, help="total wall-clock time, earlier runs included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32, help="scenes per step and process")
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of AdamW; see --muon-rate for Muon's")
    parser.add_argument("--muon-rate", type=float, default=0.015)
    parser.add_argument("--no-codes", dest="codes", action="store_false", help="initialize all words at random")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    device = pick_device()
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("gloo")
    args.out.mkdir(parents=True, exist_ok=True)
    codec_file, checkpoint = args.out / "codec.safetensors", args.out / "unet.pt"
    vocabulary = V.Vocabulary(args.data)
    if rank == 0:
        load_tokenizer(args.out, vocabulary)
        if not codec_file.exists():
            Codec.fit(Scenes(vocabulary, seed=1)).save(codec_file)
    if world > 1:
        dist.barrier()
    codec = Codec.load(codec_file)

    tokenizer, meanings = load_tokenizer(args.out)
    text_encoder, unet = make_text_encoder(tokenizer), make_unet().to(device)
    codes = codec.codes(Scenes(vocabulary), WIDTH) if args.codes else None
    embeddings(text_encoder).token_embedding = SharedEmbedding(tokenizer, meanings, codes)
    text_encoder, codec = text_encoder.to(device), codec.to(device)
    # On a CPU, the gradient of fused attention takes longer than everything else together.
    unet.set_attn_processor(AttnProcessor())
    text_encoder.set_attn_implementation("eager")
    model = torch.nn.ModuleDict({"text_encoder": text_encoder, "unet": unet})
    alphas = make_scheduler().alphas_cumprod.to(device)
    if args.optimizer == "muon":
        inner, outer = split(text_encoder, unet)
        optimizers = [Muon(inner, args.muon_rate), torch.optim.AdamW(outer, args.rate, (0.9, 0.99), weight_decay=0.01)]
    else:
        optimizers = [torch.optim.AdamW(model.parameters(), args.rate, (0.9, 0.99), weight_decay=0.01)]
    rates = [[g["lr"] for g in o.param_groups] for o in optimizers]
    average = Average(model)

    step, samples, spent = 0, 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        model.load_state_dict(state["model"])
        average.state = state["average"]
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, samples, spent = state["step"], state["samples"], state["minutes"]
    torch.manual_seed(args.seed + 7919 * step + rank)
    scenes = Scenes(vocabulary, seed=args.seed + 1000 + step + 100_003 * rank)

    def save(minutes: float) -> None:
        save_atomically(
            {
                "model": model.state_dict(),
                "average": average.state,
                "optimizers": [o.state_dict() for o in optimizers],
                "step": step,
                "samples": samples,
                "minutes": minutes,
            },
            checkpoint,
        )

    started, saved_at, logged_at, losses = time.monotonic(), 0.0, 0.0, []
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {len(tokenizer)} tokens", flush=True)
    with (args.out / "unet.log").open("a") as log:
        while True:
            now = time.monotonic() - started
            minutes = spent + now / 60
            if world > 1:
                clock = torch.tensor([minutes], dtype=torch.float64)
                dist.broadcast(clock, 0)
                minutes = clock.item()
            if minutes >= args.minutes:
                break
            factor = learning_rate(minutes / args.minutes, step)
            for optimizer, initial in zip(optimizers, rates, strict=True):
                for group, rate in zip(optimizer.param_groups, initial, strict=True):
                    group["lr"] = rate * factor

            images, texts = scenes.batch(args.batch)
            x = codec.encode(to_tensor(images).to(device))
            ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids.to(device)
            # One timestep from each of `batch` equal parts of the range, for less noise in the loss.
            t = ((torch.arange(args.batch) + torch.rand(args.batch)) * (1000 / args.batch)).long().clamp(max=999)
            t = t.to(device)
            a = alphas[t].sqrt()[:, None, None, None]
            s = (1 - alphas[t]).sqrt()[:, None, None, None]
            noise = torch.randn_like(x)
            with torch.autocast(device.type, torch.bfloat16):
                v = unet(a * x + s * noise, t, text_encoder(ids).last_hidden_state).sample
            error = (v.float() - (a * noise - s * x)).square().mean((1, 2, 3))
            # Min-SNR weighting (gamma 5; Hang and others 2023) for small noise only. Where noise is large, the text
            # matters most, so these timesteps keep their weight.
            weight = (5 / (alphas[t] / (1 - alphas[t]) + 1)).clamp(max=1)
            loss = (error * weight).mean()
            loss.backward()
            if world > 1:
                share_gradients(list(model.parameters()), world)
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if torch.isfinite(norm):
                for optimizer in optimizers:
                    optimizer.step()
            model.zero_grad(set_to_none=True)
            step += 1
            samples += args.batch * world
            average.update(model, step)
            losses.append(loss.item())

            if rank == 0 and now - logged_at > 15:
                line = {
                    "minutes": round(minutes, 2),
                    "step": step,
                    "samples": samples,
                    "loss": round(sum(losses) / len(losses), 4),
                    "samples_per_second": round(len(losses) * args.batch * world / (now - logged_at), 1),
                }
                logged_at = now
                losses.clear()
                print(json.dumps(line), file=log, flush=True)
            if rank == 0 and now - saved_at > 180:
                saved_at = now
                save(minutes)
    if rank == 0:
        save(args.minutes)


if __name__ == "__main__":
    main()

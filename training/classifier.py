"""The judge of the generator: a small network that names the things in an image.

It is trained on rendered scenes only, never on generated images, and takes no part in training the generator.
`python classifier.py` trains it; `Classifier.load` reads the frozen weights committed next to this file.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import vocabulary as V
from latents import Codec, to_tensor
from safetensors import safe_open
from safetensors.torch import save_file
from scenes import Scene, Scenes
from torch import Tensor, nn
from torch.nn import functional as F

FILE = Path(__file__).with_name("classifier.safetensors")


class _Block(nn.Module):
    """Two convolutions with a skip connection; the first halves the size."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, 2, 1, bias=False)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.short = nn.Conv2d(inner, outer, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outer) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(y + self.short(F.avg_pool2d(x, 2)))


class Classifier(nn.Module):
    """Images (n, 3, 128, 128) in -1..1 -> one logit per name."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.blocks = nn.Sequential(_Block(3, 24), _Block(24, 48), _Block(48, 96), _Block(96, 192))
        self.head = nn.Linear(192, len(names))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, of shape (n, names)."""
        # Each of 4x4 cells votes separately, so a thing that covers only part of the image is not averaged out.
        cells = self.blocks(F.avg_pool2d(x, 2)).flatten(2).transpose(1, 2)
        return self.head(cells).logsumexp(1)

    @classmethod
    def load(cls, path: Path = FILE) -> Classifier:
        """Load the frozen classifier."""
        with safe_open(path, "pt") as file:
            model = cls(json.loads(file.metadata()["names"]))
            state = {key: file.get_tensor(key).float() for key in model.state_dict() if not key.endswith("_tracked")}
            model.load_state_dict(state, strict=False)
        return model.eval().requires_grad_(False)

    def save(self, path: Path = FILE) -> None:
        """Write the weights (f16) and the names."""
        state = {k: v.half().contiguous() for k, v in self.state_dict().items() if v.is_floating_point()}
        save_file(state, path, {"names": json.dumps(self.names)})

    @torch.inference_mode()
    def best(self, images: np.ndarray, count: int = 5) -> list[list[str]]:
        """Return the `count` most likely names for each of the uint8 images (n, 128, 128, 3), most likely first."""
        logits = torch.cat([self(to_tensor(part)) for part in np.array_split(images, len(images) // 64 + 1)])
        return [[self.names[i] for i in row] for row in logits.topk(count).indices.tolist()]


def degrade(x: Tensor, codec: Codec, generator: torch.Generator) -> Tensor:
    """Make renders look generated: blurred, or decoded from noisy latents, and with noise and shifted colors."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    kind = uniform(len(x))
    x = x.clone()
    blurred, coded = kind < 0.2, (kind >= 0.2) & (kind < 0.4)
    if blurred.any():
        x[blurred] = F.interpolate(F.avg_pool2d(x[blurred], 2), scale_factor=2, mode="bilinear")
    if coded.any():
        z = codec.encode(x[coded])
        x[coded] = codec.decode(z + 0.15 * torch.randn(z.shape, generator=generator))
    x = x + 0.04 * torch.randn(x.shape, generator=generator) * uniform(len(x), 1, 1, 1)
    return x * (0.92 + 0.12 * uniform(len(x), 3, 1, 1)) + 0.06 * (uniform(len(x), 1, 1, 1) - 0.5)


def targets(scenes: list[Scene], names: list[str]) -> Tensor:
    """Return equal probabilities for the things in each scene, of shape (scenes, names)."""
    index = {name: n for n, name in enumerate(names)}
    rows = torch.zeros(len(scenes), len(names))
    for row, scene in zip(rows, scenes, strict=True):
        things = set(scene.things)
        for name in things:
            row[index[name]] = 1 / len(things)
    return rows


def accuracy(model: Classifier, vocabulary: V.Vocabulary, each: int = 4, seed: int = 10**6) -> dict[str, float]:
    """Measure on fresh renders: `each` of every name, and scenes with two different things."""
    scenes = Scenes(vocabulary, seed, hold_out=False)
    single = [scenes.one(name) for name in scenes.names for _ in range(each)]
    double = [s for s in (scenes.random_scene() for _ in range(8000)) if len(set(s.things)) == 2]
    model.eval()
    best = model.best(np.stack([s.image for s in single]))
    both = model.best(np.stack([s.image for s in double]), 3)
    wrong = [(s.things[0], b[0]) for s, b in zip(single, best, strict=True) if b[0] != s.things[0]]
    return {
        "top1": 1 - len(wrong) / len(single),
        "top5": float(np.mean([s.things[0] in b for s, b in zip(single, best, strict=True)])),
        "both_in_top3": float(np.mean([set(s.things) <= set(b) for s, b in zip(double, both, strict=True)])),
        "wrong": wrong,
    }


def main() -> None:
    """Train until the time is up, then print the accuracy on new renders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the node_modules folder with the data")
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--codec", type=Path, required=True, help="the encoder's codec.safetensors")
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    vocabulary = V.Vocabulary(args.data)
    scenes, codec = Scenes(vocabulary, args.seed, hold_out=False), Codec.load(args.codec)
    model = Classifier(scenes.names)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3, weight_decay=0.02)
    started, logged_at, step, losses = time.monotonic(), 0.0, 0, []
    while (progress := (time.monotonic() - started) / 60 / args.minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * progress))
        batch = [scenes.one(scenes.random.choice(scenes.names)) for _ in range(24)]
        while len(batch) < 72:
            scene = scenes.random_scene()
            if len(scene.things) > 1:
                batch.append(scene)
        x = degrade(to_tensor(np.stack([s.image for s in batch])), codec, generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), targets(batch, model.names))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        losses.append(loss.item())
        if time.monotonic() - logged_at > 15:
            logged_at = time.monotonic()
            print(f"{(logged_at - started) / 60:.1f} min, step {step}, loss {np.mean(losses):.3f}", flush=True)
            losses.clear()
    model.save(args.out)
    figures = accuracy(Classifier.load(args.out), vocabulary)
    print({key: value for key, value in figures.items() if key != "wrong"}, flush=True)
    print("wrong:", sorted(figures["wrong"]))


if __name__ == "__main__":
    main()

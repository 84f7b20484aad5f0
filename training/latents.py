"""The fixed encoder: a linear projection of 8x8 pixel patches onto their principal components.

It is fitted in seconds instead of trained for an hour. Its first components are the mean color of a patch, so colors
cannot drift. The denoiser can start at once, while the decoder is still being trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import vocabulary as V
from safetensors.torch import load_file, save_file
from scenes import SIZE, Scenes
from torch import Tensor

PATCH = 8
CHANNELS = 12


def patches(images: Tensor) -> Tensor:
    """Turn images (n, 3, h, w) into patches (n, 192, h / 8, w / 8)."""
    return torch.nn.functional.pixel_unshuffle(images, PATCH)


def to_tensor(images: np.ndarray) -> Tensor:
    """Turn uint8 images (n, h, w, 3) into floats (n, 3, h, w) in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


class Codec:
    """Encodes images as latents of about unit deviation, and decodes them coarsely, without a network."""

    def __init__(self, mean: Tensor, basis: Tensor, scale: Tensor) -> None:
        self.mean, self.basis, self.scale = mean, basis, scale

    @classmethod
    def fit(cls, scenes: Scenes, count: int = 3000, damping: float = 0.7) -> Codec:
        """Find the principal components of the patches of `count` scenes.

        Each component is divided by its deviation to the power of `damping`. At 1 all would have the same weight; at 0
        noise would hide the small ones until the very last steps.
        """
        x = patches(to_tensor(scenes.batch(count)[0])).movedim(1, -1).reshape(-1, 3 * PATCH * PATCH)
        mean = x.mean(0)
        covariance = torch.cov((x - mean).T)
        values, vectors = torch.linalg.eigh(covariance)
        deviations, basis = values.flip(0)[:CHANNELS].sqrt(), vectors.flip(1)[:, :CHANNELS].T.contiguous()
        scale = deviations**-damping / deviations[0] ** (1 - damping)
        return cls(mean, basis, scale)

    @classmethod
    def load(cls, path: Path) -> Codec:
        """Read a codec that `save` wrote."""
        return cls(**load_file(path))

    def save(self, path: Path) -> None:
        """Write mean, basis and scale as safetensors."""
        save_file({"mean": self.mean, "basis": self.basis, "scale": self.scale}, path)

    def codes(self, scenes: Scenes, width: int, damping: float = 0.5) -> dict[str, Tensor]:
        """Return what each thing looks like, as `width` numbers of about unit size.

        These are the principal components of the latents of all things, each rendered alone on white.
        """
        images = []
        for name in scenes.names:
            canvas = np.full((SIZE, SIZE, 3), 255, np.float32)
            image = scenes.sized(name, 100)
            scenes.paste(canvas, image, (SIZE - image.shape[1]) // 2, (SIZE - image.shape[0]) // 2)
            images.append(canvas.clip(0, 255).astype(np.uint8))
        x = self.encode(to_tensor(np.stack(images))).flatten(1)
        left, values, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        kept = min(width, len(values))
        codes = torch.zeros(len(x), width)
        codes[:, :kept] = left[:, :kept] * values[:kept] ** (1 - damping)
        return dict(zip(scenes.names, codes / codes.square().mean().sqrt(), strict=True))

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (n, 3, h, w) in -1..1 as latents (n, CHANNELS, h / 8, w / 8)."""
        x = patches(images) - self.mean[:, None, None]
        return torch.einsum("nphw,cp->nchw", x, self.basis) * self.scale[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents by the transposed projection; edges are blocky."""
        x = torch.einsum("nchw,cp->nphw", latents / self.scale[:, None, None], self.basis)
        return torch.nn.functional.pixel_shuffle(x + self.mean[:, None, None], PATCH).clamp(-1, 1)

    def to(self, device: torch.device) -> Codec:
        """Return a copy on another device."""
        return Codec(self.mean.to(device), self.basis.to(device), self.scale.to(device))


def main() -> None:
    """Fit the encoder and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the node_modules folder with the data")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Codec.fit(Scenes(V.Vocabulary(args.data), seed=1)).save(args.out)


if __name__ == "__main__":
    main()

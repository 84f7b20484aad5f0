"""Start images: from the pictures of a request to latents, and back to the pixels that a mask keeps.

    encoder        image (1, 3, factor * h, factor * w) in -1..1   -> mean and logarithm of the variance
                                                                      (1, 2 * channels, h, w); or, by a tiny
                                                                      autoencoder, the latents (1, channels, h, w)

Follows diffusers' `StableDiffusionImg2ImgPipeline` and `StableDiffusionInpaintPipeline`, and its `VaeImageProcessor`
for sizes and masks. Pipelines with a UNet share all of it; see `pipelines/unet.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lambdiff.engine import latents
from lambdiff.engine.pixels import native_area

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lambdiff.engine.manifest import Manifest
    from lambdiff.engine.schedulers import Scheduler
    from lambdiff.protocol.contract import Generation

    Array = NDArray[np.float32]
    Pixels = NDArray[np.uint8]

_ROUNDING: Final = 8
"""Pixels by which an image's side may differ from the start image's shape without a warning: sizes are multiples."""
_LOG_VARIANCE: Final = (-30.0, 20.0)
"""The limits in diffusers' `DiagonalGaussianDistribution`."""


@dataclass(frozen=True)
class StartImage:
    """A request's pictures in the size that the model generates.

    Attributes:
        pixels: shape (1, 3, height, width), in -1..1.
        mask: shape (1, 1, height, width): 1 where the image is redrawn, 0 elsewhere; None to redraw all of it.
        warnings: messages for the caller.
    """

    pixels: Array
    mask: Array | None
    warnings: list[str] = field(default_factory=list)

    @property
    def masked(self) -> Array:
        """The pixels, gray where they are redrawn."""
        return self.pixels if self.mask is None else self.pixels * (1 - self.mask)


@dataclass(frozen=True)
class StartLatents:
    """What the denoiser starts from.

    Attributes:
        image: the latents of the start image.
        strength: the part of the steps that run.
        mask: 1 where the latents are denoised, shape (1, 1, h, w); None for everywhere.
        masked: the latents of the start image without what is redrawn, for a UNet that reads them and the mask.
    """

    image: Array
    strength: float
    mask: Array | None = None
    masked: Array | None = None

    def first_sample(self, scheduler: Scheduler, noise: Array) -> Array:
        """Return the sample of the first step: the start image with noise or, with a mask at full strength, noise."""
        if self.mask is not None and self.strength == 1:
            return noise * np.float32(scheduler.init_noise_sigma)
        return scheduler.add_noise(self.image, noise)

    def model_input(self, scaled: Array) -> Array:
        """Return a UNet's input, with mask and masked image as further channels if it reads them."""
        if self.masked is None or self.mask is None:
            return scaled
        return np.concatenate([scaled, self.mask, self.masked], axis=1)

    def keep_outside(self, scheduler: Scheduler, sample: Array, noise: Array) -> Array:
        """Return the sample after a step, with the start image at the same noise level outside of the mask."""
        if self.mask is None or self.masked is not None:
            return sample
        return (1 - self.mask) * scheduler.add_noise(self.image, noise) + self.mask * sample


def prepare(generation: Generation, manifest: Manifest) -> StartImage | None:
    """Return the pictures of a request in the size that the model generates; None if it has no start image."""
    if generation.image is None:
        return None
    pixels = _fitted(generation.image.pixels, generation, manifest)
    mask = None
    if generation.mask is not None:
        gray = _fitted(generation.mask.pixels, generation, manifest)
        mask = (gray >= 128).astype(np.float32)[None, None]
    normalized = pixels.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(127.5) - 1
    return StartImage(normalized, mask, _warnings(generation))


def encode(
    start: StartImage, run_encoder: Callable[[Array], Array], generation: Generation, manifest: Manifest
) -> StartLatents:
    """Return the latents of a start image.

    Args:
        start: the pictures.
        run_encoder: runs the encoder.
        generation: the request.
        manifest: the model's manifest.
    """

    def latents_of(pixels: Array) -> Array:
        sampled = _sample(run_encoder(pixels), generation.seed, manifest.latents.channels)
        return (sampled * manifest.latents.scaling_factor).astype(np.float32)

    factor = manifest.latents.factor
    mask = None if start.mask is None else start.mask[:, :, ::factor, ::factor]
    masked = latents_of(start.masked) if manifest.inpainting else None
    return StartLatents(
        latents_of(start.pixels), 1.0 if generation.strength is None else generation.strength, mask, masked
    )


def restore_outside(pixels: Pixels, generation: Generation) -> Pixels:
    """Return a generated image with the start image's pixels where the mask is black.

    An autoencoder changes all pixels a little. Gray parts of the mask blend both images, so that a mask with soft edges
    leaves no seam.

    Args:
        pixels: the generated image, of the requested size.
        generation: the request.
    """
    if generation.image is None or generation.mask is None:
        return pixels
    size = generation.width, generation.height
    share = _resized(generation.mask.pixels, size)[..., None].astype(np.float32) / 255
    blended = _resized(generation.image.pixels, size) * (1 - share) + pixels * share
    return np.rint(blended).astype(np.uint8)


def _sample(moments: Array, seed: int, channels: int) -> Array:
    """Return latents from an encoder's output, with the seed's noise if it is a distribution."""
    if moments.shape[1] == channels:
        return moments
    mean, log_variance = np.split(moments, 2, axis=1)
    deviation = np.exp(log_variance.clip(*_LOG_VARIANCE) / 2)
    return (mean + deviation * latents.posterior_noise(seed, mean.shape)).astype(np.float32)


def _fitted(pixels: Pixels, generation: Generation, manifest: Manifest) -> Pixels:
    """Return a picture in the size that the model generates, so that finishing an image undoes it."""
    requested = generation.width, generation.height
    pixels = _resized(pixels, requested)
    width, height = latents.generated_size(generation, manifest)
    if manifest.native_size:
        left, top, inner_width, inner_height = native_area(manifest.native_size, requested)
        return _resized(pixels[top : top + inner_height, left : left + inner_width], (width, height))
    top, left = (height - requested[1]) // 2, (width - requested[0]) // 2
    padding: list[tuple[int, int]] = [(top, height - requested[1] - top), (left, width - requested[0] - left), (0, 0)]
    return np.pad(pixels, padding[: pixels.ndim], mode="edge")


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    from PIL import Image

    image: Any = Image.fromarray(pixels)
    return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.LANCZOS))


def _warnings(generation: Generation) -> list[str]:
    size = generation.width, generation.height
    warnings = []
    for what, picture in (("start image", generation.image), ("mask", generation.mask)):
        if picture is not None and not _same_shape(picture.size, size):
            shape, wanted = (f"{width}x{height}" for width, height in (picture.size, size))
            warnings.append(f"The {what} was stretched: it has {shape} pixels, which is not the shape of {wanted}.")
    return warnings


def _same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    ratio = one[0] / one[1]
    return abs(other[1] * ratio - other[0]) <= _ROUNDING or abs(other[0] / ratio - other[1]) <= _ROUNDING

"""The tiny decoders that `decoder="tiny"` downloads, one for each family of latents.

Decoders of two families have the same form, and the wrong one decodes to noise. A family is known by the scale of its
latents, which is stored with every autoencoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lambdiff.bake.catalogue import CatalogueEntry
from lambdiff.bake.pipeline_folder import PipelineConfig
from lambdiff.errors import ModelError
from lambdiff.protocol.contract import Defaults

_LICENSE: Final = "https://github.com/madebyollin/taesd/blob/main/LICENSE"
_CHANNELS_AND_FACTOR: Final = (4, 8)


def _entry(name: str, revision: str, about: str, size: int) -> CatalogueEntry:
    return CatalogueEntry(
        name=name,
        hub_id=f"madebyollin/{name}",
        revision=revision,
        license="MIT",
        license_url=_LICENSE,
        about=about,
        defaults=Defaults(num_inference_steps=1, guidance_scale=0.0, width=size, height=size, scheduler="euler"),
    )


TINY_DECODERS: Final[dict[float, CatalogueEntry]] = {
    0.18215: _entry(
        "taesd",
        "614f76814bbe30edbe2e627ace1c2234c81a2c0e",
        "A tiny decoder for every model with the latents of Stable Diffusion 1 or 2.",
        512,
    ),
    0.13025: _entry(
        "taesdxl",
        "b20258aaef75ef61e659c1e0f14f251cf0ad153e",
        "A tiny decoder for every model with the latents of Stable Diffusion XL.",
        1024,
    ),
}
"""The scaling factor of the latents -> the decoder that reads them."""


def choose(pipeline: PipelineConfig, decoder: str | Path) -> CatalogueEntry | None:
    """Return the decoder to download, or None if `decoder` is not `tiny`.

    Raises:
        ModelError: there is none for the model's latents.
    """
    if decoder != "tiny":
        return None
    if pipeline.tiny_decoder:
        raise ModelError("The model's own decoder is a tiny one.", fix="Leave out `decoder=`.")
    latents = pipeline.latents
    found = TINY_DECODERS.get(latents.scaling_factor)
    if found is None or (latents.channels, latents.factor) != _CHANNELS_AND_FACTOR:
        raise ModelError(
            f"No tiny decoder is known for this model's latents ({latents.channels} channels at 1/{latents.factor} of "
            f"the size, times {latents.scaling_factor:g}).",
            fix="Leave out `decoder=`, or pass the folder of an AutoencoderTiny that was trained for them.",
        )
    return found

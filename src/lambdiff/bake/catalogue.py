"""The catalogue: models on the Hugging Face hub that are known to bake, each pinned to one commit.

The entries follow the models' own cards. Any other model of a supported family can be baked from a local folder of
safetensors, or from the hub with a revision.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from lambdiff.errors import ConfigurationError, did_you_mean
from lambdiff.protocol.contract import Defaults

DEFAULT: Final = "tiny-sd"


class CatalogueEntry(Struct, frozen=True, kw_only=True):
    """One model.

    Attributes:
        name: its name on the command line.
        hub_id: owner/name on the hub.
        revision: the commit that is baked.
        license: SPDX identifier, or the license's own name.
        license_url: the address of the license's text.
        about: a one-line description.
        defaults: steps, guidance, size and scheduler recommended by its card.
        pickled: whether its weights are torch pickles, which are then read with `weights_only=True`.
    """

    name: str
    hub_id: str
    revision: str
    license: str
    license_url: str
    about: str
    defaults: Defaults
    pickled: bool = False

    @property
    def url(self) -> str:
        """The model's page at this revision."""
        return f"https://huggingface.co/{self.hub_id}/tree/{self.revision}"


_OPENRAIL: Final = "https://huggingface.co/spaces/CompVis/stable-diffusion-license"

CATALOGUE: Final = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name="tiny-sd",
            hub_id="segmind/tiny-sd",
            revision="cad0bd7495fa6c4bcca01b19a723dc91627fe84f",
            license="CreativeML-OpenRAIL-M",
            license_url=_OPENRAIL,
            about="Stable Diffusion 1.5 with 55% fewer parameters; needs guidance and about 25 steps.",
            defaults=Defaults(num_inference_steps=25, guidance_scale=7.5, width=512, height=512, scheduler="dpmpp_2m"),
            pickled=True,
        ),
        CatalogueEntry(
            name="lcm-dreamshaper",
            hub_id="SimianLuo/LCM_Dreamshaper_v7",
            revision="a85df6a8bd976cdd08b4fd8f3b73f229c9e54df5",
            license="MIT",
            license_url="https://huggingface.co/SimianLuo/LCM_Dreamshaper_v7",
            about="A latent consistency model: 4 steps, and one UNet call a step because guidance is built in.",
            defaults=Defaults(num_inference_steps=4, guidance_scale=8.0, width=512, height=512, scheduler="lcm"),
        ),
        CatalogueEntry(
            name="sd-turbo",
            hub_id="stabilityai/sd-turbo",
            revision="b261bac6fd2cf515557d5d0707481eafa0485ec2",
            license="Stability AI Community License",
            license_url="https://stability.ai/license",
            about="Stable Diffusion 2.1 distilled to 1 to 4 steps without guidance; read its license first.",
            defaults=Defaults(num_inference_steps=1, guidance_scale=0.0, width=512, height=512, scheduler="euler"),
        ),
    )
}


def find(name: str) -> CatalogueEntry | None:
    """Return the entry with this name or hub id, or None."""
    return CATALOGUE.get(name) or next((entry for entry in CATALOGUE.values() if entry.hub_id == name), None)


def get(name: str) -> CatalogueEntry:
    """Return the entry with this name or hub id.

    Raises:
        ConfigurationError: there is none; the fix lists the names.
    """
    entry = find(name)
    if entry is None:
        raise ConfigurationError(
            f"The catalogue has no model {name!r}{did_you_mean(name, CATALOGUE) or '.'}",
            fix=f"Choose one of {', '.join(CATALOGUE)}.",
        )
    return entry

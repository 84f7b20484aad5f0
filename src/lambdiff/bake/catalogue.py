"""The catalogue: models from the Hugging Face hub that are known to bake, each at one revision.

Facts are those of the models' own cards. Any other Stable-Diffusion-shaped model can be baked from a local folder of
safetensors, or from the hub with a revision given.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from lambdiff.errors import ConfigurationError
from lambdiff.protocol.contract import Defaults

DEFAULT: Final = "tiny-sd"


class Model(Struct, frozen=True, kw_only=True):
    """One entry.

    Attributes:
        name: what the command line calls it.
        hub_id: owner/name on the hub.
        revision: the commit that is baked.
        license: SPDX identifier, or the license's own name.
        license_url: its text.
        about: one line.
        defaults: steps, guidance, size and scheduler of its card.
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
    model.name: model
    for model in (
        Model(
            name="tiny-sd",
            hub_id="segmind/tiny-sd",
            revision="cad0bd7495fa6c4bcca01b19a723dc91627fe84f",
            license="CreativeML-OpenRAIL-M",
            license_url=_OPENRAIL,
            about="Stable Diffusion 1.5 with 55 % fewer parameters; wants guidance and about 25 steps.",
            defaults=Defaults(num_inference_steps=25, guidance_scale=7.5, width=512, height=512, scheduler="dpmpp_2m"),
            pickled=True,
        ),
        Model(
            name="lcm-dreamshaper",
            hub_id="SimianLuo/LCM_Dreamshaper_v7",
            revision="a85df6a8bd976cdd08b4fd8f3b73f229c9e54df5",
            license="MIT",
            license_url="https://huggingface.co/SimianLuo/LCM_Dreamshaper_v7",
            about="A latent consistency model: 4 steps, guidance built in, so one UNet call a step.",
            defaults=Defaults(num_inference_steps=4, guidance_scale=8.0, width=512, height=512, scheduler="lcm"),
        ),
        Model(
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

TINY_DECODER: Final = Model(
    name="taesd",
    hub_id="madebyollin/taesd",
    revision="614f76814bbe30edbe2e627ace1c2234c81a2c0e",
    license="MIT",
    license_url="https://github.com/madebyollin/taesd/blob/main/LICENSE",
    about="A tiny decoder for every model with Stable Diffusion 1 or 2 latents.",
    defaults=CATALOGUE[DEFAULT].defaults,
)
"""What `bake --decoder tiny` puts in the place of a model's own decoder."""


def find(source: str) -> Model | None:
    """The entry with this name or hub id, if there is one."""
    return CATALOGUE.get(source) or next((m for m in CATALOGUE.values() if m.hub_id == source), None)


def get(name: str) -> Model:
    """The entry with this name or hub id.

    Raises:
        ConfigurationError: there is none; the fix lists those that there are.
    """
    model = find(name)
    if model is None:
        raise ConfigurationError(f"There is no model {name!r}.", fix=f"Known: {', '.join(CATALOGUE)}.")
    return model

"""The catalogue: models on the Hugging Face hub that are known to bake, each pinned to one commit.

The entries follow the models' own cards. Any other model of a supported family can be baked from a local folder of
safetensors, or from the hub with a revision.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from lambdiff.errors import ConfigurationError, did_you_mean
from lambdiff.protocol.contract import Defaults

DEFAULT: Final = "tiny-sd"


Decoder = Literal["full", "tiny"]
_DECODER_TFLOP: Final[dict[Decoder, float]] = {"full": 2.51, "tiny": 0.13}
"""Decoding one image of 512x512, by decoder."""


class CatalogueLora(Struct, frozen=True, kw_only=True):
    """A LoRA on the hub that belongs to an entry.

    Attributes:
        hub_id: owner/name on the hub.
        revision: the commit.
        file: its path.
    """

    hub_id: str
    revision: str
    file: str

    @property
    def url(self) -> str:
        """Its page at this revision."""
        return f"https://huggingface.co/{self.hub_id}/tree/{self.revision}"


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
        denoising_tflop: the operations of an image with these defaults, without decoding, in 10^12: counted for the
            published sizes, as the OpenVINO engine runs them.
        own_decoder: whether the model's own decoder is a full or a tiny one.
        lora: merged into the weights, if the model needs one.
        pickled: whether its weights are torch pickles, which are then read with `weights_only=True`.
    """

    name: str
    hub_id: str
    revision: str
    license: str
    license_url: str
    about: str
    defaults: Defaults
    denoising_tflop: float = 0.0
    own_decoder: Decoder = "full"
    lora: CatalogueLora | None = None
    pickled: bool = False

    @property
    def url(self) -> str:
        """The model's page at this revision."""
        return f"https://huggingface.co/{self.hub_id}/tree/{self.revision}"

    @property
    def commits(self) -> str:
        """The beginning of the commit, and of the LoRA's if there is one: what a baked folder depends on."""
        return "+".join(each.revision[:12] for each in (self, self.lora) if each)

    def tflop(self, decoder: Decoder) -> float:
        """Return the operations of an image with the defaults, in 10^12."""
        pixels = self.defaults.width * self.defaults.height
        return self.denoising_tflop + _DECODER_TFLOP[decoder] * pixels / 512**2


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
            denoising_tflop=21.6,
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
            denoising_tflop=3.08,
        ),
        CatalogueEntry(
            name="sd-turbo",
            hub_id="stabilityai/sd-turbo",
            revision="b261bac6fd2cf515557d5d0707481eafa0485ec2",
            license="Stability AI Community License",
            license_url="https://stability.ai/license",
            about="Stable Diffusion 2.1 distilled to 1 to 4 steps without guidance; read its license first.",
            defaults=Defaults(num_inference_steps=1, guidance_scale=0.0, width=512, height=512, scheduler="euler"),
            denoising_tflop=0.81,
        ),
        CatalogueEntry(
            name="sdxs-dreamshaper",
            hub_id="IDKiro/sdxs-512-dreamshaper",
            revision="76f720262bb051da75666b22c902a78c8e16c763",
            license="CreativeML-OpenRAIL++-M",
            license_url="https://huggingface.co/IDKiro/sdxs-512-dreamshaper",
            about="A small UNet and a tiny decoder, distilled to one step: the fastest model here.",
            # One step from the last timestep, whatever the spacing of the model's own scheduler.
            defaults=Defaults(num_inference_steps=1, guidance_scale=0.0, width=512, height=512, scheduler="lcm"),
            denoising_tflop=0.35,
            own_decoder="tiny",
        ),
        CatalogueEntry(
            name="sd15-lcm",
            hub_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
            revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
            license="CreativeML-OpenRAIL-M; its LoRA: CreativeML-OpenRAIL++-M",
            license_url=_OPENRAIL,
            about="Stable Diffusion 1.5 with the LCM-LoRA: 4 steps without guidance; merges other LoRAs as well.",
            defaults=Defaults(num_inference_steps=4, guidance_scale=1.0, width=512, height=512, scheduler="lcm"),
            denoising_tflop=3.08,
            lora=CatalogueLora(
                hub_id="latent-consistency/lcm-lora-sdv1-5",
                revision="cf2fced511dbe7e26c8d1d397e728fbab875db4b",
                file="pytorch_lora_weights.safetensors",
            ),
        ),
        CatalogueEntry(
            name="sdxl-turbo",
            hub_id="stabilityai/sdxl-turbo",
            revision="71153311d3dbb46851df1931d3ca6e939de83304",
            license="Stability AI Community License",
            license_url="https://stability.ai/license",
            about="Stable Diffusion XL distilled to 1 to 4 steps at 512x512; read its license first.",
            defaults=Defaults(
                num_inference_steps=1, guidance_scale=0.0, width=512, height=512, scheduler="euler_ancestral"
            ),
            denoising_tflop=1.67,
        ),
        CatalogueEntry(
            name="vega-rt",
            hub_id="segmind/Segmind-Vega",
            revision="7714c4363e5856ff974a4f4b068e8691f26d0b40",
            license="Apache-2.0",
            license_url="https://huggingface.co/segmind/Segmind-Vega",
            about="A third of Stable Diffusion XL with an LCM-LoRA: 4 steps without guidance at 1024x1024.",
            defaults=Defaults(num_inference_steps=4, guidance_scale=0.0, width=1024, height=1024, scheduler="lcm"),
            denoising_tflop=10.9,
            lora=CatalogueLora(
                hub_id="segmind/Segmind-VegaRT",
                revision="3162e917016cef536fa040ceeeeadd9e09d93e7a",
                file="pytorch_lora_weights.safetensors",
            ),
        ),
        CatalogueEntry(
            name="sdxl-lightning",
            hub_id="stabilityai/stable-diffusion-xl-base-1.0",
            revision="462165984030d82259a11f4367a4eed129e94a7b",
            license="CreativeML-OpenRAIL++-M",
            license_url="https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
            about="Stable Diffusion XL with the Lightning LoRA: 4 steps without guidance at 1024x1024.",
            defaults=Defaults(num_inference_steps=4, guidance_scale=0.0, width=1024, height=1024, scheduler="euler"),
            denoising_tflop=26.6,
            lora=CatalogueLora(
                hub_id="ByteDance/SDXL-Lightning",
                revision="c9a24f48e1c025556787b0c58dd67a091ece2e44",
                file="sdxl_lightning_4step_lora.safetensors",
            ),
        ),
    )
}


def find(name: str) -> CatalogueEntry | None:
    """Return the entry with this name or hub id, or None. A hub id stands for the model without a LoRA."""
    plain = (entry for entry in CATALOGUE.values() if entry.lora is None)
    return CATALOGUE.get(name) or next((entry for entry in plain if entry.hub_id == name), None)


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

"""Tools that store their settings as a JSON object: SwarmUI, Fooocus, InvokeAI, NovelAI, Draw Things, Easy Diffusion.

They differ in where the object is and in the names of the settings; the formats are described at each function.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any, Final

from lambdiff.client.foreign_metadata.recorded import json_object, recorded, text
from lambdiff.protocol.image_texts import ImageTexts
from lambdiff.protocol.metadata import ImageMetadata

_NAMES: Final = {
    "prompt": ("prompt", "positive_prompt", "c"),
    "negative": ("negative_prompt", "negativeprompt", "uc", "negative"),
    "steps": ("steps", "num_inference_steps"),
    "scale": ("guidance_scale", "cfg_scale", "cfgscale", "cfg", "scale"),
    "seed": ("seed",),
    "width": ("width",),
    "height": ("height",),
    "sampler": ("sampler", "sampler_name", "comfyuisampler", "autowebuisampler"),
    "schedule": ("scheduler", "noise_schedule", "comfyuischeduler"),
    "model": (
        "base_model",
        "base_model_name",
        "model",
        "model_weights",
        "use_stable_diffusion_model",
        "stable_diffusion_model",
    ),
}
"""The settings that lambdiff has, and what the tools call them."""
_UNSUPPORTED: Final = re.compile(
    r"lora|control(?!net_strength)|clip_?skip|init_?image|strength$|creativity|refiner|upscal|hires|vae|style|sharpness|freeu|cfg_rescale|"
    r"hypernet|ip_?adapter|variation|mask|char_?captions|face|tiling|seamless",
    re.IGNORECASE,
)
"""Other settings that change the image."""
_SIGNATURES: Final = (
    ("Fooocus", {"base_model", "prompt"}),
    ("RuinedFooocus", {"base_model_name", "prompt"}),
    ("InvokeAI", {"positive_prompt", "scheduler"}),
    ("Draw Things", {"c", "uc"}),
    ("NovelAI", {"uc", "scale"}),
    ("Easy Diffusion", {"prompt", "use_stable_diffusion_model"}),
    ("Easy Diffusion", {"prompt", "stable_diffusion_model"}),
)
"""Names by which an object is recognized."""
_WITHOUT_EFFECT: Final = frozenset(
    {"", "none", "false", "0", "0.0", "1", "1.0", "[]", "{}", "default (model)", "automatic", "(0, 0)"}
)


def from_object(settings: dict[str, Any]) -> ImageMetadata | None:
    """Read an object whose names tell which tool wrote it.

    - SwarmUI: `sui_image_params` (https://github.com/mcmonkeyprojects/SwarmUI, docs/Image Metadata Format).
    - Fooocus: a version, or `base_model` (https://github.com/lllyasviel/Fooocus, modules/meta_parser.py); forks also
      store width, height and `cfg`.
    - RuinedFooocus: `base_model_name` (https://github.com/runew0lf/RuinedFooocus).
    - InvokeAI: `positive_prompt` (https://github.com/invoke-ai/InvokeAI).
    - Draw Things: `c` and `uc`, in a UserComment or in XMP (https://drawthings.ai).
    - NovelAI: `uc` and `scale`; or `Comment` with the settings as JSON, and `Description`.
    - Easy Diffusion: `use_stable_diffusion_model`, or the same in words (https://github.com/easydiffusion/easydiffusion,
      ui/easydiffusion/utils/save_utils.py).
    """
    nested = settings.get("sui_image_params")
    if isinstance(nested, dict):
        return _flat("SwarmUI", nested)
    if comment := json_object(settings.get("Comment")):
        return novelai(comment, text(settings.get("Description")), text(settings.get("Source")))
    names = {_plain(name) for name in settings}
    tool = next((tool for tool, signature in _SIGNATURES if signature <= names), None)
    if text(settings.get("version", settings.get("Version"))).startswith("Fooocus"):
        tool = "Fooocus"
    if tool == "NovelAI":
        return novelai(settings, "", "")
    if tool == "InvokeAI":
        return invokeai(settings)
    return _flat(tool, settings) if tool else None


def from_texts(texts: ImageTexts) -> ImageMetadata | None:
    """Read the texts that tools store under names of their own."""
    named = texts.named
    if settings := json_object(named.get("invokeai_metadata")):
        return invokeai(settings)
    if settings := json_object(named.get("sd-metadata")):
        return invokeai_2(settings)
    if "Dream" in named:
        return dream(named["Dream"])
    if settings := json_object(named.get("Comment")):
        settings = {**dict(zip(("width", "height"), texts.size or (), strict=False)), **settings}
        from_novelai = named.get("Software") == "NovelAI"
        if from_novelai:
            return novelai(settings, named.get("Description", ""), named.get("Source", ""))
        return from_object(settings)
    return from_object(dict(named))


def invokeai(settings: dict[str, Any]) -> ImageMetadata | None:
    """Read `invokeai_metadata` of InvokeAI 3 and later, in which `scheduler` is the sampler."""
    model = settings.get("model")
    model = model.get("name", model.get("model_name")) if isinstance(model, dict) else model
    return _flat("InvokeAI", {**settings, "sampler": settings.get("scheduler"), "scheduler": None, "model": model})


def invokeai_2(settings: dict[str, Any]) -> ImageMetadata | None:
    """Read `sd-metadata` of InvokeAI 2: `image` has the settings, and the prompt may be a list of weighted ones."""
    image = settings.get("image")
    if not isinstance(image, dict):
        return None
    prompt = image.get("prompt")
    if isinstance(prompt, list):
        prompt = prompt[0].get("prompt") if len(prompt) == 1 and isinstance(prompt[0], dict) else None
    return _flat("InvokeAI", {**image, **_split_brackets(prompt), "model": settings.get("model_weights")})


def dream(command: str) -> ImageMetadata | None:
    """Read the command line of InvokeAI 1, such as `"a cat [dog]" -s 50 -S 42 -W 512 -H 512 -C 7.5 -A k_lms`."""
    match = re.match(r'\s*"(.*)"(.*)$', command, re.DOTALL)
    if not match:
        return None
    names = {"s": "steps", "S": "seed", "W": "width", "H": "height", "C": "cfg_scale", "A": "sampler", "f": "strength"}
    options = {names.get(key, key): value for key, value in re.findall(r"\s-(\w+)[ =]?(\S*)", match[2])}
    return _flat("InvokeAI", {**options, **_split_brackets(match[1])})


def novelai(comment: dict[str, Any], description: str, source: str) -> ImageMetadata | None:
    """Read NovelAI's `Comment`; older ones lack the prompt, which is then in `Description`."""
    settings = {"prompt": description or None, "model": source, **comment}
    with contextlib.suppress(
        KeyError, TypeError
    ):  # the prompts of characters, which newer models have beside the main one
        settings["char_captions"] = [each["char_caption"] for each in comment["v4_prompt"]["caption"]["char_captions"]]
    return _flat("NovelAI", settings)


def _flat(tool: str, settings: Mapping[str, Any]) -> ImageMetadata | None:
    """Read an object that has all settings at its top level."""
    by_name = {_plain(name): value for name, value in settings.items()}
    found = {
        field: next((by_name[name] for name in names if by_name.get(name) not in (None, "")), None)
        for field, names in _NAMES.items()
    }
    size = re.search(r"(\d{1,6})\D{1,3}(\d{1,6})", text(by_name.get("size", by_name.get("resolution"))))
    if size and found["width"] is None:
        found |= {"width": size[1], "height": size[2]}
    unsupported = {
        name: value
        for name, value in settings.items()
        if _UNSUPPORTED.search(_plain(name)) and text(value).lower() not in _WITHOUT_EFFECT
    }
    return recorded(tool, **found, settings=settings, unsupported=unsupported)


def _plain(name: str) -> str:
    return name.lower().replace(" ", "_")


def _split_brackets(prompt: Any) -> dict[str, Any]:
    """Separate the negative parts, which InvokeAI 1 and 2 write in brackets, from the prompt."""
    if not isinstance(prompt, str):
        return {"prompt": None}
    negative = ", ".join(part.strip() for part in re.findall(r"\[([^\[\]]*)\]", prompt))
    return {"prompt": re.sub(r"\s?\[[^\[\]]*\]", "", prompt), "negative_prompt": negative}

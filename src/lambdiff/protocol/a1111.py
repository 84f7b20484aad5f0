"""The `parameters` text of AUTOMATIC1111's web UI, which Civitai and sd-prompt-reader read.

a cat in a top hat
Negative prompt: dog
Steps: 20, Sampler: Euler, CFG scale: 7, Seed: 42, Size: 512x512, Model: sd-turbo, Version: lambdiff 0.1.0
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any, Final

from lambdiff._version import __version__
from lambdiff.protocol.contract import GenerateRequest, Generation

# The web UI's names: https://github.com/AUTOMATIC1111/stable-diffusion-webui/blob/master/modules/sd_samplers_kdiffusion.py
SAMPLERS: Final = {"ddim": "DDIM", "dpmpp_2m": "DPM++ 2M", "euler": "Euler", "lcm": "LCM", "pndm": "PLMS"}

_NEGATIVE: Final = "Negative prompt:"
_SETTING: Final = re.compile(r'\s*(\w[\w /()-]{0,60}):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_MIN_SETTINGS: Final = 3
"""If the last line has fewer settings than this, it is the end of a prompt that contains commas and colons."""


def to_text(generation: Generation, model: str, version: str = __version__) -> str:
    """Return the text for a generation; see the example in the module's docstring."""
    scale = generation.guidance_scale
    settings = {
        "Steps": generation.num_inference_steps,
        "Sampler": SAMPLERS[generation.scheduler],
        "CFG scale": int(scale) if scale == int(scale) else scale,
        "Seed": generation.seed,
        "Size": f"{generation.width}x{generation.height}",
        "Model": model,
        "Version": f"lambdiff {version}",
    }
    lines = [generation.prompt]
    if generation.negative_prompt:
        lines.append(f"{_NEGATIVE} {generation.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings.items()))
    return "\n".join(lines)


def from_text(text: str) -> tuple[GenerateRequest, dict[str, str]]:
    """Parse a text written by any tool.

    Returns:
        The parameters that lambdiff understands, and all settings unchanged. The values are not validated: they may be
        out of the contract's range.
    """
    *prompts, last = text.strip().split("\n")
    settings = {name: _unquoted(value) for name, value in _SETTING.findall(last)}
    if len(settings) < _MIN_SETTINGS:
        prompts, settings = [*prompts, last], {}
    prompt, _, negative = ("\n" + "\n".join(prompts)).partition(f"\n{_NEGATIVE}")
    schedulers = {sampler.lower(): name for name, sampler in SAMPLERS.items()}
    size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", settings.get("Size", ""))
    fields: dict[str, Any] = {
        "prompt": prompt.strip(),
        "negative_prompt": negative.strip() or None,
        "num_inference_steps": _number(int, settings.get("Steps")),
        "guidance_scale": _number(float, settings.get("CFG scale")),
        "seed": _number(int, settings.get("Seed")),
        "width": int(size[1]) if size else None,
        "height": int(size[2]) if size else None,
        "scheduler": schedulers.get(settings.get("Sampler", "").lower()),
    }
    return GenerateRequest(**fields), settings


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]', value) else value


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        with contextlib.suppress(json.JSONDecodeError):
            return str(json.loads(value))
    return value.strip()


def _number(kind: type, value: str | None) -> Any:
    try:
        return kind((value or "")[:40])
    except ValueError:
        return None

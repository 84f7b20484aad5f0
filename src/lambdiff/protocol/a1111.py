"""The `parameters` text of AUTOMATIC1111's web UI, which Civitai and sd-prompt-reader read.

a cat in a top hat
Negative prompt: dog
Steps: 20, Sampler: Euler, CFG scale: 7, Seed: 42, Size: 512x512, Model: sd-turbo, Version: lambdiff 0.1.0

`client/foreign_metadata/webui.py` reads it.
"""

from __future__ import annotations

import json
import re
from typing import Final

from lambdiff._version import __version__
from lambdiff.protocol.contract import Generation

# The web UI's names: https://github.com/AUTOMATIC1111/stable-diffusion-webui/blob/master/modules/sd_samplers_kdiffusion.py
SAMPLERS: Final = {"ddim": "DDIM", "dpmpp_2m": "DPM++ 2M", "euler": "Euler", "lcm": "LCM", "pndm": "PLMS"}


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
        lines.append(f"Negative prompt: {generation.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings.items()))
    return "\n".join(lines)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]', value) else value

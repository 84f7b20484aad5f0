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
from lambdiff.protocol.contract import Generation, SchedulerName, SigmaSchedule

# The web UI's names: https://github.com/AUTOMATIC1111/stable-diffusion-webui/blob/master/modules/sd_samplers_kdiffusion.py
SAMPLERS: Final[dict[SchedulerName, str]] = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "lcm": "LCM",
    "pndm": "PLMS",
    "tcd": "TCD",
    "unipc": "UniPC",
}


def to_text(generation: Generation, model: str, version: str = __version__) -> str:
    """Return the text for a generation; see the example in the module's docstring."""
    scale = generation.guidance_scale
    settings: dict[str, object] = {
        "Steps": generation.num_inference_steps,
        "Sampler": SAMPLERS[generation.scheduler],
        **_schedule_type(generation.sigma_schedule),
        "CFG scale": int(scale) if scale == int(scale) else scale,
        "Seed": generation.seed,
        "Size": f"{generation.width}x{generation.height}",
        "Model": model,
        **({} if generation.strength is None else {"Denoising strength": generation.strength}),
        "Version": f"lambdiff {version}",
    }
    lines = [generation.prompt]
    if generation.negative_prompt:
        lines.append(f"Negative prompt: {generation.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings.items()))
    return "\n".join(lines)


def _schedule_type(sigma_schedule: SigmaSchedule) -> dict[str, str]:
    return {} if sigma_schedule == "normal" else {"Schedule type": sigma_schedule.title()}


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]', value) else value

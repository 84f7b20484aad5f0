"""The model families that the OpenVINO engine runs, and how each turns text into latents.

To add a family, write its pipeline in a file here, add its name to `manifest.Family`, and add both to `PIPELINES`.
"""

from __future__ import annotations

from typing import Final

from lambdiff.engine.manifest import Family
from lambdiff.engine.pipelines.base import Pipeline
from lambdiff.engine.pipelines.stable_diffusion import StableDiffusionPipeline
from lambdiff.engine.pipelines.stable_diffusion_xl import StableDiffusionXLPipeline

PIPELINES: Final[dict[Family, type[Pipeline]]] = {
    "stable_diffusion": StableDiffusionPipeline,
    "stable_diffusion_xl": StableDiffusionXLPipeline,
}

"""The families of models that the OpenVINO engine runs: how each turns text into latents.

To add a family, write its pipeline in a file here, add its name to `manifest.Family`, and enter both in `PIPELINES`.
"""

from __future__ import annotations

from typing import Final

from lambdiff.engine.manifest import Family
from lambdiff.engine.pipelines.base import Pipeline
from lambdiff.engine.pipelines.stable_diffusion import StableDiffusionPipeline

PIPELINES: Final[dict[Family, type[Pipeline]]] = {
    "stable_diffusion": StableDiffusionPipeline,
}

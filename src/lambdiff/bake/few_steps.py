"""Recognize weights that make a model generate in a few steps, by the names under which their authors publish them.

The samplers, steps and guidance are those of the model cards: LCM-LoRA (latent-consistency), Hyper-SD (ByteDance),
SDXL-Lightning (ByteDance), DMD2 (tianweiy), TCD (h1t), SD and SDXL Turbo (Stability AI).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from lambdiff.bake.parameters import DefaultOverrides
from lambdiff.bake.scheduler_config import SchedulerConfig
from lambdiff.protocol.contract import SchedulerName

_TRAILING: Final = {"timestep_spacing": "trailing"}
_TITLES: Final = ("modelspec.title", "ss_output_name")
_GENERIC: Final = re.compile(r"(pytorch_lora_weights|adapter_model|lora|model|diffusion_pytorch_model)", re.IGNORECASE)


@dataclass(frozen=True)
class FewSteps:
    """How to generate with such weights.

    Attributes:
        file: the name of the file.
        method: the name of the method.
        scheduler: the sampler.
        steps: the number of steps.
        guidance_scale: 0 if the guidance is built in.
        diffusion: fields of the manifest's `Diffusion` that differ from the model's.
    """

    file: str
    method: str
    scheduler: SchedulerName
    steps: int
    guidance_scale: float = 0.0
    diffusion: Mapping[str, Any] = field(default_factory=dict)

    @property
    def defaults(self) -> DefaultOverrides:
        """The defaults of requests."""
        return {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "scheduler": self.scheduler,
            "sigma_schedule": "normal",
        }

    def apply(self, scheduler: SchedulerConfig) -> SchedulerConfig:
        """Return the model's noise process with this method's sampler."""
        diffusion = msgspec.structs.replace(scheduler.diffusion, **self.diffusion)
        return SchedulerConfig(diffusion, self.scheduler, only=scheduler.only)

    def note(self, overrides: DefaultOverrides) -> str:
        """Say which defaults follow from the file; those that the caller chose are not among them."""
        guidance = f"guidance {self.guidance_scale:g}" if self.guidance_scale > 1 else "no guidance"
        texts = {
            "scheduler": f"the sampler {self.scheduler}",
            "num_inference_steps": "1 step" if self.steps == 1 else f"{self.steps} steps",
            "guidance_scale": guidance,
        }
        chosen = [text for name, text in texts.items() if name not in overrides]
        if not chosen:
            return f"{self.file} is made for {self.method}."
        return f"Defaults of {', '.join(chosen)}, because {self.file} is made for {self.method}."


def of_lora(path: Path, metadata: Mapping[str, str]) -> FewSteps | None:
    """Recognize a LoRA by its file's name or metadata; a generic name is completed by those of its folders."""
    names = [path.stem, *(metadata.get(key, "") for key in _TITLES)]
    if _GENERIC.fullmatch(path.stem):
        names += path.resolve().parts[-4:-1]
    return next((found for name in names if (found := _recognize(path.name, name.lower()))), None)


def of_checkpoint(path: Path) -> FewSteps | None:
    """Recognize a checkpoint by its file's name."""
    name = path.stem.lower()
    if re.match(r"sd_?(xl_?)?turbo", name):
        return FewSteps(path.name, "one step (Turbo)", "euler", 1, diffusion=_TRAILING)
    return _recognize(path.name, name)


def _recognize(file: str, name: str) -> FewSteps | None:
    found = re.search(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])", name)
    steps = int(found[1]) if found else 4
    if re.search(r"hyper[-_ ]?sd", name):
        guidance = 5.0 if _word("cfg", name) else 0.0
        several = FewSteps(file, "Hyper-SD", "ddim", steps, guidance, _TRAILING)
        return several if steps > 1 else FewSteps(file, "Hyper-SD", "tcd", 1)
    if "lightning" in name and found:  # without a number of steps, it may be the weather
        return FewSteps(file, "Lightning", "euler", steps, diffusion=_TRAILING)
    if _word("dmd2", name):
        # 100 steps of the teacher give the card's timesteps 999, 749, 499 and 249.
        return FewSteps(file, "DMD2", "lcm", steps, diffusion={"original_inference_steps": 100})
    if _word("tcd", name):
        return FewSteps(file, "TCD", "tcd", steps, diffusion={"eta": 0.3})
    return FewSteps(file, "LCM", "lcm", steps, 1.0) if _word("lcm", name) else None


def _word(word: str, name: str) -> bool:
    return re.search(rf"(?<![a-z]){word}(?![a-z])", name) is not None

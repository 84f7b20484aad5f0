"""Weights that make a model generate in a few steps, by their names (bake/few_steps.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambdiff.bake import few_steps
from lambdiff.bake.scheduler_config import SchedulerConfig
from lambdiff.engine import schedulers
from lambdiff.engine.latents import step_noise
from lambdiff.engine.manifest import Diffusion


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lcm-lora-sdv1-5", ("lcm", 4, 1.0)),
        ("LCM_LoRA_Weights_SD15", ("lcm", 4, 1.0)),
        ("Hyper-SD15-1step-lora", ("tcd", 1, 0.0)),
        ("Hyper-SD15-4steps-lora", ("ddim", 4, 0.0)),
        ("Hyper-SDXL-8steps-CFG-lora", ("ddim", 8, 5.0)),
        ("sdxl_lightning_2step_lora", ("euler", 2, 0.0)),
        ("SDXL-Lightning-8steps", ("euler", 8, 0.0)),
        ("dmd2_sdxl_4step_lora_fp16", ("lcm", 4, 0.0)),
        ("TCD-SD15-LoRA", ("tcd", 4, 0.0)),
        ("lightning_storm_v2", None),
        ("add_detail", None),
        ("welcmback", None),
        ("hyperrealism", None),
    ],
)
def test_loras_are_recognized_by_the_names_of_their_authors(name: str, expected: tuple[str, int, float] | None) -> None:
    """Sampler, steps and guidance are those of the model card; other names have no meaning."""
    found = few_steps.of_lora(Path(f"{name}.safetensors"), {})
    assert (found and (found.scheduler, found.steps, found.guidance_scale)) == expected


def test_a_generic_name_is_completed_by_its_folder_or_the_metadata(tmp_path: Path) -> None:
    """The hub's usual file name says nothing; the folder or a title in the metadata does."""
    file = tmp_path / "lcm-lora-sdxl" / "pytorch_lora_weights.safetensors"
    found = few_steps.of_lora(file, {})
    assert found is not None
    assert (found.method, found.file) == ("LCM", file.name)
    assert few_steps.of_lora(tmp_path / "lcm-lora-sdxl" / "detail.safetensors", {}) is None
    assert few_steps.of_lora(tmp_path / "x.safetensors", {"ss_output_name": "my-lcm-lora"}) is not None


def test_checkpoints_are_recognized_too() -> None:
    """Turbo models need one step."""
    for name in ("sd_turbo", "sd_xl_turbo_1.0_fp16"):
        found = few_steps.of_checkpoint(Path(f"{name}.safetensors"))
        assert found is not None
        assert (found.scheduler, found.steps) == ("euler", 1)
    assert few_steps.of_checkpoint(Path("dreamshaper_8.safetensors")) is None


def test_a_note_names_what_the_caller_has_not_chosen() -> None:
    """A default that the caller chooses is not said to come from the file."""
    found = few_steps.of_lora(Path("Hyper-SD15-1step-lora.safetensors"), {})
    assert found is not None
    assert found.note({}).startswith("Defaults of the sampler tcd, 1 step, no guidance, because Hyper-SD15-1step-lora")
    assert found.note({"scheduler": "lcm", "guidance_scale": 2.0}).startswith("Defaults of 1 step, because")
    every = found.note({"scheduler": "lcm", "guidance_scale": 2.0, "num_inference_steps": 2})
    assert every == "Hyper-SD15-1step-lora.safetensors is made for Hyper-SD."


def test_tcd_adds_the_noise_of_its_card() -> None:
    """The card of TCD generates with eta 0.3; diffusers' own default is 0."""
    found = few_steps.of_lora(Path("TCD-SDXL-LoRA.safetensors"), {})
    assert found is not None
    assert found.apply(SchedulerConfig(Diffusion(), "euler")) == SchedulerConfig(Diffusion(eta=0.3), "tcd")


def test_dmd2_uses_the_timesteps_of_its_card() -> None:
    """Four steps are 999, 749, 499 and 249, on which it was trained."""
    found = few_steps.of_lora(Path("dmd2_sdxl_4step_lora.safetensors"), {})
    assert found is not None
    scheduler = found.apply(SchedulerConfig(Diffusion(), "pndm"))
    made = schedulers.make(scheduler.default_scheduler, scheduler.diffusion, 4, step_noise(0))
    assert list(made.timesteps) == [999, 749, 499, 249]


def test_trailing_timesteps_come_with_lightning() -> None:
    """The last timestep must be the first, or the model gets less noise than it was trained with."""
    found = few_steps.of_lora(Path("sdxl_lightning_4step_lora.safetensors"), {})
    assert found is not None
    scheduler = found.apply(SchedulerConfig(Diffusion(), "pndm", "karras"))
    assert (scheduler.diffusion.timestep_spacing, scheduler.sigma_schedule) == ("trailing", "normal")

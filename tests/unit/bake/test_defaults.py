"""Defaults of requests, inferred from the model's files or chosen by the caller (bake/defaults.py)."""

from __future__ import annotations

from typing import Any

import pytest

from lambdiff.bake import catalogue
from lambdiff.bake.defaults import InferredDefaults, choose
from lambdiff.bake.pipeline_folder import PipelineConfig
from lambdiff.bake.scheduler_config import SchedulerConfig
from lambdiff.engine.manifest import Diffusion, Latents
from lambdiff.errors import InvalidRequest

TRAILING = Diffusion(timestep_spacing="trailing")


def infer(
    scheduler: str = "pndm",
    diffusion: Diffusion | None = None,
    sigma_schedule: str = "normal",
    overrides: dict[str, Any] | None = None,
    **pipeline: Any,
) -> InferredDefaults:
    """Return the defaults of a model like Stable Diffusion 1 with some changes."""
    config = PipelineConfig(
        **{
            "index": {},
            "unet": {},
            "latents": Latents(),
            "sample_size": (64, 64),
            "guidance_embedding": None,
            "tiny_decoder": False,
        }
        | pipeline
    )
    found = SchedulerConfig(diffusion or Diffusion(), scheduler, sigma_schedule)  # type: ignore[arg-type]
    return choose(None, config, found, None, overrides or {})  # type: ignore[arg-type]


def test_ordinary_models_get_guidance_and_25_steps() -> None:
    """A model that nothing marks as distilled gets 25 steps, guidance, its size and its scheduler, without a note."""
    defaults = infer("dpmpp_2m", sigma_schedule="karras").defaults
    assert (defaults.num_inference_steps, defaults.guidance_scale) == (25, 7.5)
    assert (defaults.width, defaults.height) == (512, 512)
    assert (defaults.scheduler, defaults.sigma_schedule) == ("dpmpp_2m", "karras")
    assert infer().notes == ()


@pytest.mark.parametrize(
    ("model", "steps", "guidance"),
    [
        ({"scheduler": "lcm"}, 4, 1.0),
        ({"scheduler": "lcm", "guidance_embedding": 256}, 4, 8.0),
        ({"scheduler": "ddim", "guidance_embedding": 256}, 4, 8.0),
        ({"scheduler": "tcd"}, 4, 0.0),
        ({"scheduler": "euler", "tiny_decoder": True}, 1, 0.0),
        ({"scheduler": "euler", "diffusion": TRAILING}, 4, 0.0),
        ({"scheduler": "euler_ancestral", "diffusion": TRAILING}, 4, 0.0),
        ({"scheduler": "ddim", "diffusion": TRAILING}, 25, 7.5),
        (
            {
                "scheduler": "euler",
                "diffusion": Diffusion(timestep_spacing="trailing", prediction_type="v_prediction"),
            },
            25,
            7.5,
        ),
    ],
)
def test_models_distilled_to_few_steps_are_recognized(model: dict[str, Any], steps: int, guidance: float) -> None:
    """Steps and guidance of a distilled model follow from its files, and a note says from which."""
    inferred = infer(**model)
    assert (inferred.defaults.num_inference_steps, inferred.defaults.guidance_scale) == (steps, guidance)
    assert ("because" in "".join(inferred.notes)) == (steps < 25)


@pytest.mark.parametrize(
    ("sample_size", "size"),
    [
        ((64, 64), (512, 512)),
        ((48, 96), (768, 384)),
        ((96, 48), (384, 768)),
        ((256, 128), (512, 1024)),
        ((4, 4), (64, 64)),
    ],
)
def test_the_default_size_is_that_of_the_training(sample_size: tuple[int, int], size: tuple[int, int]) -> None:
    """Width and height follow the UNet's `sample_size`, within what a request may have; a note names the difference."""
    inferred = infer(sample_size=sample_size)
    assert (inferred.defaults.width, inferred.defaults.height) == size
    changed = size != (8 * sample_size[1], 8 * sample_size[0])
    assert any(note.startswith("The model was trained at") for note in inferred.notes) == changed


def test_the_callers_values_take_precedence() -> None:
    """Each default can be chosen; another scheduler does not take the spacing of noise levels of the model's own."""
    overrides = {"num_inference_steps": 9, "guidance_scale": 2.0, "width": 256, "height": 128, "scheduler": "heun"}
    inferred = infer("dpmpp_2m", sigma_schedule="karras", overrides=overrides)
    defaults = inferred.defaults
    assert {name: getattr(defaults, name) for name in overrides} == overrides
    assert (defaults.sigma_schedule, inferred.notes) == ("normal", ())
    entry = catalogue.CATALOGUE["tiny-sd"]
    config = PipelineConfig({}, {}, Latents(), (64, 64), None, False)
    chosen = choose(entry, config, SchedulerConfig(Diffusion(), "ddim"), None, {"num_inference_steps": 9}).defaults
    assert (chosen.num_inference_steps, chosen.scheduler) == (9, entry.defaults.scheduler)


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"scheduler": "ddim", "sigma_schedule": "karras"}, "sigma_schedule"),
        ({"scheduler": "lcm", "num_inference_steps": 60}, "num_inference_steps"),
    ],
)
def test_defaults_that_the_model_does_not_support_are_refused(overrides: dict[str, Any], field: str) -> None:
    """Defaults with which every request would be refused are refused before the conversion."""
    with pytest.raises(InvalidRequest) as caught:
        infer(overrides=overrides)
    assert [name for name, _ in caught.value.problems] == [field]
    zero_snr = Diffusion(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    with pytest.raises(InvalidRequest, match="scheduler"):
        infer("ddim", zero_snr, overrides={"scheduler": "pndm"})

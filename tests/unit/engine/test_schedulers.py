"""Each scheduler, compared with its counterpart in diffusers (engine/schedulers)."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch

from lambdiff.engine import schedulers
from lambdiff.engine.manifest import Diffusion
from lambdiff.engine.schedulers.noise_schedule import alphas_cumprod
from lambdiff.errors import InvalidRequest

pytestmark = pytest.mark.engine

REFERENCES = {
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "lcm": (diffusers.LCMScheduler, {}),
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True}),
}
NOISE = [
    Diffusion(),
    Diffusion(beta_end=0.02, beta_schedule="linear", set_alpha_to_one=True, steps_offset=0),
]


def reference(name: str, diffusion: Diffusion, steps: int):
    """Return diffusers' scheduler with the same settings."""
    cls, extra = REFERENCES[name]
    settings = {
        key: getattr(diffusion, key)
        for key in (*diffusion.__struct_fields__,)
        if key in cls.__init__.__wrapped__.__code__.co_varnames
    }
    scheduler = cls(**settings, **extra)
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("noise", NOISE, ids=["stable-diffusion", "linear"])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", REFERENCES)
def test_schedulers_agree_with_diffusers_at_every_step(name, prediction, spacing, noise, monkeypatch):
    """Timesteps, initial scale, model inputs and samples agree with diffusers, for random outputs and 1 to 31 steps."""
    diffusion = Diffusion(
        **{f: getattr(noise, f) for f in noise.__struct_fields__}
        | {"prediction_type": prediction, "timestep_spacing": spacing}
    )
    for steps in (1, 2, 3, 4, 7, 20, 31):
        theirs = reference(name, diffusion, steps)
        ours = schedulers.make(name, diffusion, steps, np.random.default_rng(5))
        fresh = np.random.default_rng(5)
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_lcm.randn_tensor",
            lambda shape, fresh=fresh, **_: torch.from_numpy(fresh.standard_normal(shape, dtype=np.float32)),
        )
        np.testing.assert_allclose(ours.timesteps, theirs.timesteps.numpy(), atol=1e-3)
        assert ours.init_noise_sigma == pytest.approx(float(theirs.init_noise_sigma), rel=1e-4)
        rng = np.random.default_rng(7)
        sample = rng.standard_normal((1, 4, 6, 9), dtype=np.float32) * np.float32(ours.init_noise_sigma)
        expected = torch.from_numpy(sample)
        for timestep in theirs.timesteps:
            output = rng.standard_normal(sample.shape, dtype=np.float32)
            assert_close(ours.scale_model_input(sample), theirs.scale_model_input(expected, timestep))
            sample = ours.step(output, sample)
            expected = theirs.step(torch.from_numpy(output), timestep, expected).prev_sample
            assert_close(sample, expected)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("name", REFERENCES)
def test_timesteps_agree_with_diffusers_for_every_step_count(name, spacing):
    """Every step count that the contract allows gives diffusers' timesteps, whether or not it divides 1000."""
    diffusion = Diffusion(timestep_spacing=spacing)
    for steps in range(1, 51 if name == "lcm" else 101):
        ours = schedulers.make(name, diffusion, steps, np.random.default_rng(0)).timesteps
        theirs = reference(name, diffusion, steps).timesteps.numpy()
        if (spacing, steps) == ("trailing", 61) and name != "lcm":
            # Rounding in numpy.arange gives diffusers a 62nd step, at timestep -1.
            assert len(ours) - (name == "pndm") == 61
            continue
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_lcm_refuses_more_steps_than_its_teacher_had():
    """More than 50 LCM steps are refused with an error that names the field."""
    with pytest.raises(InvalidRequest, match=r"1\.\.50 with this model") as caught:
        schedulers.make("lcm", Diffusion(), 51, np.random.default_rng(0))
    assert caught.value.problems[0][0] == "num_inference_steps"


def test_a_perfect_model_leads_to_the_clean_sample():
    """If the model predicts the true noise, ddim, dpmpp_2m and euler end at the clean sample."""
    rng = np.random.default_rng(3)
    clean, noise = rng.standard_normal((2, 1, 4, 8, 8))
    diffusion = Diffusion(timestep_spacing="trailing", set_alpha_to_one=True)
    for name in ("ddim", "dpmpp_2m", "euler"):
        scheduler = schedulers.make(name, diffusion, 10, rng)
        alpha = alphas_cumprod(diffusion)[-1]
        sample = np.sqrt(alpha) * clean + np.sqrt(1 - alpha) * noise
        sample = sample / np.sqrt(alpha) if name == "euler" else sample
        for _ in scheduler.timesteps:
            sample = scheduler.step(noise, sample)
        np.testing.assert_allclose(sample, clean, atol=1e-6)


def assert_close(ours, theirs):
    """Compare two arrays relative to the largest value, because single elements may be close to zero."""
    theirs = theirs.numpy()
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()

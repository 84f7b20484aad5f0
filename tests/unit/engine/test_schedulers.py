"""Each scheduler, compared with its counterpart in diffusers (engine/schedulers)."""

from __future__ import annotations

import dataclasses
from typing import get_args

import msgspec
import numpy as np
import pytest
import torch

from lambdiff.engine import schedulers
from lambdiff.engine.diffusers import make_scheduler, seeded_steps
from lambdiff.engine.latents import step_noise
from lambdiff.engine.manifest import Diffusion
from lambdiff.engine.schedulers.noise_schedule import alphas_cumprod
from lambdiff.errors import InvalidRequest
from lambdiff.protocol.contract import SIGMA_SCHEDULED, SchedulerName, SigmaSchedule

pytestmark = pytest.mark.engine

NAMES = get_args(SchedulerName)
STEPS = (1, 2, 3, 4, 7, 14, 15, 20, 31)
MULTISTEP = ("dpmpp_2m", "dpmpp_2m_sde", "unipc")


@dataclasses.dataclass(frozen=True)
class Run:
    """One path through a scheduler and through diffusers', with the same random outputs of the model."""

    name: SchedulerName
    diffusion: Diffusion
    steps: int
    sigma_schedule: SigmaSchedule = "normal"

    def check(self) -> None:
        """Compare timesteps, initial scale, model inputs and samples, each to 1e-4 of the largest value."""
        theirs = make_scheduler(self.name, self.diffusion, self.sigma_schedule)
        theirs.set_timesteps(self.steps)
        if hasattr(theirs, "set_begin_index"):
            theirs.set_begin_index(0)
        ours = schedulers.make(self.name, self.diffusion, self.steps, step_noise(5), self.sigma_schedule)
        # diffusers truncates the timesteps of exponential schedules, and rounding errors make its first one 998.
        tolerance = 1 if self.sigma_schedule == "exponential" and self.name in MULTISTEP else 2e-3
        np.testing.assert_allclose(ours.timesteps, theirs.timesteps.numpy(), rtol=1e-5, atol=tolerance)
        assert ours.init_noise_sigma == pytest.approx(float(theirs.init_noise_sigma), rel=1e-3)
        rng = np.random.default_rng(7)
        sample = rng.standard_normal((1, 4, 6, 9)) * ours.init_noise_sigma
        expected = torch.from_numpy(sample)
        arguments = {"eta": self.diffusion.eta} if self.name == "tcd" else {}
        with seeded_steps(theirs, step_noise(5)):
            for timestep in theirs.timesteps:
                output = rng.standard_normal(sample.shape)
                assert_close(ours.scale_model_input(sample), theirs.scale_model_input(expected, timestep))
                sample = ours.step(output, sample)
                expected = theirs.step(torch.from_numpy(output), timestep, expected, **arguments).prev_sample
                assert_close(sample, expected)


def assert_close(ours, theirs):
    """Compare two arrays relative to the largest value, because single elements may be close to zero."""
    theirs = theirs.numpy()
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("beta_schedule", ["scaled_linear", "linear"])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", NAMES)
def test_schedulers_agree_with_diffusers_at_every_step(name, prediction, spacing, beta_schedule):
    """Timesteps, initial scale, model inputs and samples agree with diffusers, for random outputs and 1 to 31 steps."""
    diffusion = Diffusion(prediction_type=prediction, timestep_spacing=spacing)
    if beta_schedule == "linear":
        changes = {"beta_schedule": "linear", "beta_end": 0.02, "set_alpha_to_one": True, "steps_offset": 0}
        diffusion = msgspec.structs.replace(diffusion, **changes)
    for steps in STEPS:
        Run(name, diffusion, steps).check()


@pytest.mark.parametrize("sigma_schedule", ["karras", "exponential"])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("name", SIGMA_SCHEDULED)
def test_sigma_schedules_agree_with_diffusers(name, spacing, sigma_schedule):
    """Noise levels that are spaced by Karras' formula or exponentially agree with diffusers, with its timesteps."""
    for steps in (1, 2, 5, 14, 20):
        Run(name, Diffusion(timestep_spacing=spacing), steps, sigma_schedule).check()


@pytest.mark.parametrize(
    "changes",
    [
        {"solver_order": 1},
        {"solver_order": 3},
        {"solver_order": 2, "solver_type": "heun"},
        {"solver_order": 2, "solver_type": "bh1", "final_sigmas_type": "sigma_min"},
        {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min"},
        {"prediction_type": "sample"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"eta": 0.3},
        {"trained_betas": np.linspace(0.001, 0.02, 1000).tolist()},
        {"thresholding": True, "sample_max_value": 1.5},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    ],
    ids=lambda changes: ",".join(f"{key}={value}"[:40] for key, value in changes.items()),
)
@pytest.mark.parametrize("name", NAMES)
def test_settings_of_the_models_scheduler_agree_with_diffusers(name, changes):
    """Solver orders and variants, final noise levels and noise schedules of a model give diffusers' samples."""
    if (name, changes.get("solver_order")) == ("dpmpp_2m_sde", 3):
        pytest.xfail("diffusers' third-order update for the SDE has a sign error; bake refuses it")
    if name == "unipc" and changes.get("solver_type") != "bh1" and not changes.get("lower_order_final", True):
        return
    if "rescale_betas_zero_snr" in changes and name in ("heun", "pndm", "euler_ancestral"):
        return  # diffusers' classes lack the setting, or lose four digits to it in single precision
    if changes.get("prediction_type") == "sample" and name in ("euler_ancestral", "pndm"):
        return  # diffusers' classes refuse it
    for steps in (1, 2, 3, 8, 14, 20):
        Run(name, Diffusion(**changes), steps).check()


@pytest.mark.parametrize("name", ["ddim", "ddpm", "heun", "lcm"])
def test_the_clean_sample_is_clipped_like_diffusers(name):
    """`clip_sample_range` limits the clean sample in the schedulers that have it."""
    for limit in (1.0, 3.0):
        Run(name, Diffusion(clip_sample_range=limit), 10).check()


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("name", NAMES)
def test_timesteps_agree_with_diffusers_for_every_step_count(name, spacing):
    """Every step count that the contract allows gives diffusers' timesteps, whether or not it divides 1000."""
    diffusion = Diffusion(timestep_spacing=spacing)
    for steps in range(1, 51 if name in ("lcm", "tcd") else 101):
        ours = schedulers.make(name, diffusion, steps, step_noise(0)).timesteps
        reference = make_scheduler(name, diffusion)
        reference.set_timesteps(steps)
        theirs = reference.timesteps.numpy()
        if (spacing, steps) == ("trailing", 61) and name not in ("lcm", "tcd"):
            # Rounding in numpy.arange gives diffusers a 62nd step, at timestep -1.
            assert len(np.unique(ours)) == 61
            continue
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("name", ["lcm", "tcd"])
def test_distilled_samplers_refuse_more_steps_than_their_teacher_had(name):
    """More than 50 steps are refused with an error that names the field."""
    with pytest.raises(InvalidRequest, match=rf"1\.\.50 with this model and the scheduler {name}") as caught:
        schedulers.make(name, Diffusion(), 51, step_noise(0))
    assert caught.value.problems[0][0] == "num_inference_steps"


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "euler", "heun", "unipc"])
def test_a_perfect_model_leads_to_the_clean_sample(name):
    """If the model predicts the true noise, the samplers without fresh noise end at the clean sample."""
    rng = np.random.default_rng(3)
    clean, noise = rng.standard_normal((2, 1, 4, 8, 8))
    diffusion = Diffusion(timestep_spacing="trailing", set_alpha_to_one=True)
    scheduler = schedulers.make(name, diffusion, 10, step_noise(3))
    alpha = alphas_cumprod(diffusion)[-1]
    sample = np.sqrt(alpha) * clean + np.sqrt(1 - alpha) * noise
    sample = sample / np.sqrt(alpha) if name in ("euler", "heun") else sample
    for _ in scheduler.timesteps:
        sample = scheduler.step(noise, sample)
    np.testing.assert_allclose(sample, clean, atol=1e-6)


def test_step_noise_depends_on_seed_and_step_only():
    """The noise of a step is standard normal, and does not depend on what was asked for before."""
    noise = step_noise(7)
    later, earlier = noise(5, (1, 4, 64, 64)), noise(2, (1, 4, 64, 64))
    np.testing.assert_array_equal(step_noise(7)(2, (1, 4, 64, 64)), earlier)
    assert abs(np.corrcoef(later.ravel(), earlier.ravel())[0, 1]) < 0.05
    assert (later != step_noise(8)(5, (1, 4, 64, 64))).all()
    assert later.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("sigma_schedule", ["normal", "karras"])
@pytest.mark.parametrize("name", NAMES)
def test_a_late_start_agrees_with_diffusers(name, sigma_schedule):
    """From any step on, timesteps, noise that is added to a start image, and samples agree with diffusers."""
    if sigma_schedule != "normal" and name not in SIGMA_SCHEDULED:
        return
    diffusion, rng = Diffusion(), np.random.default_rng(7)
    start, noise = rng.standard_normal((2, 1, 4, 6, 9))
    arguments = {"eta": 0.0} if name == "tcd" else {}
    for steps, skipped in ((8, 0), (8, 1), (8, 5), (8, 7), (1, 0), (20, 9)):
        theirs = make_scheduler(name, diffusion, sigma_schedule)
        theirs.set_timesteps(steps)
        timesteps = theirs.timesteps[skipped * theirs.order :]
        if hasattr(theirs, "set_begin_index"):
            theirs.set_begin_index(skipped * theirs.order)
        ours = schedulers.make(name, diffusion, steps, step_noise(5), sigma_schedule)
        ours.skip(skipped)
        np.testing.assert_allclose(ours.remaining, timesteps.numpy(), rtol=1e-5, atol=2e-3)
        sample = ours.add_noise(start, noise)
        expected = theirs.add_noise(torch.from_numpy(start), torch.from_numpy(noise), timesteps[:1])
        assert_close(sample, expected)
        with seeded_steps(theirs, step_noise(5), skipped):
            for index, timestep in enumerate(timesteps):
                output = rng.standard_normal(sample.shape)
                assert_close(ours.scale_model_input(sample), theirs.scale_model_input(expected, timestep))
                sample = ours.step(output, sample)
                expected = theirs.step(torch.from_numpy(output), timestep, expected, **arguments).prev_sample
                assert_close(sample, expected)
                if index + 1 < len(timesteps):  # as inpainting does after each step
                    noised = theirs.add_noise(
                        torch.from_numpy(start), torch.from_numpy(noise), timesteps[index + 1 : index + 2]
                    )
                    assert_close(ours.add_noise(start, noise), noised)
        assert (ours.add_noise(start, noise) == start).all()

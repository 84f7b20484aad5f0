"""A pipeline's scheduler configuration becomes a noise process, a scheduler and notes (bake/scheduler_config.py)."""

from __future__ import annotations

import json

import diffusers
import pytest

from lambdiff.bake import scheduler_config
from lambdiff.errors import ModelError

pytestmark = pytest.mark.engine

SCHEDULER_CLASSES = sorted(name for name in dir(diffusers) if name.endswith("Scheduler"))


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a configuration, as a given pipeline class would."""

    def read_config(pipeline_class="StableDiffusionPipeline", engine="openvino", **config):
        (tmp_path / "scheduler").mkdir(exist_ok=True)
        (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
        index = {"_class_name": pipeline_class, "scheduler": ["diffusers", config["_class_name"]]}
        return scheduler_config.read(tmp_path, index, engine)

    return read_config


@pytest.mark.parametrize("class_name", SCHEDULER_CLASSES)
def test_every_scheduler_of_diffusers_is_honored_named_or_refused(read, class_name):
    """No scheduler class of diffusers, with its default settings, is replaced without a note."""
    try:
        found = read(_class_name=class_name)
    except ModelError as error:
        assert class_name in str(error) or "prediction" in str(error)
        return
    exact = scheduler_config.SCHEDULERS.get(class_name)
    assert found.default_scheduler == (exact or scheduler_config.NEAREST[class_name])
    if not exact:
        assert class_name in found.replaced[0]
        assert found.default_scheduler in found.replaced[0]


@pytest.mark.parametrize(
    ("class_name", "settings", "scheduler", "sigma_schedule"),
    [
        ("EulerAncestralDiscreteScheduler", {}, "euler_ancestral", "normal"),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, "dpmpp_2m", "karras"),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, "dpmpp_2m_sde", "normal"),
        ("EulerDiscreteScheduler", {"use_exponential_sigmas": True}, "euler", "exponential"),
        ("UniPCMultistepScheduler", {"use_karras_sigmas": True}, "unipc", "karras"),
        ("HeunDiscreteScheduler", {}, "heun", "normal"),
        ("TCDScheduler", {}, "tcd", "normal"),
        ("DDPMScheduler", {}, "ddpm", "normal"),
    ],
)
def test_a_supported_scheduler_is_the_default_without_notes(read, class_name, settings, scheduler, sigma_schedule):
    """A scheduler that lambdiff has, with settings that it honors, is taken as it is."""
    found = read(_class_name=class_name, beta_schedule="scaled_linear", **settings)
    assert (found.default_scheduler, found.sigma_schedule, found.replaced) == (scheduler, sigma_schedule, ())


@pytest.mark.parametrize(
    ("class_name", "settings", "told"),
    [
        ("PNDMScheduler", {"skip_prk_steps": False}, "skip_prk_steps"),
        (
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
            "algorithm_type",
        ),
        ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}, "use_lu_lambdas"),
        ("DPMSolverMultistepScheduler", {"lambda_min_clipped": -5.1}, "lambda_min_clipped"),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}, "solver_order 3"),
        ("EulerDiscreteScheduler", {"use_beta_sigmas": True}, "use_beta_sigmas"),
        ("EulerDiscreteScheduler", {"sigma_max": 120.0}, "sigma_max"),
        ("EulerDiscreteScheduler", {"interpolation_type": "log_linear"}, "interpolation_type"),
        ("UniPCMultistepScheduler", {"predict_x0": False}, "predict_x0"),
        ("UniPCMultistepScheduler", {"disable_corrector": [0]}, "disable_corrector"),
        ("UniPCMultistepScheduler", {"lower_order_final": False}, "lower_order_final"),
        ("UniPCMultistepScheduler", {"solver_type": "bh1"}, "solver_type bh1"),
        ("DDPMScheduler", {"variance_type": "fixed_large"}, "variance_type"),
        ("DEISMultistepScheduler", {"use_karras_sigmas": True}, "DEISMultistepScheduler"),
        ("KDPM2AncestralDiscreteScheduler", {"use_karras_sigmas": True}, "use_karras_sigmas"),
    ],
)
def test_a_setting_that_is_not_honored_is_named(read, class_name, settings, told):
    """A setting of the sampler that lambdiff replaces is named in a note."""
    found = read(_class_name=class_name, **settings)
    assert any(told in sentence for sentence in found.replaced), found.replaced


@pytest.mark.parametrize(
    ("class_name", "settings"),
    [
        ("EulerDiscreteScheduler", {"trained_betas": [0.1, 0.2]}),
        ("EulerDiscreteScheduler", {"beta_schedule": "cosine"}),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous", "prediction_type": "v_prediction"}),
        ("EulerDiscreteScheduler", {"rescale_betas_zero_snr": True}),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
        ("DDPMScheduler", {"variance_type": "learned_range"}),
        ("DDPMScheduler", {"beta_schedule": "sigmoid"}),
        ("DDIMScheduler", {"num_train_timesteps": "many"}),
        ("FlowMatchEulerDiscreteScheduler", {}),
        ("EDMEulerScheduler", {}),
        ("NoSuchScheduler", {}),
    ],
)
def test_a_noise_process_that_no_sampler_supports_is_refused(read, class_name, settings):
    """Settings that change what the model's inputs or outputs mean are refused."""
    with pytest.raises(ModelError, match="not supported"):
        read(_class_name=class_name, **settings)


def test_the_corrections_of_diffusers_pipelines_are_applied(read):
    """StableDiffusionPipeline sets `steps_offset` to 1 and turns clipping off; other pipelines keep both."""
    config = {"_class_name": "DDIMScheduler", "steps_offset": 0, "clip_sample": True, "clip_sample_range": 2.0}
    corrected, kept = read(**config).diffusion, read("StableDiffusionXLPipeline", **config).diffusion
    assert (corrected.steps_offset, corrected.clip_sample_range) == (1, None)
    assert (kept.steps_offset, kept.clip_sample_range) == (0, 2.0)


def test_a_latent_consistency_pipeline_runs_only_its_own_scheduler_in_diffusers(read):
    """diffusers' class passes arguments that other schedulers do not take; the OpenVINO engine runs them all."""
    lcm = {"pipeline_class": "LatentConsistencyModelPipeline", "_class_name": "LCMScheduler"}
    assert read(engine="diffusers", **lcm).supported == ("lcm",)
    assert "ddim" in read(**lcm).supported
    other = lcm | {"_class_name": "DDIMScheduler"}
    assert read(**other).default_scheduler == "ddim"
    with pytest.raises(ModelError, match="LatentConsistencyModelPipeline cannot run") as caught:
        read(engine="diffusers", **other)
    assert "openvino" in caught.value.fix

"""optimum-intel's OVStableDiffusionPipeline, which FastSD CPU draws with."""

from __future__ import annotations

from typing import Any

import common


def imports(_: common.Job) -> None:
    """What a script with optimum-intel imports."""
    from optimum.intel import OVStableDiffusionPipeline  # noqa: F401


def load(job: common.Job) -> Any:
    """The pipeline with the job's scheduler, compiled for the job's size, as FastSD CPU does it."""
    from diffusers import EulerDiscreteScheduler
    from optimum.intel import OVStableDiffusionPipeline

    settings = {"PERFORMANCE_HINT": "LATENCY", "CACHE_DIR": ""}
    settings |= {"INFERENCE_PRECISION_HINT": job.precision} if job.precision else {}
    pipeline = OVStableDiffusionPipeline.from_pretrained(job.model, device="CPU", ov_config=settings, compile=False)
    pipeline.reshape(batch_size=1, height=job.size, width=job.size, num_images_per_prompt=1)
    pipeline.compile()
    if job.scheduler == "euler":
        pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    job.time_method(pipeline, "encode_prompt", "encode")
    job.time_method(pipeline.unet, "forward", "denoise")
    job.time_method(pipeline.vae, "decode", "decode")
    return pipeline


def draw(pipeline: Any, job: common.Job) -> bytes:
    """One request, from the given latents."""
    drawn = pipeline(
        job.prompt,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        width=job.size,
        height=job.size,
        latents=_tensor(job),
    )
    return common.reply(drawn.images[0])


def _tensor(job: common.Job) -> Any:
    import torch

    return torch.from_numpy(job.latents())


def versions(_: Any) -> dict[str, str]:
    """Of optimum-intel and what it stands on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("optimum-intel", "openvino", "diffusers", "transformers")}


if __name__ == "__main__":
    common.run(imports, load, draw, versions)

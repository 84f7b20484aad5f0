"""The pipelines of optimum-intel, which FastSD CPU uses: OVStableDiffusionPipeline or that of SDXL."""

from __future__ import annotations

from typing import Any

import common


def imports(_: common.Job) -> None:
    """Import what a script with optimum-intel imports."""
    from optimum.intel import OVDiffusionPipeline  # noqa: F401


def load(job: common.Job) -> Any:
    """Return the pipeline with the job's scheduler, compiled for the job's size as in FastSD CPU."""
    from diffusers import EulerDiscreteScheduler
    from optimum.intel import OVDiffusionPipeline

    settings = {"PERFORMANCE_HINT": "LATENCY", "CACHE_DIR": ""}
    settings |= {"INFERENCE_PRECISION_HINT": job.precision} if job.precision else {}
    pipeline = OVDiffusionPipeline.from_pretrained(job.model, device="CPU", ov_config=settings, compile=False)
    # Its static shapes always have the two samples of guidance; without guidance, its shapes stay dynamic.
    if job.guidance > 1:
        pipeline.reshape(batch_size=1, height=job.size, width=job.size, num_images_per_prompt=1)
    pipeline.compile()
    if job.scheduler == "euler":
        pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    job.time_method(pipeline, "encode_prompt", "encode")
    job.time_method(pipeline.unet, "forward", "denoise")
    job.time_method(pipeline.vae, "decode", "decode")
    return pipeline


def generate(pipeline: Any, job: common.Job) -> bytes:
    """Answer one request, from the job's latents."""
    output = pipeline(
        job.prompt,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        width=job.size,
        height=job.size,
        latents=_tensor(job),
    )
    return common.reply(output.images[0])


def _tensor(job: common.Job) -> Any:
    import torch

    return torch.from_numpy(job.latents())


def versions(_: Any) -> dict[str, str]:
    """Return the versions of optimum-intel and the libraries below it."""
    from importlib.metadata import version

    return {name: version(name) for name in ("optimum-intel", "openvino", "diffusers", "transformers")}


if __name__ == "__main__":
    common.run(imports, load, generate, versions)

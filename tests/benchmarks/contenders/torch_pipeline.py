"""diffusers in torch: the pipeline is loaded once; with `bf16`, weights are also in channels-last order."""

from __future__ import annotations

from typing import Any

import common


def imports(_: common.Job) -> None:
    """Import what the script imports at its top."""
    import torch
    from diffusers import DiffusionPipeline  # noqa: F401

    torch.set_grad_enabled(False)


def load(job: common.Job) -> Any:
    """Return the pipeline from `from_pretrained`, with the scheduler and the decoder of the job."""
    import torch
    from diffusers import AutoencoderTiny, DiffusionPipeline, EulerDiscreteScheduler

    dtype = torch.bfloat16 if job.precision == "bf16" else torch.float32
    torch.set_num_threads(job.threads)
    pipeline = DiffusionPipeline.from_pretrained(job.model, torch_dtype=dtype)
    if job.decoder == "tiny":
        pipeline.vae = AutoencoderTiny.from_pretrained(job.tiny_autoencoder, torch_dtype=dtype)
    if job.scheduler == "euler":
        pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    if job.precision == "bf16":
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)
    pipeline.set_progress_bar_config(disable=True)
    return time_parts(pipeline, job)


def time_parts(pipeline: Any, job: common.Job) -> Any:
    """Time the phases of each request."""
    job.time_method(pipeline, "encode_prompt", "encode")
    job.time_method(pipeline.unet, "forward", "denoise")
    job.time_method(pipeline.vae, "decode", "decode")
    return pipeline


def generate(pipeline: Any, job: common.Job) -> bytes:
    """Answer one request, from the job's latents."""
    import torch

    latents = torch.from_numpy(job.latents()).to(pipeline.dtype)
    output = pipeline(
        job.prompt,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        width=job.size,
        height=job.size,
        latents=latents,
    )
    return common.reply(output.images[0])


def versions(_: Any) -> dict[str, str]:
    """Return the versions of torch, diffusers and transformers."""
    import diffusers
    import torch
    import transformers

    return {"torch": torch.__version__, "diffusers": diffusers.__version__, "transformers": transformers.__version__}


if __name__ == "__main__":
    common.run(imports, load, generate, versions)

"""diffusers in torch: one pipeline, loaded once and kept; with `bf16`, weights in channels-last order as well."""

from __future__ import annotations

from typing import Any

import common


def imports(_: common.Job) -> None:
    """What the script imports at its top."""
    import torch
    from diffusers import DiffusionPipeline  # noqa: F401

    torch.set_grad_enabled(False)


def load(job: common.Job) -> Any:
    """The pipeline as `from_pretrained` gives it, with the scheduler and the decoder of the job."""
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
    """Have the phases of each request timed."""
    job.time_method(pipeline, "encode_prompt", "encode")
    job.time_method(pipeline.unet, "forward", "denoise")
    job.time_method(pipeline.vae, "decode", "decode")
    return pipeline


def draw(pipeline: Any, job: common.Job) -> bytes:
    """One request, from latents that every contender with such an argument gets."""
    import torch

    latents = torch.from_numpy(job.latents()).to(pipeline.dtype)
    drawn = pipeline(
        job.prompt,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        width=job.size,
        height=job.size,
        latents=latents,
    )
    return common.reply(drawn.images[0])


def versions(_: Any) -> dict[str, str]:
    """Of torch and the libraries on it."""
    import diffusers
    import torch
    import transformers

    return {"torch": torch.__version__, "diffusers": diffusers.__version__, "transformers": transformers.__version__}


if __name__ == "__main__":
    common.run(imports, load, draw, versions)

"""The handler of tutorials: `DiffusionPipeline.from_pretrained` in each request, and a PNG in base64 as the reply.

It gets the latents of the other contenders, and the parts of its pipeline are timed; neither slows it down.
"""

from __future__ import annotations

import time

import common
from torch_pipeline import imports, time_parts, versions


def generate(_: None, job: common.Job) -> bytes:
    """Answer one request, loading included."""
    import torch
    from diffusers import DiffusionPipeline

    began = time.perf_counter()
    pipeline = DiffusionPipeline.from_pretrained(job.model)
    pipeline.set_progress_bar_config(disable=True)
    time_parts(pipeline, job)
    loaded = time.perf_counter() - began
    output = pipeline(
        job.prompt,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        width=job.size,
        height=job.size,
        latents=torch.from_numpy(job.latents()),
    )
    job.timings["load"] = loaded
    return common.reply(output.images[0])


if __name__ == "__main__":
    common.run(imports, lambda _: None, generate, versions)

"""The handler of the tutorials: `DiffusionPipeline.from_pretrained` within each request, a base64 PNG as the reply.

It is given the latents of the other contenders, and its pipeline's parts are timed, neither of which costs it anything.
"""

from __future__ import annotations

import time

import common
from torch_pipeline import imports, time_parts, versions


def draw(_: None, job: common.Job) -> bytes:
    """One request, loading included."""
    import torch
    from diffusers import DiffusionPipeline

    began = time.perf_counter()
    pipeline = DiffusionPipeline.from_pretrained(job.model)
    pipeline.set_progress_bar_config(disable=True)
    time_parts(pipeline, job)
    loaded = time.perf_counter() - began
    drawn = pipeline(
        job.prompt,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        width=job.size,
        height=job.size,
        latents=torch.from_numpy(job.latents()),
    )
    job.timings["load"] = loaded
    return common.reply(drawn.images[0])


if __name__ == "__main__":
    common.run(imports, lambda _: None, draw, versions)

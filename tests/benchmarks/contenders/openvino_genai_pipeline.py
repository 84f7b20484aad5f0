"""OpenVINO GenAI's Text2ImagePipeline."""

from __future__ import annotations

from typing import Any

import common


def imports(_: common.Job) -> None:
    """What a script with GenAI imports."""
    import numpy  # noqa: F401 -- for the latents
    import openvino_genai  # noqa: F401
    from PIL import Image  # noqa: F401


def load(job: common.Job) -> Any:
    """The pipeline with the job's scheduler, compiled for the job's size."""
    import openvino_genai

    settings = {"INFERENCE_PRECISION_HINT": job.precision} if job.precision else {}
    pipeline = openvino_genai.Text2ImagePipeline(job.model)
    kind = getattr(openvino_genai.Scheduler.Type, {"pndm": "PNDM", "euler": "EULER_DISCRETE"}[job.scheduler])
    pipeline.set_scheduler(
        openvino_genai.Scheduler.from_config(job.model / "scheduler" / "scheduler_config.json", kind)
    )
    pipeline.reshape(1, job.size, job.size, job.guidance)
    pipeline.compile("CPU", **settings)
    return pipeline


def draw(pipeline: Any, job: common.Job) -> bytes:
    """One request, from the given latents."""
    import openvino
    import openvino_genai
    from PIL import Image

    latents = job.latents()

    class Given(openvino_genai.Generator):
        """Hands the latents out instead of random numbers."""

        def next(self) -> float:
            raise NotImplementedError

        def randn_tensor(self, shape: Any) -> Any:
            return openvino.Tensor(latents.reshape(tuple(shape)))

    drawn = pipeline.generate(
        job.prompt,
        width=job.size,
        height=job.size,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        generator=Given(),
    )
    metrics = pipeline.get_performance_metrics()
    durations = metrics.get_text_encoder_infer_duration()
    job.timings["encode"] = sum(durations.values()) / 1000
    job.timings["denoise"] = sum(metrics.raw_metrics.unet_inference_durations) / 1e6
    job.timings["decode"] = metrics.get_vae_decoder_infer_duration() / 1000
    return common.reply(Image.fromarray(drawn.data[0]))


def versions(_: Any) -> dict[str, str]:
    """Of GenAI; OpenVINO's own is the same."""
    import openvino_genai

    return {"openvino-genai": openvino_genai.__version__}


if __name__ == "__main__":
    common.run(imports, load, draw, versions)

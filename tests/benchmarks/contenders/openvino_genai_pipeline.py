"""OpenVINO GenAI's Text2ImagePipeline."""

from __future__ import annotations

from typing import Any

import common


def imports(_: common.Job) -> None:
    """Import what a script with GenAI imports."""
    import numpy  # noqa: F401 -- for the latents
    import openvino_genai  # noqa: F401
    from PIL import Image  # noqa: F401


def load(job: common.Job) -> Any:
    """Return the pipeline with the job's scheduler, compiled for the job's size."""
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


def generate(pipeline: Any, job: common.Job) -> bytes:
    """Answer one request, from the job's latents."""
    import openvino
    import openvino_genai
    from PIL import Image

    latents = job.latents()

    class GivenLatents(openvino_genai.Generator):
        """Returns the latents instead of random numbers."""

        def next(self) -> float:
            raise NotImplementedError

        def randn_tensor(self, shape: Any) -> Any:
            return openvino.Tensor(latents.reshape(tuple(shape)))

    generated = pipeline.generate(
        job.prompt,
        width=job.size,
        height=job.size,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        generator=GivenLatents(),
    )
    metrics = pipeline.get_performance_metrics()
    durations = metrics.get_text_encoder_infer_duration()
    job.timings["encode"] = sum(durations.values()) / 1000
    job.timings["denoise"] = sum(metrics.raw_metrics.unet_inference_durations) / 1e6
    job.timings["decode"] = metrics.get_vae_decoder_infer_duration() / 1000
    return common.reply(Image.fromarray(generated.data[0]))


def versions(_: Any) -> dict[str, str]:
    """Return the version of GenAI, which is also that of OpenVINO."""
    import openvino_genai

    return {"openvino-genai": openvino_genai.__version__}


if __name__ == "__main__":
    common.run(imports, load, generate, versions)

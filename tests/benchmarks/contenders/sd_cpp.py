"""stable-diffusion.cpp through its Python bindings. It has no PNDM, accepts no latents, and uses CLIP's tokenizer."""

from __future__ import annotations

from typing import Any

import common


def imports(_: common.Job) -> None:
    """Import what a script with the bindings imports."""
    import stable_diffusion_cpp.stable_diffusion  # noqa: F401


def load(job: common.Job) -> Any:
    """Return the model with the fastest settings on a CPU: half precision, flash attention, no direct convolutions."""
    from stable_diffusion_cpp import StableDiffusion

    tiny = {"taesd_path": str(job.tiny_autoencoder / "diffusion_pytorch_model.safetensors")}
    return StableDiffusion(
        model_path=str(job.model),
        n_threads=job.threads,
        wtype=job.precision or "f16",
        vae_decode_only=True,
        diffusion_flash_attn=True,
        verbose=False,
        **(tiny if job.decoder == "tiny" else {}),
    )


def generate(model: Any, job: common.Job) -> bytes:
    """Answer one request."""
    images = model.generate_image(
        prompt=job.prompt,
        width=job.size,
        height=job.size,
        cfg_scale=job.guidance,
        sample_method=job.scheduler,
        sample_steps=job.steps,
        seed=job.seed,
    )
    return common.reply(images[0])


def versions(_: Any) -> dict[str, str]:
    """Return the version of the bindings."""
    from importlib.metadata import version

    return {"stable-diffusion-cpp-python": version("stable-diffusion-cpp-python")}


if __name__ == "__main__":
    common.run(imports, load, generate, versions)

"""stable-diffusion.cpp by its Python bindings. It has no PNDM, takes no latents and brings CLIP's own tokenizer."""

from __future__ import annotations

from typing import Any

import common


def imports(_: common.Job) -> None:
    """What a script with it imports."""
    import stable_diffusion_cpp.stable_diffusion  # noqa: F401


def load(job: common.Job) -> Any:
    """The model as it was quickest on a CPU: in half precision, attention in one piece, no direct convolutions."""
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


def draw(model: Any, job: common.Job) -> bytes:
    """One request."""
    drawn = model.generate_image(
        prompt=job.prompt,
        width=job.size,
        height=job.size,
        cfg_scale=job.guidance,
        sample_method=job.scheduler,
        sample_steps=job.steps,
        seed=job.seed,
    )
    return common.reply(drawn[0])


def versions(_: Any) -> dict[str, str]:
    """Of the bindings."""
    from importlib.metadata import version

    return {"stable-diffusion-cpp-python": version("stable-diffusion-cpp-python")}


if __name__ == "__main__":
    common.run(imports, load, draw, versions)

"""Generate fixed prompts with fixed seeds, on one sheet with each prompt below its image."""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
from PIL import Image, ImageDraw

PROMPTS: tuple[str, ...] = (
    "a cat in a top hat", "a cat", "a dog in a crown", "a panda wearing sunglasses",
    "a fox", "a red apple", "a pizza", "a rocket at night",
    "a frog on a pink background", "a lion in a top hat", "a strawberry", "a penguin in a cap",
    "an octopus on a blue background", "a cactus", "a burger", "a robot in a top hat",
    "a butterfly", "a cat and a dog", "a banana next to a pear", "a sunflower",
    "a unicorn in a crown", "a koala with glasses", "an avocado", "a whale",
    "three balloons", "a tiger wearing a sun hat", "a polar bear in a crown", "an automobile",
    "a ghost in a top hat on purple", "a kitty wearing a crown", "two houses", "an owl in a graduation cap",
    "a donut on a green background", "a guitar", "a castle on a sunny day", "a pig in a cap on a blue background",
    "a rose", "a fish and a crab", "a cup of coffee", "an xmas tree",
    "a dragon", "a lobster", "an ambulance", "a telescope",
    "a violin", "a hammer", "a ferris wheel", "a wizard",
    "a backpack", "a hedgehog", "sushi", "a saxophone",
    "a crocodile", "a nerd face", "an axe on a yellow background", "two mice",
    "a peacock", "a sandwich", "a trophy and a crown", "a camera on a red background",
    "three apples", "a moon and a star", "a helicopter in the sky", "a snowman in sunglasses",
)  # fmt: skip
SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpm": DPMSolverMultistepScheduler}


def with_scheduler(pipeline: StableDiffusionPipeline, name: str) -> StableDiffusionPipeline:
    """Replace the scheduler, but keep the noise schedule and the trailing spacing."""
    pipeline.scheduler = SCHEDULERS[name].from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    return pipeline


@torch.no_grad()
def generate(
    pipeline: StableDiffusionPipeline, prompts: tuple[str, ...], steps: int, guidance: float, seed: int = 0
) -> list[Image.Image]:
    """Generate one image for each prompt; the n-th has the seed `seed + n`, independently of the others."""
    noise = torch.cat(
        [
            torch.randn(1, pipeline.unet.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(seed + n))
            for n in range(len(prompts))
        ]
    )
    return pipeline(
        list(prompts),
        num_inference_steps=steps,
        guidance_scale=guidance,
        latents=noise,
        height=128,
        width=128,
    ).images


def sheet(images: list[Image.Image], captions: list[str], columns: int = 8) -> Image.Image:
    """Arrange the images on one page, each above a caption of up to two lines."""
    rows = (len(images) + columns - 1) // columns
    page = Image.new("RGB", (columns * 136, rows * 160), "white")
    pen = ImageDraw.Draw(page)
    for n, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = n % columns * 136 + 4, n // columns * 160 + 2
        page.paste(image, (x, y))
        cut = caption.rfind(" ", 0, 23) if len(caption) > 22 else len(caption)
        pen.text((x, y + 129), caption[:cut], fill="black")
        pen.text((x, y + 141), caption[cut:].strip(), fill="black")
    return page


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a diffusers folder")
    parser.add_argument("--out", type=Path, required=True, help="the .png to write")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--scheduler", choices=SCHEDULERS, default="ddim")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", action="append", help="generate these prompts instead (repeatable)")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    pipeline = StableDiffusionPipeline.from_pretrained(args.model, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    with_scheduler(pipeline, args.scheduler)
    prompts = tuple(args.prompt) if args.prompt else PROMPTS
    started = time.monotonic()
    images = generate(pipeline, prompts, args.steps, args.guidance, args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(images, list(prompts)).save(args.out)
    print(f"{args.out}: {len(prompts)} images in {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()

"""Bake the trained pipeline as the built-in model, in the first precision that fits into the wheel.

For a few prompts, its images must also be close to those of the same model stored in f32.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

from lambdiff.bake.bake import bake
from lambdiff.bake.parameters import Precision
from lambdiff.engine import manifest as manifests
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.protocol.contract import GenerateRequest

MAX_SIZE = 25_000_000
"""Maximum bytes in the wheel, where files are compressed."""
MIN_PSNR = 30.0
"""In dB, compared with the model stored in f32."""
OUTPUT_SIZE = 256
PROMPTS = (
    "a cat in a top hat",
    "a dog wearing a crown on a red background",
    "a robot on a blue background",
    "a rocket",
    "two strawberries on a yellow background",
    "a penguin with a cap",
)
PRECISIONS: tuple[Precision, ...] = ("int8", "w8a8", "f16")


def calibration_prompts(card: dict) -> tuple[str, ...]:
    """Return prompts of every kind that the model knows, each with different things."""
    pick = random.Random(0)
    things = iter(pick.sample(card["things"], len(card["things"])))
    wearers, hats, colors = (pick.sample(card[key], len(card[key])) for key in ("wearers", "hats", "colors"))
    prompts = []
    for n in range(8):
        prompts += [
            f"a {next(things)}",
            f"a {wearers[n]} in a {hats[n % len(hats)]}",
            f"a {next(things)} on a {colors[n]} background",
            f"a {next(things)} and a {next(things)}" if n % 2 else f"a {next(things)} at night",
        ]
    # Every fourth prompt is held out for the comparison. Shuffled, these are prompts of all kinds.
    pick.shuffle(prompts)
    return tuple(prompts)


def bake_pipeline(folder: Path, out: Path, precision: Precision, card: dict) -> None:
    """Bake the output of `export.py`, with the metadata in its card."""
    size = card["image_size"]
    defaults = card["defaults"]
    bake(
        folder,
        out,
        precision=precision,
        calibration=calibration_prompts(card) if precision == "w8a8" else None,
        name=card["name"],
        revision=card["date"],
        license=card["license"],
        origin=[f"{o['package']} {o['version']} ({o['license']}, {o['use']})" for o in card["origin"]],
        notes="Trained from scratch by the scripts in training/ on scenes composed from the packages named as origin.",
        vocabulary=card["vocabulary"],
        native_size=(size, size),
        image_to_image=False,
        # bf16 is hardly faster for a model this small, and compiling for it takes longer than generating an image.
        inference_precision="f32",
        defaults={
            "num_inference_steps": defaults["steps"],
            "guidance_scale": float(defaults["guidance"]),
            "scheduler": defaults["scheduler"].split(",")[0].strip().lower(),
            "width": OUTPUT_SIZE,
            "height": OUTPUT_SIZE,
        },
    )


def generate(folder: Path) -> list[np.ndarray]:
    """Generate an image for each prompt at the model's native size, in f32 arithmetic."""
    manifest = manifests.read(folder)
    width, height = manifest.native_size
    engine = OpenVinoEngine(folder, manifest, precision="f32")
    requests = [
        GenerateRequest(prompt=prompt, seed=seed, width=width, height=height) for seed, prompt in enumerate(PROMPTS)
    ]
    return [engine.generate(request.resolve(manifest.defaults)).pixels for request in requests]


def psnr(images: list[np.ndarray], others: list[np.ndarray]) -> float:
    """Return the peak signal-to-noise ratio in dB of all pixels of all images together."""
    error = np.mean((np.stack(images).astype(float) - np.stack(others)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def main() -> None:
    """Try one precision after another, and keep the first that is small enough and close enough to f32."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", type=Path, help="the folder written by export.py")
    parser.add_argument("-o", "--out", type=Path, default=Path("src/lambdiff/local/builtin_model"))
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="try only these (repeatable)")
    args = parser.parse_args()
    card = json.loads((args.pipeline / "card.json").read_text())
    with tempfile.TemporaryDirectory() as scratch:
        exact = Path(scratch, "f32")
        bake_pipeline(args.pipeline, exact, "f32", card)
        expected = generate(exact)
        for precision in args.precision or PRECISIONS:
            candidate = Path(scratch, precision)
            bake_pipeline(args.pipeline, candidate, precision, card)
            size = sum(len(zlib.compress(path.read_bytes())) for path in candidate.iterdir())
            quality = psnr(expected, generate(candidate))
            print(f"{precision}: {size / 1e6:.1f} MB in the wheel, {quality:.1f} dB")
            if size <= MAX_SIZE and quality >= MIN_PSNR:
                shutil.rmtree(args.out, ignore_errors=True)
                shutil.copytree(candidate, args.out)
                print(f"{args.out}: {precision}")
                return
    raise SystemExit(f"No precision gives at most {MAX_SIZE / 1e6:.0f} MB and at least {MIN_PSNR} dB.")


if __name__ == "__main__":
    main()

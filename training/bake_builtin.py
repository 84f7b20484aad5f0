"""Turns the trained pipeline into the built-in model: storage that fits into the wheel, checked on pictures."""

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
from lambdiff.engine import manifest as manifests
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.protocol.contract import GenerateRequest

LARGEST = 25_000_000
"""Bytes in the wheel, where files are deflated."""
LOWEST_PSNR = 30.0
OUTPUT_SIZE = 256
PROMPTS = (
    "a cat in a top hat",
    "a dog wearing a crown on a red background",
    "a robot on a blue background",
    "a rocket",
    "two strawberries on a yellow background",
    "a penguin with a cap",
)


STORAGES = ("int8", "w8a8", "f16")


def calibration(card: dict) -> tuple[str, ...]:
    """Prompts of every kind that the model knows; each names other things."""
    pick = random.Random(0)
    things = iter(pick.sample(card["things"], len(card["things"])))
    wearers, hats, colours = (pick.sample(card[key], len(card[key])) for key in ("wearers", "hats", "colours"))
    prompts = []
    for n in range(8):
        prompts += [
            f"a {next(things)}",
            f"a {wearers[n]} in a {hats[n % len(hats)]}",
            f"a {next(things)} on a {colours[n]} background",
            f"a {next(things)} and a {next(things)}" if n % 2 else f"a {next(things)} at night",
        ]
    # Every fourth is held out for the comparison: let each kind have its turn.
    pick.shuffle(prompts)
    return tuple(prompts)


def settings(card: dict) -> dict:
    """The card of `export.py` as arguments of `bake`."""
    size = card["picture_size"]
    defaults = card["defaults"]
    return {
        "name": card["name"],
        "revision": card["date"],
        "license": card["license"],
        "origin": tuple(f"{o['package']} {o['version']} ({o['license']}, {o['use']})" for o in card["origin"]),
        "notes": "Trained from scratch by the scripts in training/ on scenes drawn from the packages named as origin.",
        "vocabulary": tuple(card["vocabulary"]),
        "native_size": (size, size),
        # bf16 would draw hardly faster, and the graphs would take longer to compile than a picture to draw.
        "inference_precision": "f32",
        "defaults": {
            "num_inference_steps": defaults["steps"],
            "guidance_scale": float(defaults["guidance"]),
            "scheduler": defaults["scheduler"].split(",")[0].strip().lower(),
            "width": OUTPUT_SIZE,
            "height": OUTPUT_SIZE,
        },
    }


def draw(folder: Path) -> list[np.ndarray]:
    """The prompts' pictures at the model's own size, in f32 arithmetic."""
    manifest = manifests.read(folder)
    width, height = manifest.native_size
    engine = OpenVinoEngine(folder, manifest, precision="f32")
    requests = [
        GenerateRequest(prompt=prompt, seed=seed, width=width, height=height) for seed, prompt in enumerate(PROMPTS)
    ]
    return [engine.generate(request.resolve(manifest.defaults)).pixels for request in requests]


def psnr(pictures: list[np.ndarray], others: list[np.ndarray]) -> float:
    """Of all the pictures' pixels together, in dB."""
    error = np.mean((np.stack(pictures).astype(float) - np.stack(others)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def main() -> None:
    """Tries one storage after the other; the first that fits and draws about the same pictures as f32 is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", type=Path, help="the folder that export.py wrote")
    parser.add_argument("-o", "--out", type=Path, default=Path("src/lambdiff/local/builtin_model"))
    parser.add_argument("--precision", choices=STORAGES, action="append", help="try only these (may be repeated)")
    args = parser.parse_args()
    card = json.loads((args.pipeline / "card.json").read_text())
    chosen = settings(card)
    with tempfile.TemporaryDirectory() as scratch:
        exact = Path(scratch, "f32")
        bake(args.pipeline, exact, precision="f32", **chosen)
        expected = draw(exact)
        for precision in args.precision or STORAGES:
            tried = Path(scratch, precision)
            prompts = calibration(card) if precision == "w8a8" else None
            bake(args.pipeline, tried, precision=precision, calibration=prompts, **chosen)
            size = sum(len(zlib.compress(path.read_bytes())) for path in tried.iterdir())
            quality = psnr(expected, draw(tried))
            print(f"{precision}: {size / 1e6:.1f} MB in the wheel, {quality:.1f} dB")
            if size <= LARGEST and quality >= LOWEST_PSNR:
                shutil.rmtree(args.out, ignore_errors=True)
                shutil.copytree(tried, args.out)
                print(f"{args.out}: {precision}")
                return
    raise SystemExit(f"No storage has at most {LARGEST / 1e6:.0f} MB and at least {LOWEST_PSNR} dB.")


if __name__ == "__main__":
    main()

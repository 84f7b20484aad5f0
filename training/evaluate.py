"""Measure how well a baked model follows its prompts: the figures in the model card.

Images are generated as a user would, by lambdiff's engine with the model's defaults, at the model's native size. The
frozen classifier judges them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path

import classifier
import numpy as np
import torch
import vocabulary as V
from scenes import Scenes
from scipy import ndimage

from lambdiff.engine import manifest as manifests
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.protocol.contract import GenerateRequest

Array = np.ndarray


@dataclass
class Judge:
    """Generates images for prompts, and names what the classifier sees in them.

    Args:
        folder: the baked model.
        settings: parameters of every request, such as `num_inference_steps`.
    """

    folder: Path
    settings: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manifest = manifests.read(self.folder)
        self.engine = OpenVinoEngine(self.folder, self.manifest)
        self.classifier = classifier.Classifier.load()

    def generate(self, prompt: str, seed: int, **settings: object) -> Array:
        """Generate one image, uint8 of shape (128, 128, 3)."""
        width, height = self.manifest.native_size
        request = GenerateRequest(prompt=prompt, seed=seed, width=width, height=height, **self.settings, **settings)
        return self.engine.generate(request.resolve(self.manifest.defaults)).pixels

    def best(self, prompts: Iterable[tuple[str, int]], count: int = 5) -> list[list[str]]:
        """Return the `count` most likely names for each (prompt, seed)."""
        return self.classifier.best(np.stack([self.generate(prompt, seed) for prompt, seed in prompts]), count)


def with_article(name: str) -> str:
    """Put the indefinite article before a name."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def border_color(image: Array) -> str:
    """Return the background color that is nearest to the image's border."""
    border = np.concatenate([image[:6].reshape(-1, 3), image[:, :6].reshape(-1, 3), image[:, -6:].reshape(-1, 3)])
    median = np.median(border, axis=0)
    palette = {**V.COLORS, "white": (255, 255, 255)}
    return min(palette, key=lambda name: float(np.abs(median - palette[name]).sum()))


def count_blobs(image: Array) -> int:
    """Count the separate things on a plain background."""
    border = np.concatenate([image[:4].reshape(-1, 3), image[-4:].reshape(-1, 3)])
    foreground = np.abs(image.astype(float) - np.median(border, axis=0)).max(-1) > 40
    labels, count = ndimage.label(ndimage.binary_opening(foreground, iterations=2))
    sizes = ndimage.sum(foreground, labels, range(1, count + 1))
    return int(np.sum(np.asarray(sizes) > 0.15 * max(sizes, default=1)))


def names(judge: Judge, vocabulary: V.Vocabulary, seeds: int) -> dict:
    """Generate every name `seeds` times, and count how often the classifier recognizes it."""
    things = [name for name in vocabulary.things for _ in range(seeds)]
    seen = judge.best((with_article(name), n % seeds) for n, name in enumerate(things))
    right: dict[str, int] = {}
    for name, best in zip(things, seen, strict=True):
        right[name] = right.get(name, 0) + (best[0] == name)
    return {
        "names": len(vocabulary.things),
        "images": len(things),
        "top1": float(np.mean([best[0] == name for name, best in zip(things, seen, strict=True)])),
        "top5": float(np.mean([name in best for name, best in zip(things, seen, strict=True)])),
        "names_right_in_most_seeds": float(np.mean([count > seeds / 2 for count in right.values()])),
        "never_right": sorted(name for name, count in right.items() if count == 0),
    }


def worn(judge: Judge, pick: random.Random, count: int) -> dict:
    """Held-out heads with hats or glasses: both must be among the first three guesses."""
    pairs = [(name, hat) for name, hat in product(V.WEARERS, [*V.HATS, *V.GLASSES]) if V.held_out("in", name, hat)]
    pairs = [("cat", "top hat"), *pick.sample(pairs, min(count, len(pairs)) - 1)]
    prompts = [
        (f"{with_article(name)} {'wearing' if hat in V.GLASSES else 'in'} "
         f"{hat if hat in V.GLASSES else with_article(hat)}", seed)
        for name, hat in pairs for seed in (0, 1)
    ]  # fmt: skip
    seen = judge.best(prompts, 3)
    return _both([pair for pair in pairs for _ in (0, 1)], seen)


def side_by_side(judge: Judge, pick: random.Random, count: int) -> dict:
    """Held-out pairs of common things: both must be among the first three guesses."""
    common = [*V.WEARERS, *V.THINGS]
    pairs = pick.sample([pair for pair in combinations(common, 2) if V.held_out("pair", *pair)], count)
    seen = judge.best(((f"{with_article(one)} and {with_article(two)}", n) for n, (one, two) in enumerate(pairs)), 3)
    return _both(pairs, seen)


def _both(pairs: list[tuple[str, str]], seen: list[list[str]]) -> dict:
    right = [set(pair) <= set(best) for pair, best in zip(pairs, seen, strict=True)]
    return {"prompts": len(pairs), "both": float(np.mean(right))}


def backgrounds(judge: Judge, vocabulary: V.Vocabulary, pick: random.Random, count: int) -> dict:
    """Held-out things on colored backgrounds: color of the border, and the thing among the first three guesses."""
    held = [pair for pair in product(vocabulary.things, V.COLORS) if V.held_out("on", *pair)]
    pairs = pick.sample(held, count)
    images = [
        judge.generate(f"{with_article(name)} on {with_article(color)} background", n)
        for n, (name, color) in enumerate(pairs)
    ]
    seen = judge.classifier.best(np.stack(images), 3)
    colors = [border_color(image) == color for image, (_, color) in zip(images, pairs, strict=True)]
    things = [name in best for best, (name, _) in zip(seen, pairs, strict=True)]
    return {
        "prompts": len(pairs),
        "both": float(np.mean(np.array(colors) & np.array(things))),
        "color": float(np.mean(colors)),
        "thing": float(np.mean(things)),
        "thing_is_the_most_likely": float(
            np.mean([best[0] == name for best, (name, _) in zip(seen, pairs, strict=True)])
        ),
    }


def synonyms(judge: Judge, vocabulary: V.Vocabulary, pick: random.Random, count: int) -> dict:
    """Synonyms and keywords: the first guess must be what they stand for."""
    pairs = [(alias, thing.name) for thing in vocabulary.things.values() for alias in thing.aliases]
    pairs = [("kitty", "cat"), ("automobile", "car"), ("xmas tree", "christmas tree"), *pick.sample(pairs, count - 3)]
    seen = judge.best((with_article(alias), n) for n, (alias, _) in enumerate(pairs))
    right = [best[0] == name for best, (_, name) in zip(seen, pairs, strict=True)]
    return {"prompts": len(pairs), "top1": float(np.mean(right))}


def counts(judge: Judge, vocabulary: V.Vocabulary, pick: random.Random, count: int) -> dict:
    """One, two and three common things: the image must have as many blobs. Uses things that are one blob each."""
    scenes = Scenes(vocabulary, seed=5)
    whole = [
        name
        for name in (*V.WEARERS, *V.THINGS)
        if vocabulary.things[name].plurals
        and all(count_blobs(scenes.several(name, 3, "white").image) == 3 for _ in range(3))
    ]
    requested = [(pick.choice(whole), 1 + n % 3) for n in range(count)]
    words = {1: "one", 2: "two", 3: "three"}
    images = [
        judge.generate(f"{words[many]} {vocabulary.things[name].plurals[0] if many > 1 else name}", n)
        for n, (name, many) in enumerate(requested)
    ]
    seen = judge.classifier.best(np.stack(images))
    correct = {many: [] for many in words}
    for image, (_, many) in zip(images, requested, strict=True):
        correct[many].append(count_blobs(image) == many)
    things = [best[0] == name for best, (name, _) in zip(seen, requested, strict=True)]
    return {
        "prompts": count,
        "thing": float(np.mean(things)),
        **{words[k]: float(np.mean(v)) for k, v in correct.items()},
    }


def skies(judge: Judge, pick: random.Random, count: int) -> dict:
    """Common things at night and by day: the upper border must be dark blue or light blue."""
    correct = {"night": [], "day": []}
    for n in range(count):
        sky = "night" if n % 2 else "day"
        words = "at night" if n % 2 else "under a blue sky"
        name = pick.choice([*V.WEARERS, *V.THINGS])
        top = np.median(judge.generate(f"{with_article(name)} {words}", n)[:10].reshape(-1, 3), axis=0)
        blue = top[2] > top[0] + 15
        correct[sky].append(bool(blue and (top.mean() < 80 if sky == "night" else top.mean() > 130)))
    return {"prompts": count, **{sky: float(np.mean(right)) for sky, right in correct.items()}}


def variation(judge: Judge, seeds: int = 8) -> dict:
    """Compare the mean difference between seeds with that between things (ratio 0: all seeds give one image)."""
    things = list(V.WEARERS)[:12] + list(V.THINGS)[:24]
    images = np.stack([[judge.generate(with_article(name), seed) for seed in range(seeds)] for name in things]) / 255.0
    within = np.mean([np.abs(a - b).mean() for row in images for a, b in combinations(row, 2)])
    between = np.mean([np.abs(a - b).mean() for a, b in combinations(images[:, 0], 2)])
    return {"within": float(within), "between": float(between), "ratio": float(within / between)}


def effects(judge: Judge, vocabulary: V.Vocabulary, pick: random.Random, count: int) -> dict:
    """Measure the effects of steps, guidance and the negative prompt."""
    sample = pick.sample(list(vocabulary.things), count)

    def top1(**settings: object) -> float:
        images = np.stack([judge.generate(with_article(name), n, **settings) for n, name in enumerate(sample)])
        seen = judge.classifier.best(images, 1)
        return float(np.mean([best[0] == name for best, name in zip(seen, sample, strict=True)]))

    plain = np.stack([judge.generate(with_article(name), n) for n, name in enumerate(sample)])
    red = [judge.generate(with_article(name), n, negative_prompt="red") for n, name in enumerate(sample)]
    redness = [float(images[..., 0].mean() - images[..., 1:].mean()) for images in (plain, np.stack(red))]
    return {
        "names": count,
        "top1_by_steps": {str(steps): top1(num_inference_steps=steps) for steps in (1, 2, 4, 6, 8, 12)},
        "top1_by_guidance": {str(scale): top1(guidance_scale=scale) for scale in (1.0, 2.0, 3.0, 5.0, 8.0)},
        "redness_plain_and_with_negative_prompt_red": redness,
    }


def main() -> None:
    """Print the figures; with `--out`, write them to a file too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the node_modules folder with the data")
    parser.add_argument("--model", type=Path, required=True, help="a baked folder")
    parser.add_argument("--out", type=Path, help="the .json to write")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--count", type=int, default=200, help="prompts of each kind of combination")
    parser.add_argument("--steps", type=int, help="steps of each image; by default the model's own")
    parser.add_argument("--only", nargs="*", help="run these measurements only")
    args = parser.parse_args()
    torch.set_num_threads(2)
    vocabulary = V.Vocabulary(args.data)
    judge = Judge(args.model, {"num_inference_steps": args.steps} if args.steps else {})
    pick = random.Random(0)
    measurements: dict[str, Callable[[], dict]] = {
        "names": lambda: names(judge, vocabulary, args.seeds),
        "worn_held_out": lambda: worn(judge, pick, args.count),
        "pairs_held_out": lambda: side_by_side(judge, pick, args.count),
        "backgrounds_held_out": lambda: backgrounds(judge, vocabulary, pick, args.count),
        "synonyms": lambda: synonyms(judge, vocabulary, pick, args.count),
        "counts": lambda: counts(judge, vocabulary, pick, args.count),
        "skies": lambda: skies(judge, pick, args.count // 2),
        "variation": lambda: variation(judge),
        "effects": lambda: effects(judge, vocabulary, pick, args.count // 2),
    }
    sha256 = hashlib.sha256(classifier.FILE.read_bytes()).hexdigest()
    figures: dict[str, object] = {
        "model": judge.manifest.name,
        "revision": judge.manifest.revision,
        "classifier": sha256,
    }
    for key, measure in measurements.items():
        if args.only and key not in args.only:
            continue
        started = time.monotonic()
        figures[key] = measure()
        print(f"{key} ({time.monotonic() - started:.0f} s): {json.dumps(figures[key])}", flush=True)
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Draws scenes of emoji pictures and writes a caption for each."""

from __future__ import annotations

import random
import string
from functools import cache
from pathlib import Path

import numpy as np
import vocabulary as V
from PIL import Image

SIZE = 128
Array = np.ndarray

#: Where the middle of the head is, as a part of the width, for pictures that are not symmetric.
HEAD_X: dict[str, float] = {"unicorn": 0.52, "chick": 0.40, "pumpkin": 0.5}
#: How far below the top of the head (part of its height) the hat sits, where it is not the usual.
HEAD_DOWN: dict[str, float] = {"unicorn": 0.10, "robot": 0.05, "cat": 0.0, "fox": 0.0, "frog": 0.0}
#: How much smaller than usual its hats are, so that ears and eyes stay in sight.
HAT_SCALE: dict[str, float] = {"cat": 0.74, "fox": 0.72, "wolf": 0.76, "frog": 0.68, "raccoon": 0.84, "cow": 0.86}
#: Width of a hat as a part of the head's width, and how much of its height covers the head.
HAT_FIT: dict[str, tuple[float, float]] = {
    "top hat": (0.72, 0.20),
    "crown": (0.62, 0.16),
    "graduation cap": (0.92, 0.34),
    "cap": (0.66, 0.26),
    "sun hat": (0.98, 0.34),
}


class Scenes:
    """An endless source of (picture, caption), drawn from the emoji pictures in `assets`."""

    def __init__(self, assets: Path, seed: int = 0) -> None:
        self.assets = assets
        self.random = random.Random(seed)
        self.all = V.everything()
        self._sized = cache(self._resize)
        self._crop = cache(self._load)
        self.names = list(self.all)
        # heads are seen under hats too
        self.weights = [V.WEIGHTS.get(name, 0.7 if name in V.WEARERS else 1.0) for name in self.names]
        self.wearers = list(V.WEARERS)
        self.wearer_weights = [V.WEIGHTS.get(name, 1.0) for name in self.wearers]
        self.hats = list(V.HATS)
        self.hat_weights = [V.HAT_WEIGHTS[name] for name in self.hats]

    # -- pictures -------------------------------------------------------------------------------

    def _load(self, name: str) -> Image.Image:
        """The picture of a thing, cut to what is not transparent, colours premultiplied."""
        picture = Image.open(self.assets / f"{self.all[name][0]}.webp").convert("RGBA")
        box = picture.getchannel("A").point(lambda a: 255 * (a > 24)).getbbox()
        return picture.crop(box).convert("RGBa")

    def _resize(self, name: str, width: int, height: int) -> Array:
        return np.asarray(self._crop(name).resize((width, height), Image.Resampling.LANCZOS), np.float32)

    def sized(self, name: str, longest: int) -> Array:
        """The picture of a thing with the given longest side."""
        width, height = self._crop(name).size
        scale = longest / max(width, height)
        return self._sized(name, max(1, round(width * scale)), max(1, round(height * scale)))

    @staticmethod
    def paste(canvas: Array, picture: Array, left: int, top: int) -> None:
        """Lays a premultiplied picture over the canvas, cut at its edges."""
        height, width = picture.shape[:2]
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, SIZE), min(top + height, SIZE)
        if x0 >= x1 or y0 >= y1:
            return
        part = picture[y0 - top : y1 - top, x0 - left : x1 - left]
        view = canvas[y0:y1, x0:x1]
        view *= 1.0 - part[..., 3:] / 255.0
        view += part[..., :3]

    def jitter(self, most: int) -> int:
        """A whole number from -most to most."""
        return self.random.randint(-most, most)

    def centred(self, canvas: Array, name: str, longest: int, x: int, y: int) -> None:
        """Lays a thing over the canvas, its middle at (x, y)."""
        picture = self.sized(name, longest)
        self.paste(canvas, picture, x - picture.shape[1] // 2, y - picture.shape[0] // 2)

    def wearing(self, canvas: Array, name: str, hat: str, longest: int, dx: int, dy: int) -> None:
        """A head with a hat on it, together in the middle of the picture."""
        head = self.sized(name, longest)
        height, width = head.shape[:2]
        fit, cover = HAT_FIT[hat]
        hat_w, hat_h = self._crop(hat).size
        worn_w = round(max(0.72 * longest, width) * fit * HAT_SCALE.get(name, 1.0))
        worn_h = round(worn_w * hat_h / hat_w)
        worn = self._sized(hat, worn_w, worn_h)
        middle = round(width * HEAD_X.get(name, 0.5))
        column = head[:, max(0, middle - width // 12) : middle + width // 12 + 1, 3].mean(axis=1)
        crown = int(np.argmax(column > 128)) + round(height * HEAD_DOWN.get(name, 0.03))
        above = max(0, worn_h - round(worn_h * cover) - crown)
        top = (SIZE - (height + above)) // 2 + above + dy
        left = (SIZE - width) // 2 + dx
        self.paste(canvas, head, left, top)
        self.paste(canvas, worn, left + middle - worn_w // 2, top + crown + round(worn_h * cover) - worn_h)

    # -- captions -------------------------------------------------------------------------------

    def call(self, name: str) -> str:
        """A name for a thing: mostly its first one, at times with its own colour."""
        others = self.all[name][1]
        said = self.random.choice(others) if others and self.random.random() < 0.12 else name
        colour = V.OWN_COLOURS.get(name)
        if colour and said == name != colour and self.random.random() < 0.12:
            said = f"{colour} {said}"
        if self.random.random() < 0.05:
            said = f"{self.random.choice(V.FILLERS)} {said}"
        return said

    def noun(self, name: str) -> str:
        """A thing with an article, or without."""
        said = self.call(name)
        roll = self.random.random()
        if roll < 0.14:
            return said
        if roll < 0.24:
            return f"the {said}"
        return f"{'an' if said[0] in 'aeio' else 'a'} {said}"

    def unknown(self) -> str:
        """A word that means nothing."""
        return "".join(self.random.choices(string.ascii_lowercase, k=self.random.randint(3, 9)))

    def finish(self, text: str, colour: str | None) -> str:
        """Adds the background and the noise that real prompts have."""
        r = self.random
        if r.random() < 0.10:
            text = f"{r.choice(('a picture of', 'a photo of', 'an image of', 'a drawing of', 'an emoji of'))} {text}"
        if colour is None and r.random() < 0.06:
            colour = "white"
        if colour:
            for other, meant in V.COLOUR_SYNONYMS.items():
                if meant == colour and r.random() < 0.25:
                    colour = other
            article = "an" if colour[0] == "o" else "a"
            text = r.choices(
                (
                    f"{text} on {article} {colour} background",
                    f"{text} with {article} {colour} background",
                    f"{text} on {colour}",
                    f"{text}, {colour} background",
                    f"{text} in front of {article} {colour} background",
                ),
                (5, 1.5, 1.5, 1, 1),
            )[0]
        if r.random() < 0.06:
            parts = text.split()
            parts.insert(r.randint(0, len(parts)), self.unknown())
            text = " ".join(parts)
        return text

    # -- scenes ---------------------------------------------------------------------------------

    def draw(self) -> tuple[Array, str]:
        """One scene: a uint8 picture (128, 128, 3) and its caption (empty one time in ten)."""
        r = self.random
        colour = r.choice(list(V.COLOURS)) if r.random() < 0.33 else None
        canvas = np.empty((SIZE, SIZE, 3), np.float32)
        if colour:
            canvas[:] = [c + r.randint(-5, 5) for c in V.COLOURS[colour]]
        else:
            canvas[:] = 255
        kind = r.random()
        if kind < 0.67:
            name = r.choices(self.names, self.weights)[0]
            self.centred(canvas, name, 102 + 4 * self.jitter(1), 64 + self.jitter(2), 64 + self.jitter(2))
            text = self.noun(name)
        elif kind < 0.90:
            name = r.choices(self.wearers, self.wearer_weights)[0]
            hat = r.choices(self.hats, self.hat_weights)[0]
            self.wearing(canvas, name, hat, 84 + 3 * self.jitter(1), self.jitter(2), self.jitter(2))
            joint = r.choices(("in", "wearing", "with", "that wears"), (5, 5, 1, 0.3))[0]
            text = f"{self.noun(name)} {joint} {self.noun(hat)}"
        elif kind < 0.98:
            one, two = r.choices(self.names, self.weights, k=2)
            for name, x in ((one, 33), (two, 95)):
                self.centred(canvas, name, 57 + 3 * self.jitter(1), x + self.jitter(2), 64 + self.jitter(2))
            joint = r.choices(("and", "next to", "beside", "with"), (7, 2, 1, 0.5))[0]
            text = f"{self.noun(one)} {joint} {self.noun(two)}"
        else:
            text = r.choice(("", "nothing", self.unknown())) if colour is None else ""
            text = self.finish(text, colour).strip(", ")
            return canvas.clip(0, 255).astype(np.uint8), text
        text = "" if r.random() < 0.10 else self.finish(text, colour)
        return canvas.clip(0, 255).astype(np.uint8), text

    def batch(self, count: int) -> tuple[Array, list[str]]:
        """`count` scenes as one uint8 array (count, 128, 128, 3), and their captions."""
        pictures, texts = zip(*(self.draw() for _ in range(count)), strict=True)
        return np.stack(pictures), list(texts)

"""Compose scenes from emoji images, each with a caption."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import vocabulary as V
from PIL import Image

SIZE = 128
Array = np.ndarray

#: The center of the head as a fraction of the width, for images that are not symmetric.
HEAD_X: dict[str, float] = {"unicorn": 0.52, "chick": 0.40}
#: How far below the top of the head the hat sits, as a fraction of the head's height, if it is not 0.03.
HEAD_DOWN: dict[str, float] = {"unicorn": 0.10, "robot": 0.05, "cat": 0.0, "fox": 0.0, "frog": 0.0}
#: How much smaller than usual a hat is, so that ears and eyes stay visible.
HAT_SCALE: dict[str, float] = {
    "cat": 0.74, "fox": 0.72, "wolf": 0.76, "frog": 0.68, "raccoon": 0.84, "cow": 0.86, "teddy bear": 0.66,
    "snowman": 0.62, "penguin": 0.9, "ghost": 0.8, "chick": 0.8, "girl": 0.9,
}  # fmt: skip
#: Width of a hat as a fraction of the head's width, and the fraction of its height that covers the head.
HAT_FIT: dict[str, tuple[float, float]] = {
    "top hat": (0.72, 0.20),
    "crown": (0.62, 0.16),
    "graduation cap": (0.92, 0.34),
    "cap": (0.66, 0.26),
    "sun hat": (0.98, 0.34),
}
#: The center of the eyes as fractions of the head's width and height, and the width of glasses as a fraction of the
#: head's width.
EYES: tuple[float, float, float] = (0.5, 0.46, 0.80)
EYES_OF: dict[str, tuple[float, float, float]] = {
    "cat": (0.5, 0.56, 0.80), "dog": (0.5, 0.42, 0.62), "fox": (0.5, 0.56, 0.72), "wolf": (0.5, 0.52, 0.66),
    "teddy bear": (0.5, 0.26, 0.44), "snowman": (0.5, 0.24, 0.42), "penguin": (0.5, 0.24, 0.56), "frog": (0.5, 0.24, 0.9),
    "owl": (0.5, 0.30, 0.78), "unicorn": (0.42, 0.52, 0.6), "chick": (0.40, 0.27, 0.5), "pumpkin": (0.5, 0.50, 0.72),
    "robot": (0.5, 0.47, 0.62), "alien": (0.5, 0.55, 0.76), "ghost": (0.46, 0.33, 0.5), "koala": (0.5, 0.44, 0.56),
    "cow": (0.5, 0.46, 0.62), "mouse": (0.5, 0.56, 0.62), "skull": (0.5, 0.46, 0.80), "lion": (0.5, 0.46, 0.56),
    "baby": (0.5, 0.55, 0.66), "boy": (0.5, 0.56, 0.66), "girl": (0.5, 0.56, 0.56), "man": (0.5, 0.54, 0.66),
    "woman": (0.5, 0.54, 0.60), "raccoon": (0.5, 0.50, 0.62), "monkey": (0.5, 0.44, 0.56), "smiley": (0.5, 0.40, 0.86),
    "pig": (0.5, 0.44, 0.74), "panda": (0.5, 0.52, 0.70), "clown": (0.5, 0.48, 0.6),
}  # fmt: skip


@dataclass
class Scene:
    """An image, uint8 of shape (128, 128, 3), with its caption, its things and its background."""

    image: Array
    caption: str
    things: tuple[str, ...] = ()
    color: str | None = None


class Scenes:
    """An endless source of random scenes.

    Args:
        vocabulary: the things and their images.
        seed: seed of everything random.
        hold_out: leave out the combinations of `vocabulary.held_out`.
    """

    def __init__(self, vocabulary: V.Vocabulary, seed: int = 0, *, hold_out: bool = True) -> None:
        self.vocabulary, self.things, self.hold_out = vocabulary, vocabulary.things, hold_out
        self.random = random.Random(seed)
        self._sized = lru_cache(3000)(self._resize)
        self._crop = cache(self._load)
        self.names = list(self.things)
        self.weights = [
            V.WEIGHTS.get(name, V.COMMON_WEIGHT if thing.common else 1.0) for name, thing in self.things.items()
        ]
        self.countable = [name for name in self.names if self.things[name].plurals]
        self.countable_weights = [
            w for name, w in zip(self.names, self.weights, strict=True) if self.things[name].plurals
        ]
        self.wearers, self.hats, self.glasses = list(V.WEARERS), list(V.HATS), list(V.GLASSES)

    # -- images ---------------------------------------------------------------------------------

    def _load(self, name: str) -> Image.Image:
        """Load the image of a thing, cropped to its opaque part, with premultiplied colors."""
        image = Image.open(self.vocabulary.assets / f"{self.things[name].image}.webp").convert("RGBA")
        box = image.getchannel("A").point(lambda a: 255 * (a > 24)).getbbox()
        image = image.crop(box).convert("RGBa")
        image.thumbnail((150, 150), Image.Resampling.LANCZOS)
        return image

    def _resize(self, name: str, width: int, height: int) -> Array:
        return np.asarray(self._crop(name).resize((width, height), Image.Resampling.LANCZOS), np.float32)

    def sized(self, name: str, longest: int) -> Array:
        """Return the image of a thing, scaled to the given longest side."""
        width, height = self._crop(name).size
        scale = longest / max(width, height)
        return self._sized(name, max(1, round(width * scale)), max(1, round(height * scale)))

    @staticmethod
    def paste(canvas: Array, image: Array, left: int, top: int) -> None:
        """Paste a premultiplied image onto the canvas, clipped at its edges."""
        height, width = image.shape[:2]
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, SIZE), min(top + height, SIZE)
        if x0 >= x1 or y0 >= y1:
            return
        part = image[y0 - top : y1 - top, x0 - left : x1 - left]
        view = canvas[y0:y1, x0:x1]
        view *= 1.0 - part[..., 3:] / 255.0
        view += part[..., :3]

    def jitter(self, most: int) -> int:
        """Return a random integer from -most to most."""
        return self.random.randint(-most, most)

    def paste_centered(self, canvas: Array, name: str, longest: int, x: int, y: int) -> None:
        """Paste a thing onto the canvas with its center at (x, y), sometimes mirrored."""
        image = self.sized(name, longest)
        if self.things[name].mirrored and self.random.random() < 0.3:
            image = image[:, ::-1]
        self.paste(canvas, image, x - image.shape[1] // 2, y - image.shape[0] // 2)

    def wearing(self, canvas: Array, name: str, worn: str, longest: int, dx: int, dy: int) -> None:
        """Paste a head that wears a hat or glasses onto the center of the canvas."""
        head = self.sized(name, longest)
        height, width = head.shape[:2]
        worn_w, worn_h = self._crop(worn).size
        aspect = worn_h / worn_w
        if worn in V.GLASSES:
            x, y, fit = EYES_OF.get(name, EYES)
            worn_w = round(width * fit)
            image = self._sized(worn, worn_w, round(worn_w * aspect))
            left, top = (SIZE - width) // 2 + dx, (SIZE - height) // 2 + dy
            self.paste(canvas, head, left, top)
            self.paste(
                canvas, image, left + round(width * x) - worn_w // 2, top + round(height * y) - image.shape[0] // 2
            )
            return
        fit, cover = HAT_FIT[worn]
        worn_w = round(max(0.72 * longest, width) * fit * HAT_SCALE.get(name, 1.0))
        worn_h = round(worn_w * aspect)
        middle = round(width * HEAD_X.get(name, 0.5))
        column = head[:, max(0, middle - width // 12) : middle + width // 12 + 1, 3].mean(axis=1)
        crown = int(np.argmax(column > 128)) + round(height * HEAD_DOWN.get(name, 0.03))
        above = max(0, worn_h - round(worn_h * cover) - crown)
        top = (SIZE - (height + above)) // 2 + above + dy
        left = (SIZE - width) // 2 + dx
        self.paste(canvas, head, left, top)
        self.paste(
            canvas,
            self._sized(worn, worn_w, worn_h),
            left + middle - worn_w // 2,
            top + crown + round(worn_h * cover) - worn_h,
        )

    def background(self, color: str | None) -> Array:
        """Return a canvas: a color or a sky, or without `color` white or a light tint."""
        r = self.random
        canvas = np.empty((SIZE, SIZE, 3), np.float32)
        if color in V.SKIES:
            above, below = ((14, 18, 52), (50, 58, 118)) if color == "night" else ((86, 164, 240), (204, 232, 252))
            canvas[:] = np.linspace(above, below, SIZE)[:, None, :]
            if color == "night":
                for _ in range(18):
                    x, y, size = r.randrange(SIZE - 2), r.randrange(SIZE - 2), r.choice((1, 2, 2))
                    canvas[y : y + size, x : x + size] = (250, 246, 214)
            else:
                ys, xs = np.mgrid[:SIZE, :SIZE]
                for x, y in ((r.randrange(8, 44), r.randrange(10, 60)), (r.randrange(84, 120), r.randrange(10, 60))):
                    for dx, dy, radius in ((-12, 3, 8), (0, 0, 12), (12, 3, 8)):
                        canvas[(xs - x - dx) ** 2 + (ys - y - dy) ** 2 < radius**2] = 255
        elif color and color != "white":
            canvas[:] = [c + self.jitter(9) for c in V.COLORS[color]]
        elif color is None and r.random() < 0.2:
            canvas[:] = [255 - r.choice((0, 8, 16, 24)) for _ in range(3)]
        else:
            canvas[:] = 255
        return canvas

    # -- captions -------------------------------------------------------------------------------

    def name_for(self, name: str) -> str:
        """Return a name for a thing: usually its main name, sometimes with its color or an adjective."""
        others = self.things[name].aliases
        phrase = self.random.choice(others) if others and self.random.random() < 0.1 else name
        color = V.OWN_COLORS.get(name)
        if color and phrase == name != color and self.random.random() < 0.12:
            phrase = f"{color} {phrase}"
        if self.random.random() < 0.05:
            phrase = f"{self.random.choice(V.FILLERS)} {phrase}"
        return phrase

    def noun(self, name: str) -> str:
        """Return a name for a thing, with or without an article."""
        phrase = self.name_for(name)
        roll = self.random.random()
        if roll < 0.2:
            return phrase
        if roll < 0.3:
            return f"the {phrase}"
        return f"{'an' if phrase[0] in 'aeio' else 'a'} {phrase}"

    def unknown(self) -> str:
        """Return a random word without meaning."""
        return "".join(self.random.choices(string.ascii_lowercase, k=self.random.randint(3, 9)))

    def finish(self, text: str, color: str | None) -> str:
        """Add the background to a caption, and noise as in real prompts."""
        r = self.random
        if r.random() < 0.10:
            text = f"{r.choice(('a picture of', 'a photo of', 'an image of', 'a drawing of', 'an emoji of'))} {text}"
        if color in V.SKIES:
            text = f"{text} {r.choice(V.SKIES[color])}"
        elif color:
            for other, meant in V.COLOR_SYNONYMS.items():
                if meant == color and r.random() < 0.25:
                    color = other
            article = "an" if color[0] == "o" else "a"
            text = r.choices(
                (
                    f"{text} on {article} {color} background",
                    f"{text} with {article} {color} background",
                    f"{text} on {color}",
                    f"{text}, {color} background",
                    f"{text} in front of {article} {color} background",
                    f"{color} background, {text}",
                ),
                (5, 1.5, 1.5, 1, 1, 0.7),
            )[0]
        if r.random() < 0.06:
            parts = text.split()
            parts.insert(r.randint(0, len(parts)), self.unknown())
            text = " ".join(parts)
        return text

    # -- scenes ---------------------------------------------------------------------------------

    def one(self, name: str, color: str | None = None) -> Scene:
        """Compose a single thing."""
        canvas = self.background(color)
        self.paste_centered(canvas, name, 100 + 5 * self.jitter(1), 64 + self.jitter(2), 64 + self.jitter(2))
        return self._scene(canvas, self.noun(name), (name,), color)

    def worn(self, name: str, hat: str, color: str | None = None) -> Scene:
        """Compose a head with a hat or glasses."""
        canvas = self.background(color)
        size = (98 if hat in V.GLASSES else 84) + 3 * self.jitter(1)
        self.wearing(canvas, name, hat, size, self.jitter(2), self.jitter(2))
        joint = self.random.choices(("in", "wearing", "with", "that wears", "and"), (5, 5, 2, 0.3, 0.15))[0]
        what = self.name_for(hat) if hat in V.GLASSES else self.noun(hat)
        return self._scene(canvas, f"{self.noun(name)} {joint} {what}", (name, hat), color)

    def pair(self, one: str, two: str, color: str | None = None) -> Scene:
        """Compose two things side by side, the first on the left."""
        canvas = self.background(color)
        for name, x in ((one, 33), (two, 95)):
            self.paste_centered(canvas, name, 57 + 2 * self.jitter(1), x + self.jitter(1), 64 + self.jitter(2))
        joint = self.random.choices(("and", "next to", "beside", "with", "near", "by"), (7, 2, 1, 0.5, 0.3, 0.3))[0]
        return self._scene(canvas, f"{self.noun(one)} {joint} {self.noun(two)}", (one, two), color)

    def several(self, name: str, count: int, color: str | None = None) -> Scene:
        """Compose two things of a kind side by side, or three with one above the others."""
        canvas = self.background(color)
        places = ((33, 64), (95, 64)) if count == 2 else ((64, 35), (34, 93), (94, 93))
        for x, y in places:
            self.paste_centered(canvas, name, 57 + self.jitter(1), x + self.jitter(1), y + self.jitter(1))
        plural = self.random.choice(self.things[name].plurals)
        words = {2: ("two", "two", "2", "a pair of", "a couple of"), 3: ("three", "three", "three", "3", "some")}[count]
        text = f"{self.random.choice(words)} {plural}" if self.random.random() < 0.85 or count == 3 else plural
        return self._scene(canvas, text, (name,) * count, color)

    def _scene(self, canvas: Array, text: str, things: tuple[str, ...], color: str | None) -> Scene:
        return Scene(canvas.clip(0, 255).astype(np.uint8), self.finish(text, color), things, color)

    def _allowed(self, kind: str, one: str, two: str) -> bool:
        return not (self.hold_out and V.held_out(kind, one, two))

    def random_scene(self) -> Scene:
        """Compose a random scene; one caption in ten is empty."""
        r = self.random
        roll = r.random()
        color = None
        if roll < 0.30:
            color = r.choice(list(V.COLORS))
        elif roll < 0.37:
            color = r.choice(list(V.SKIES))
        elif roll < 0.40:
            color = "white"
        kind = r.random()
        if kind < 0.58:
            name = r.choices(self.names, self.weights)[0]
            if color and not self._allowed("on", name, color):
                color = None
            scene = self.one(name, color)
        elif kind < 0.79:
            while True:
                name = r.choices(self.wearers, [V.WEIGHTS.get(name, 1.0) for name in self.wearers])[0]
                hat = r.choices([*self.hats, *self.glasses], list(V.WORN_WEIGHTS.values()))[0]
                if self._allowed("in", name, hat):
                    break
            scene = self.worn(name, hat, color)
        elif kind < 0.91:
            while True:
                one, two = r.choices(self.names, self.weights, k=2)
                if one != two and self._allowed("pair", one, two):
                    break
            scene = self.pair(one, two, color)
        elif kind < 0.98:
            name = r.choices(self.countable, self.countable_weights)[0]
            scene = self.several(name, r.choice((2, 3)), color)
        else:
            text = r.choice(("", "nothing", self.unknown())) if color is None else ""
            scene = Scene(self.background(color).astype(np.uint8), self.finish(text, color).strip(", "), (), color)
        if r.random() < 0.10:
            scene.caption = ""
        return scene

    def batch(self, count: int) -> tuple[Array, list[str]]:
        """Return `count` scenes as one uint8 array (count, 128, 128, 3), and their captions."""
        scenes = [self.random_scene() for _ in range(count)]
        return np.stack([scene.image for scene in scenes]), [scene.caption for scene in scenes]

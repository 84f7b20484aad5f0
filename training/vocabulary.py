"""The words the model learns: things, hats, background colours.

Every thing is one picture of the `fluent-emoji-3d` package, named by its code point. A short list is
deliberate: at a fixed amount of training, each word is seen more often.
"""

from __future__ import annotations

#: name -> (code point of its picture, other names for it, used now and then)
WEARERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cat": ("1f431", ("kitty", "kitten")),
    "dog": ("1f436", ("puppy",)),
    "panda": ("1f43c", ()),
    "lion": ("1f981", ()),
    "tiger": ("1f42f", ()),
    "bear": ("1f43b", ()),
    "polar bear": ("1f43b-200d-2744-fe0f", ()),
    "koala": ("1f428", ()),
    "fox": ("1f98a", ()),
    "monkey": ("1f435", ()),
    "pig": ("1f437", ()),
    "cow": ("1f42e", ()),
    "frog": ("1f438", ()),
    "mouse": ("1f42d", ()),
    "wolf": ("1f43a", ()),
    "raccoon": ("1f99d", ()),
    "unicorn": ("1f984", ()),
    "robot": ("1f916", ()),
    "alien": ("1f47d", ()),
    "ghost": ("1f47b", ()),
    "skull": ("1f480", ()),
    "pumpkin": ("1f383", ("jack-o-lantern",)),
    "penguin": ("1f427", ()),
    "owl": ("1f989", ()),
    "chick": ("1f424", ()),
    "smiley": ("1f600", ("smiley face", "smile")),
}

#: The same, for things that never wear a hat.
THINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    # animals
    "rabbit": ("1f430", ("bunny",)),
    "snowman": ("26c4", ()),
    "teddy bear": ("1f9f8", ("teddy",)),
    "zebra": ("1f993", ()),
    "chicken": ("1f414", ("hen",)),
    "duck": ("1f986", ()),
    "flamingo": ("1f9a9", ()),
    "elephant": ("1f418", ()),
    "giraffe": ("1f992", ()),
    "sheep": ("1f411", ("lamb",)),
    "turtle": ("1f422", ("tortoise",)),
    "snake": ("1f40d", ()),
    "dinosaur": ("1f996", ("t-rex",)),
    "whale": ("1f433", ()),
    "dolphin": ("1f42c", ()),
    "shark": ("1f988", ()),
    "fish": ("1f41f", ()),
    "octopus": ("1f419", ()),
    "crab": ("1f980", ()),
    "butterfly": ("1f98b", ()),
    "bee": ("1f41d", ("honeybee",)),
    "ladybug": ("1f41e", ("ladybird",)),
    "spider": ("1f577-fe0f", ()),
    # fruit and food
    "apple": ("1f34e", ()),
    "pear": ("1f350", ()),
    "orange": ("1f34a", ("tangerine",)),
    "lemon": ("1f34b", ()),
    "banana": ("1f34c", ()),
    "watermelon": ("1f349", ("melon",)),
    "grapes": ("1f347", ()),
    "strawberry": ("1f353", ()),
    "cherries": ("1f352", ("cherry",)),
    "peach": ("1f351", ()),
    "pineapple": ("1f34d", ()),
    "avocado": ("1f951", ()),
    "carrot": ("1f955", ()),
    "broccoli": ("1f966", ()),
    "tomato": ("1f345", ()),
    "bread": ("1f35e", ()),
    "cheese": ("1f9c0", ()),
    "burger": ("1f354", ("hamburger",)),
    "fries": ("1f35f", ("french fries",)),
    "pizza": ("1f355", ("slice of pizza",)),
    "hot dog": ("1f32d", ("hotdog",)),
    "donut": ("1f369", ("doughnut",)),
    "cake": ("1f382", ("birthday cake",)),
    "cupcake": ("1f9c1", ("muffin",)),
    "ice cream": ("1f366", ()),
    "coffee": ("2615", ("cup of coffee",)),
    # vehicles
    "car": ("1f697", ("automobile",)),
    "taxi": ("1f695", ("cab",)),
    "bus": ("1f68c", ()),
    "tractor": ("1f69c", ()),
    "train": ("1f682", ("locomotive",)),
    "bicycle": ("1f6b2", ("bike",)),
    "rocket": ("1f680", ("spaceship",)),
    "ufo": ("1f6f8", ("flying saucer",)),
    "helicopter": ("1f681", ()),
    "airplane": ("2708-fe0f", ("plane", "aeroplane")),
    "sailboat": ("26f5", ("boat",)),
    # places, sky and plants
    "house": ("1f3e0", ("home",)),
    "castle": ("1f3f0", ()),
    "volcano": ("1f30b", ()),
    "mountain": ("1f5fb", ()),
    "earth": ("1f30d", ("globe", "world")),
    "moon": ("1f319", ()),
    "star": ("2b50", ()),
    "sun": ("2600-fe0f", ()),
    "cloud": ("2601-fe0f", ()),
    "rainbow": ("1f308", ()),
    "fire": ("1f525", ("flame",)),
    "snowflake": ("2744-fe0f", ()),
    "tree": ("1f333", ()),
    "palm tree": ("1f334", ("palm",)),
    "cactus": ("1f335", ()),
    "christmas tree": ("1f384", ()),
    "sunflower": ("1f33b", ()),
    "rose": ("1f339", ()),
    "flower": ("1f338", ("blossom",)),
    "mushroom": ("1f344", ("toadstool",)),
    # objects
    "balloon": ("1f388", ()),
    "gift": ("1f381", ("present",)),
    "trophy": ("1f3c6", ()),
    "football": ("26bd", ("soccer ball",)),
    "basketball": ("1f3c0", ()),
    "dice": ("1f3b2", ("die",)),
    "guitar": ("1f3b8", ()),
    "key": ("1f511", ()),
    "light bulb": ("1f4a1", ("lamp",)),
    "camera": ("1f4f7", ()),
    "laptop": ("1f4bb", ("computer",)),
    "clock": ("23f0", ("alarm clock",)),
    "book": ("1f4d5", ()),
    "diamond": ("1f48e", ("gem",)),
    "heart": ("2764-fe0f", ("red heart",)),
    "umbrella": ("2602-fe0f", ()),
}

#: Hats, worn or shown on their own.
HATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "top hat": ("1f3a9", ("tophat",)),
    "crown": ("1f451", ()),
    "graduation cap": ("1f393", ("mortarboard",)),
    "cap": ("1f9e2", ("baseball cap", "billed cap")),
    "sun hat": ("1f452", ("straw hat",)),
}

#: How often each hat is drawn on a head.
HAT_WEIGHTS: dict[str, float] = {
    "top hat": 3.0,
    "crown": 2.0,
    "graduation cap": 1.5,
    "cap": 1.5,
    "sun hat": 1.0,
}

#: Background colours.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (226, 60, 60),
    "orange": (247, 148, 50),
    "yellow": (252, 216, 72),
    "green": (88, 184, 92),
    "blue": (66, 124, 230),
    "purple": (150, 92, 206),
    "pink": (250, 160, 196),
    "brown": (142, 98, 68),
    "grey": (160, 164, 170),
    "black": (32, 32, 38),
}

#: Spellings and nuances that mean one of the colours above.
COLOUR_SYNONYMS: dict[str, str] = {"gray": "grey", "violet": "purple"}

#: Colours that are part of a thing's picture, said in its caption now and then.
OWN_COLOURS: dict[str, str] = {
    "apple": "red", "strawberry": "red", "tomato": "red", "car": "red", "rose": "red", "heart": "red",
    "balloon": "red", "banana": "yellow", "lemon": "yellow", "star": "yellow", "chick": "yellow",
    "taxi": "yellow", "frog": "green", "tree": "green", "cactus": "green", "alien": "green",
    "dinosaur": "green", "whale": "blue", "dolphin": "blue", "fish": "blue", "diamond": "blue",
    "grapes": "purple", "pig": "pink", "flamingo": "pink", "bear": "brown",
    "elephant": "grey", "wolf": "grey", "mouse": "grey", "orange": "orange", "fox": "orange",
    "cat": "orange", "tiger": "orange", "carrot": "orange", "pumpkin": "orange",
}  # fmt: skip

#: How often a thing is drawn, where it is not 1: the project's own example is a cat; fine shapes need more practice.
WEIGHTS: dict[str, float] = {
    "cat": 2.5, "dog": 1.7, "robot": 1.3, "panda": 1.2, "fox": 1.2, "unicorn": 1.5, "penguin": 1.3, "rocket": 2.0,
    "pizza": 1.5, "octopus": 1.5, "donut": 1.5, "guitar": 1.5, "castle": 1.5, "house": 1.5, "coffee": 1.5,
    "butterfly": 1.5, "airplane": 1.5, "bicycle": 1.5, "dinosaur": 1.5, "whale": 1.3, "sunflower": 1.3,
}  # fmt: skip

#: Words with little or no meaning for the picture, put into captions so that they do no harm.
FILLERS: tuple[str, ...] = (
    "cute", "big", "small", "little", "happy", "nice", "beautiful", "funny", "smiling", "lovely",
)  # fmt: skip

#: Words of the caption patterns.
GRAMMAR: tuple[str, ...] = (
    "a", "an", "the", "in", "on", "with", "and", "of", "wearing", "next", "to", "beside", "picture",
    "photo", "image", "drawing", "emoji", "background", "front", "one", "two", "his", "her", "its", "hat",
    "white", "that", "wears", "is", "has", "head", "my", "colour", "color", "plain", "illustration", "icon",
    "3d", "render",
)  # fmt: skip


def everything() -> dict[str, tuple[str, tuple[str, ...]]]:
    """All things that can be drawn, hats included."""
    return {**WEARERS, **THINGS, **HATS}


def words() -> list[str]:
    """Every single word that a caption can hold, sorted."""
    found: set[str] = set(COLOURS) | set(COLOUR_SYNONYMS) | set(FILLERS) | set(GRAMMAR)
    for name, (_, others) in everything().items():
        for phrase in (name, *others):
            found.update(phrase.replace("-", " ").split())
    return sorted(found)

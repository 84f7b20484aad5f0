"""The words that the model learns: things, hats, glasses, background colors, and the other words of captions.

Common things are listed here by hand. `emojibase-data` names all other images of the groups in GROUPS (Unicode's CLDR
labels and keywords).
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

#: Things that can wear a hat or glasses: name -> (code point of the image, synonyms).
WEARERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cat": ("1f431", ("kitty", "kitten", "kittycat", "pussycat")),
    "dog": ("1f436", ("puppy", "pup", "doggy")),
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
    "hamster": ("1f439", ()),
    "snowman": ("26c4", ()),
    "teddy bear": ("1f9f8", ("teddy",)),
    "clown": ("1f921", ("clown face",)),
    "baby": ("1f476", ("infant",)),
    "boy": ("1f466", ()),
    "girl": ("1f467", ()),
    "man": ("1f468", ("guy",)),
    "woman": ("1f469", ("lady",)),
}

#: The same for common things that wear nothing.
THINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    # animals
    "rabbit": ("1f430", ("bunny",)),
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
    "mountain": ("1f5fb", ("mount fuji",)),
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
    "christmas tree": ("1f384", ("xmas tree",)),
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

#: Hats, worn on a head or shown alone.
HATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "top hat": ("1f3a9", ("tophat", "hat")),
    "crown": ("1f451", ()),
    "graduation cap": ("1f393", ("mortarboard",)),
    "cap": ("1f9e2", ("baseball cap", "billed cap")),
    "sun hat": ("1f452", ("straw hat", "bonnet")),
}
GLASSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "glasses": ("1f453", ("spectacles", "eyeglasses")),
    "sunglasses": ("1f576-fe0f", ("shades", "sun glasses")),
}
#: How often each is worn, relatively.
WORN_WEIGHTS: dict[str, float] = {
    "top hat": 3.0, "crown": 2.0, "graduation cap": 1.5, "cap": 1.5, "sun hat": 1.2, "glasses": 1.2, "sunglasses": 1.5,
}  # fmt: skip

#: The groups of emojibase that are used: faces, animals and nature, food, travel, activities, objects.
GROUPS = (0, 3, 4, 5, 6, 7)
#: Subgroups whose images may be mirrored: they contain no writing and are not held in a hand.
MIRRORED_SUBGROUPS = (*range(34, 40), *range(54, 57))
#: Useful images from other groups: label -> name.
OTHERS: dict[str, str] = {
    "Santa Claus": "santa claus", "mermaid": "mermaid", "astronaut": "astronaut", "vampire": "vampire", "zombie": "zombie",
    "mage": "wizard", "fairy": "fairy", "ninja": "ninja", "prince": "prince", "princess": "princess", "genie": "genie",
    "superhero": "superhero", "detective": "detective", "firefighter": "firefighter", "cook": "cook", "farmer": "farmer",
    "scientist": "scientist", "police officer": "police officer", "old woman": "old woman", "old man": "old man",
    "brain": "brain", "eye": "eye", "ear": "ear", "nose": "nose", "mouth": "mouth", "tooth": "tooth", "bone": "bone",
    "foot": "foot", "flexed biceps": "muscle", "thumbs up": "thumbs up", "thumbs down": "thumbs down",
    "waving hand": "waving hand", "raised fist": "fist", "clapping hands": "clapping hands", "handshake": "handshake",
    "footprints": "footprints", "elf": "elf", "warning": "warning sign", "recycling symbol": "recycling symbol",
    "yin yang": "yin yang", "peace symbol": "peace symbol", "radioactive": "radioactive sign", "no entry": "no entry sign",
    "chequered flag": "chequered flag", "rainbow flag": "rainbow flag", "pirate flag": "pirate flag",
    "red question mark": "question mark", "red exclamation mark": "exclamation mark", "check mark": "check mark",
    "cross mark": "cross mark", "infinity": "infinity sign", "musical note": "musical note",
}  # fmt: skip
#: Labels that are renamed, because a common thing above has the name or because another name is clearer.
RENAMED: dict[str, str] = {
    "monkey": "whole monkey", "dog": "whole dog", "cat": "whole cat", "tiger": "whole tiger", "cow": "whole cow",
    "pig": "whole pig", "mouse": "whole mouse", "rabbit": "whole rabbit", "horse": "whole horse", "horse face": "horse",
    "whale": "blue whale", "ice cream": "bowl of ice cream", "mountain": "green mountain", "train": "railway train",
    "snowman": "snowman in snow", "dragon": "dragon", "smiling face with sunglasses": "cool smiley",
    "smiling face with horns": "devil", "smiling face with halo": "angel", "cowboy hat face": "cowboy",
    "pile of poo": "pile of poo", "magnifying glass tilted left": "magnifying glass", "t-shirt": "shirt",
    "open mailbox with raised flag": "mailbox", "enraged face": "enraged face", "game die": "dice",
    "speaker high volume": "speaker", "hourglass not done": "hourglass", "closed umbrella": "closed umbrella",
    "hot springs": "hot springs", "soft ice cream": "ice cream", "1st place medal": "gold medal",
    "2nd place medal": "silver medal", "3rd place medal": "bronze medal", "sun behind small cloud": "partly cloudy",
    "evergreen tree": "fir tree", "sauropod": "brontosaurus", "video game": "game controller",
}  # fmt: skip
#: Labels of images that are too similar to another one, or hardly visible on white.
SKIPPED = re.compile(
    r"o.clock$|-thirty$|globe showing (Americas|Asia)|closed mailbox|open mailbox with lowered|tilted right|page facing"
    r"|speaker (low|medium)|last quarter|waxing|waning|camera with flash|white heart|^(fog|foggy|light rail|tram car)$"
    r"|dotted line|grinning face with (big|smiling)|grinning cat with|beaming|slightly|smiling face$|hushed|anguished"
    r"|oncoming fist|hourglass done|tear-off|spiral (calendar|notepad)|incoming envelope|e-mail|heart exclamation"
    r"|face with open mouth|sad but relieved|downcast|pensive|persevering|confounded|relieved face|kissing face with"
    r"|weary face|tired face|disappointed|frowning face with|speech bubble|anger bubble|eye in|trolleybus|clinking beer"
    r"|winking face with tongue|delivery truck|railway car|high-speed|^metro$|musical notes|umbrella with rain|softball"
    r"|cloud with lightning and|sun behind large|first quarter moon$|^notebook$|Japanese post|spiral|^card index$"
    r"|bookmark tabs|file folder|grimacing|muted speaker|worried|confused|unamused|expressionless|^ledger$|^placard$"
)

#: Names that are left out: hard to distinguish at this size, or rarely useful in a prompt.
LEFT_OUT: frozenset[str] = frozenset(
    name.strip()
    for name in """
    grinning face with sweat, smiling face with tear, kissing face, zany face, squinting face with tongue,
    smiling face with open hands, face with hand over mouth, face with open eyes and hand over mouth,
    face with peeking eye, face without mouth, face in clouds, smirking face, face exhaling, lying face, shaking face,
    sleepy face, drooling face, sneezing face, woozy face, face with diagonal mouth, frowning face, flushed face,
    pleading face, face holding back tears, fearful face, anxious face with sweat, face with steam from nose,
    enraged face, angry face with horns, face with raised eyebrow, grinning cat, cat with tears of joy,
    cat with wry smile, kissing cat, weary cat, crying cat, pouting cat, growing heart, beating heart, revolving hearts,
    heart decoration, light blue heart, grey heart, brown heart, anger symbol, sweat droplets, hole,
    woman's clothes, flat shoe, woman's sandal, hair pick, bell with slash, level slider, control knobs,
    mobile phone with arrow, low battery, trackball, computer disk, dvd, film frames, notebook with decorative cover,
    page with curl, rolled-up newspaper, yen banknote, euro banknote, pound banknote, chart increasing with yen,
    envelope with arrow, outbox tray, inbox tray, card index dividers, chart decreasing, round pushpin,
    linked paperclips, card file box, locked with pen, locked with key, old key, hammer and pick, chains, white cane,
    ballot box with ballot, clutch bag, briefs, long drum, black nib,
    oncoming taxi, oncoming police car, oncoming automobile, station, railway train, tram, monorail, mountain railway,
    mountain cableway, suspension railway, love hotel, department store, convenience store, house with garden,
    cityscape at dusk, sunrise, motor boat, ferry, small airplane, airplane departure, airplane arrival,
    motorized wheelchair, umbrella on ground, timer clock, snowman in snow, sun behind rain cloud, motorway,
    construction, new moon, sport utility vehicle, minibus, club suit, spade suit, sports medal, military medal,
    tanabata tree, pine decoration, moon viewing ceremony, japanese dolls
    """.split(",")
)

#: Keywords that usually have another meaning in a prompt.
VAGUE: frozenset[str] = frozenset(
    "down up order strong alpha hot cold open closed new old good bad fast slow long short high low full empty half live "
    "time day days back here there go going come make made get got hit run running walk walking work working play playing "
    "light heavy hard soft wet dry clean dirty left right straight out off over into from for not yes okay all more less "
    "european japanese american stone driving strong wild safe sharp thin thick dead alive lit mad like love loved fun "
    "game games food drink place thing things point line side top bottom end start stop round square magic dream party "
    "large tiny huge young mind want need know look looking see watch feel feeling death life angel brother sister".split()
)

#: Background colors.
COLORS: dict[str, tuple[int, int, int]] = {
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
#: Spellings and shades that mean one of the colors above.
COLOR_SYNONYMS: dict[str, str] = {"gray": "grey", "violet": "purple"}
#: Skies, and their wordings in captions.
SKIES: dict[str, tuple[str, ...]] = {
    "night": ("at night", "in the night sky", "under the stars", "in a starry night", "in the dark", "by night"),
    "day": ("in the sky", "by day", "on a sunny day", "under a blue sky", "in the clouds", "in daylight"),
}

#: Colors of the things themselves, sometimes mentioned in captions.
OWN_COLORS: dict[str, str] = {
    "apple": "red", "strawberry": "red", "tomato": "red", "car": "red", "rose": "red", "heart": "red",
    "balloon": "red", "banana": "yellow", "lemon": "yellow", "star": "yellow", "chick": "yellow",
    "taxi": "yellow", "frog": "green", "tree": "green", "cactus": "green", "alien": "green",
    "dinosaur": "green", "whale": "blue", "dolphin": "blue", "fish": "blue", "diamond": "blue",
    "grapes": "purple", "pig": "pink", "flamingo": "pink", "bear": "brown",
    "elephant": "grey", "wolf": "grey", "mouse": "grey", "orange": "orange", "fox": "orange",
    "cat": "orange", "tiger": "orange", "carrot": "orange", "pumpkin": "orange",
}  # fmt: skip

#: How much more often things listed by hand appear than others, and the weights of two of them.
COMMON_WEIGHT = 1.7
WEIGHTS: dict[str, float] = {"cat": 4.0, "dog": 3.0}

#: Words with little or no effect on an image, added to captions so that the model learns to ignore them.
FILLERS: tuple[str, ...] = (
    "cute", "big", "small", "little", "happy", "nice", "beautiful", "funny", "smiling", "lovely", "very", "pretty",
)  # fmt: skip

#: Words of the patterns of captions.
GRAMMAR: tuple[str, ...] = (
    "a", "an", "the", "in", "on", "with", "and", "of", "wearing", "next", "to", "beside", "picture",
    "photo", "image", "drawing", "emoji", "background", "front", "one", "two", "three", "1", "2", "3", "his", "her", "its",
    "white", "that", "wears", "is", "has", "head", "my", "colour", "color", "plain", "illustration", "icon", "wear",
    "3d", "render", "near", "by", "at", "under", "left", "right", "night", "day", "sky", "stars", "starry", "dark",
    "sunny", "daylight", "clouds", "some", "pair", "couple", "d", "draw", "paint", "painting", "please", "me", "show",
)  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """An image with its names."""

    name: str
    image: str
    aliases: tuple[str, ...]
    plurals: tuple[str, ...]
    common: bool
    mirrored: bool


def held_out(kind: str, one: str, two: str) -> bool:
    """Return whether training never shows a combination: a quarter of each kind, and the cat in a top hat."""
    if {one, two} == {"cat", "top hat"}:
        return True
    key = ":".join([kind, *(sorted((one, two)) if kind == "pair" else (one, two))])
    return zlib.crc32(key.encode()) % 4 == 0


class Vocabulary:
    """All things and words, from the tables above and from the package `emojibase-data`.

    Args:
        modules: the `node_modules` folder with both packages.
    """

    def __init__(self, modules: Path) -> None:
        self.assets = modules / "@lobehub" / "fluent-emoji-3d" / "assets"
        listed = json.loads((modules / "emojibase-data" / "en" / "data.json").read_text())
        self._entries = {
            image: entry for entry in listed if entry.get("group") is not None and (image := self._image(entry))
        }
        self.things: dict[str, Thing] = {thing.name: thing for thing in self._things()}

    def _image(self, entry: dict) -> str | None:
        code = entry["hexcode"].lower()
        names = (code, code.replace("-fe0f", ""), f"{code}-fe0f")
        return next((name for name in names if (self.assets / f"{name}.webp").exists()), None)

    def _named(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return image -> (name, synonyms from the tables above)."""
        by_hand = {**WEARERS, **THINGS, **HATS, **GLASSES}
        named = {image: (name, others) for name, (image, others) in by_hand.items()}
        for image, entry in self._entries.items():
            label = entry["label"].replace("’", "'")
            if image in named or SKIPPED.search(label):
                continue
            if label in OTHERS:
                named[image] = (OTHERS[label], ())
            elif entry["group"] in GROUPS:
                named[image] = (RENAMED.get(label, label).lower(), ())
        return {image: names for image, names in named.items() if names[0] not in LEFT_OUT}

    def _things(self) -> list[Thing]:
        named = self._named()
        by_hand = {**WEARERS, **THINGS, **HATS, **GLASSES}
        taken = {name for name, _ in named.values()} | {other for _, others in named.values() for other in others}
        taken |= {*COLORS, *COLOR_SYNONYMS, *FILLERS, *GRAMMAR}
        keywords = {
            image: {tag.lower().replace("’", "'") for tag in (self._entries[image].get("tags") or ())} - taken
            for image in named
        }
        shared = Counter(tag for tags in keywords.values() for tag in tags)
        common = Counter(tag for image, tags in keywords.items() if named[image][0] in by_hand for tag in tags)
        import inflect  # needed to build the vocabulary, but not to use the judge

        inflected = inflect.engine()
        things, plurals_taken = [], set(taken)
        labels = Counter(entry["label"].lower() for image, entry in self._entries.items() if image in named)
        for image, (name, others) in named.items():
            entry = self._entries[image]
            label = entry["label"].lower().replace("’", "'")
            own = {label} - taken if labels[label] == 1 else set()
            for tag in keywords[image]:
                if shared[tag] == 1 or (shared[tag] <= 4 and common[tag] == 1 and name in by_hand):
                    own.add(tag)
            aliases = (*others, *sorted(tag for tag in own if re.fullmatch(r"[a-z -]{3,}", tag) and tag not in VAGUE))
            plurals = []
            for phrase in dict.fromkeys((name, *others, label)):
                many = inflected.plural(phrase)
                if (
                    (entry["group"] or name in by_hand)
                    and len(phrase.split()) <= 2
                    and not inflected.singular_noun(phrase.split()[-1])
                    and many not in plurals_taken
                    and many not in own
                ):
                    plurals.append(many)
                    plurals_taken.add(many)
            things.append(
                Thing(name, image, aliases, tuple(plurals), name in by_hand, entry["subgroup"] in MIRRORED_SUBGROUPS)
            )
        return things

    @cached_property
    def meanings(self) -> dict[str, tuple[str, bool]]:
        """Every word and phrase that has its own token -> (its meaning, whether it is a plural).

        Words with the same meaning share one embedding. A word that occurs in the names of only one thing, such as
        `christmas`, means that thing.
        """
        found: dict[str, tuple[str, bool]] = {}
        for word in (*GRAMMAR, *FILLERS, *COLORS):
            found[word] = (word, False)
        for word, meant in COLOR_SYNONYMS.items():
            found[word] = (meant, False)
        for thing in self.things.values():
            found[thing.name] = (thing.name, False)
        for thing in self.things.values():
            for alias in thing.aliases:
                found.setdefault(alias, (thing.name, False))
            for plural in thing.plurals:
                found.setdefault(plural, (thing.name, True))
        users: dict[str, set[str]] = {}
        for phrase, (meant, _) in found.items():
            for word in re.findall(r"[a-z0-9]+", phrase):
                users.setdefault(word, set()).add(meant)
        for word, meant in users.items():
            found.setdefault(word, (meant.copy().pop() if len(meant) == 1 else word, False))
        return found

    @cached_property
    def words(self) -> list[str]:
        """Every single word, sorted; other words in a prompt give a warning."""
        return sorted({word for phrase in self.meanings for word in re.findall(r"[a-z0-9]+", phrase)})

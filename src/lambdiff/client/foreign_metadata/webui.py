"""The text of AUTOMATIC1111's web UI, which Forge, SD.Next, Fooocus, stable-diffusion.cpp and many others also write.

    masterpiece, a cat
    in a top hat
    Negative prompt: dog,
    blurry
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 42, Size: 512x768, Hashes: {"vae": "1f"}
    Template: __animal__ in a top hat

The line of settings is found wherever it is: extensions append lines to the text, and prompts contain nearly anything.
Format: `create_infotext` and `parse_generation_parameters` in https://github.com/AUTOMATIC1111/stable-diffusion-webui
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Final

from lambdiff.client.foreign_metadata.recorded import clean, recorded
from lambdiff.protocol.metadata import ImageMetadata

MAX_TEXT: Final = 256 * 1024
_MAX_LINE: Final = 32 * 1024
_NEGATIVE: Final = "Negative prompt:"
_TEMPLATE: Final = re.compile(r"(?:Negative )?Template:")
_KEY: Final = re.compile(r"\s*(\w[^:,\"\n]{0,60}):\s*")
_END: Final = re.compile(r"\s*(?:,|$)")
_INLINE: Final = re.compile(r"(?<=[\s.,;])Steps:\s*\d")
_KNOWN: Final = frozenset(
    {"steps", "sampler", "schedule type", "scheduler", "cfg scale", "seed", "size", "model", "model hash", "version"}
)
"""Settings by which a line of settings is recognized: `Steps` and two others, or one if it starts with `Steps`."""
_WITHOUT_EFFECT: Final = frozenset(
    {"batch pos", "batch size", "civitai metadata", "civitai resources", "ensd", "hashes", "negative template",
     "performance", "raw negative prompt", "raw prompt", "rng", "template", "ti hashes", "user"}
)  # fmt: skip
"""Settings that need no note: they do not change the image, or only its noise, which differs in any case."""
_DECODER: Final = json.JSONDecoder()


def read(text: str, *, require_settings: bool) -> ImageMetadata | None:
    """Parse a text.

    Args:
        text: from the image.
        require_settings: accept only a text that has settings or a negative prompt; otherwise any text is a prompt.

    Returns:
        The metadata; None if the text is not of this format.
    """
    if len(text) > MAX_TEXT:
        return None
    text = clean(text)
    before, settings, after = _split(text)
    labelled = bool(settings) or f"\n{_NEGATIVE}" in f"\n{text}"
    if not labelled and (require_settings or not text or _is_json(text)):
        return None
    sections = dict(_sections(after))
    if not before.strip():
        before = sections.pop("", "")
    prompt, negative = _split_negative(before)
    return _metadata(prompt, negative or sections.pop(_NEGATIVE, ""), {**settings, **_named(sections)})


def _is_json(text: str) -> bool:
    """Whether the text is JSON, complete or cut off: another program's metadata, not a prompt."""
    with contextlib.suppress(ValueError, RecursionError):
        return isinstance(json.loads(text), dict | list)
    return bool(re.match(r"[{\[]\s*[\"{\[]", text))


def settings_of(line: str) -> dict[str, str]:
    """Return the settings of a line by name; empty if it does not start with one.

    Values that contain commas are JSON: texts in quotes, objects and lists. What follows a comma without being a
    setting belongs to the value before.

    Example:
        >>> settings_of('Steps: 20, Model: "a, b", Hashes: {"model": "1f, 2"}, Size: 512x512, Note: one, two')
        {'Steps': '20', 'Model': 'a, b', 'Hashes': '{"model": "1f, 2"}', 'Size': '512x512', 'Note': 'one, two'}
    """
    settings: dict[str, str] = {}
    position, name = 0, ""
    while position < len(line):
        key = _KEY.match(line, position)
        if key is None and not name:
            return {}
        if key is None:
            value, position = _plain(line, position)
            settings[name] += f", {value}"
            continue
        name = key[1].strip()
        settings[name], position = _value(line, key.end())
    return settings


def _value(line: str, start: int) -> tuple[str, int]:
    """Return the value at `start`, and where the next setting begins."""
    if line[start : start + 1] in ('"', "{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            value, end = _DECODER.raw_decode(line, start)
            if following := _END.match(line, end):
                return value if isinstance(value, str) else line[start:end], following.end()
    return _plain(line, start)


def _plain(line: str, start: int) -> tuple[str, int]:
    end = line.find(",", start)
    end = len(line) if end < 0 else end
    return line[start:end].strip(), end + 1


def _is_settings(settings: dict[str, str]) -> bool:
    names = {name.lower() for name in settings} & _KNOWN
    starts_with_steps = next(iter(settings), "") == "Steps" and settings["Steps"].isdecimal()
    return "steps" in names and len(names) >= (2 if starts_with_steps else 3)


def _split(text: str) -> tuple[str, dict[str, str], str]:
    """Return what is before the settings, the settings, and what is after them."""
    lines = text.split("\n")
    found = []
    for index, line in enumerate(lines):
        if "steps:" in line.lower() and len(line) <= _MAX_LINE and _is_settings(settings := settings_of(line)):
            found.append((index, settings))
    while len(found) > 1 and any(map(_TEMPLATE.match, lines[found[-2][0] : found[-1][0]])):
        found.pop()  # part of a template
    if found:
        index, settings = found[-1]
        return "\n".join(lines[:index]), settings, "\n".join(lines[index + 1 :])
    return _split_inline(text)


def _split_inline(text: str) -> tuple[str, dict[str, str], str]:
    """Do the same for a text that has lost its line breaks."""
    for match in reversed([*_INLINE.finditer(text)][-3:]):
        line, _, after = text[match.start() :].partition("\n")
        if len(line) <= _MAX_LINE and _is_settings(settings := settings_of(line)):
            return re.sub(rf"\s{_NEGATIVE}", f"\n{_NEGATIVE}", text[: match.start()], count=1), settings, after
    return text, {}, ""


def _sections(after: str) -> Iterator[tuple[str, str]]:
    """Yield the labelled parts of what follows the settings; the label of the first is empty."""
    label = ""
    part: list[str] = []
    for line in after.split("\n") if after else ():
        # A template may contain the label of a negative prompt.
        found = _TEMPLATE.match(line) or (label == "" and re.match(_NEGATIVE, line)) or None
        if found:
            yield label, "\n".join(part).strip()
            label, part = found[0], []
        part.append(line[found.end() :] if found else line)
    yield label, "\n".join(part).strip()


def _named(sections: dict[str, str]) -> dict[str, str]:
    return {label.rstrip(":") or "Further lines": text for label, text in sections.items() if text}


def _split_negative(before: str) -> tuple[str, str]:
    prompt, _, negative = f"\n{before}".partition(f"\n{_NEGATIVE}")
    return prompt.strip(), negative.strip()


def _metadata(prompt: str, negative: str, settings: dict[str, str]) -> ImageMetadata | None:
    lower = {name.lower(): value for name, value in settings.items()}
    size = re.fullmatch(r"\(?\s*(\d{1,6})\s*[x×,]\s*(\d{1,6})\s*\)?", lower.get("size", ""))  # noqa: RUF001 (a cross)
    version = lower.get("version", "")
    # Upscaling afterwards ("Hires. fix") has a denoising strength of its own.
    from_image = "denoising strength" in lower and not any(name.startswith("hires") for name in lower)
    supported = _KNOWN | _WITHOUT_EFFECT | ({"denoising strength"} if from_image else set())
    return recorded(
        _tool(version),
        prompt=prompt,
        negative=negative,
        steps=lower.get("steps"),
        scale=lower.get("cfg scale"),
        seed=lower.get("seed"),
        width=size and size[1],
        height=size and size[2],
        sampler=lower.get("sampler"),
        schedule=lower.get("schedule type", lower.get("scheduler")),
        strength=lower["denoising strength"] if from_image else None,
        model=lower.get("model"),
        settings=settings,
        unsupported={name: value for name, value in settings.items() if name.lower() not in supported},
    )


def _tool(version: str) -> str:
    for start, tool in (
        ("lambdiff", "lambdiff"),
        ("Fooocus", "Fooocus"),
        ("ComfyUI", "ComfyUI"),
        ("stable-diffusion.cpp", "stable-diffusion.cpp"),
        ("f", "Forge"),
    ):
        if version.startswith(start):
            return tool
    return "the web UI of AUTOMATIC1111" if re.match(r"v?1\.", version) else "a program with the web UI's format"

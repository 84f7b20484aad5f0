"""What the page writes for people to copy, and what it reads from pictures that they drop."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Final

from lambdiff.client import foreign_metadata
from lambdiff.errors import MetadataError
from lambdiff.protocol.contract import GenerateRequest

_FLAGS: Final = {
    "negative_prompt": "--negative",
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance",
    "width": "--width",
    "height": "--height",
    "seed": "--seed",
    "scheduler": "--scheduler",
    "sigma_schedule": "--sigma-schedule",
    "prompt_syntax": "--prompt-syntax",
    "strength": "--strength",
}
_PICTURES: Final = ("image", "mask")
_START_IMAGE: Final = "start.png"
"""Stands for the start image's file, whose name is not known here."""


def as_command(request: GenerateRequest, count: int = 1) -> str:
    """Return the command that generates the same images.

    Example:
        >>> as_command(GenerateRequest(prompt="a cat's hat", seed=7, num_inference_steps=4))
        'lambdiff generate "a cat\\'s hat" --steps 4 --seed 7'
    """
    prompt = [_quoted(request.prompt)]
    after = request.prompt.startswith("-")  # would be read as an option
    words = ["lambdiff", "generate", *([] if after else prompt)]
    for name, flag in _FLAGS.items():
        if (value := getattr(request, name)) not in (None, ""):
            words += [flag, _quoted(str(value))]
    words += [f"--{name} {_file_of(name)}" for name in _PICTURES if getattr(request, name)]
    if request.image_format != "png":
        words += ["--format", request.image_format]
    words += ["-n", str(count)] if count > 1 else []
    return " ".join([*words, *(["--", *prompt] if after else [])])


def as_python(request: GenerateRequest, count: int = 1) -> str:
    """Return the call that generates the same images.

    Example:
        >>> print(as_python(GenerateRequest(prompt="a cat", seed=7)))
        import lambdiff
        <BLANKLINE>
        image = lambdiff.generate("a cat", seed=7)
        image.save("image.png")
    """
    given = {name: getattr(request, name) for name in _FLAGS if getattr(request, name) not in (None, "")}
    given |= {name: _file_of(name) for name in _PICTURES if getattr(request, name)}
    if request.image_format != "png":
        given["image_format"] = request.image_format
    arguments = "".join(f", {name}={value!r}" for name, value in given.items())
    prompt = '"' + request.prompt.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if count > 1:
        call = f"with lambdiff.Client() as client:\n    batch = client.generate_many([{prompt}], n={count}{arguments})"
        return f"import lambdiff\n\n{call}"
    suffix = {"png": "png", "jpeg": "jpg", "webp": "webp"}[request.image_format]
    return f'import lambdiff\n\nimage = lambdiff.generate({prompt}{arguments})\nimage.save("image.{suffix}")'


def read_parameters(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters that a picture records, and what lambdiff cannot repeat.

    Raises:
        MetadataError: it records none.
    """
    stored = foreign_metadata.read(Path(path))
    parameters = stored.reusable()
    if not parameters:
        raise MetadataError("The image contains no generation parameters.")
    notes = list(stored.notes)
    if stored.image_sha256:
        notes.append("It was generated with a start image, which it does not contain.")
    return {name: value for name, value in parameters.items() if name != "strength"}, notes


def _quoted(text: str) -> str:
    """Quote a word for a shell; double quotes where they suffice, which are easier to read."""
    if "'" in text and not any(character in text for character in '"$`\\!'):
        return f'"{text}"'
    quoted = shlex.quote(text)
    return f'"{text}"' if quoted.startswith("'") and not any(each in text for each in '"$`\\!') else quoted


def _file_of(name: str) -> str:
    return _START_IMAGE if name == "image" else "mask.png"

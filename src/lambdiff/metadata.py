"""Generation parameters <-> the image that they made. Copied into the image.

Two records travel in every picture:
    `parameters`   the text of AUTOMATIC1111's web UI, which Civitai and sd-prompt-reader read: a PNG text chunk,
                   or EXIF's UserComment in JPEG and WebP
    `lambdiff`     the same values as JSON, exact where the text is ambiguous: a PNG text chunk, or EXIF's ImageHistory
                   (https://exiftool.org/TagNames/EXIF.html, 0x9213)
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from lambdiff._version import __version__
from lambdiff.contract import GenerateRequest, Generation, ImageFormat, ModelIdentity
from lambdiff.errors import LambdiffError

if TYPE_CHECKING:
    from PIL.Image import Image

KEY: Final = "lambdiff"
MAX_FILE: Final = 64 * 1024 * 1024
MAX_PIXELS: Final = 64 * 1024 * 1024
"""Pictures are at most 1,024 x 1,024 here; other tools' are larger, but not by this much."""

# The web UI's names: https://github.com/AUTOMATIC1111/stable-diffusion-webui/blob/master/modules/sd_samplers_kdiffusion.py
SAMPLERS: Final = {"ddim": "DDIM", "dpmpp_2m": "DPM++ 2M", "euler": "Euler", "lcm": "LCM", "pndm": "PLMS"}

_EXIF_IFD: Final = 0x8769
_USER_COMMENT: Final = 0x9286
_IMAGE_HISTORY: Final = 0x9213
_SOFTWARE: Final = 0x0131


class MetadataError(LambdiffError):
    """A file is no picture, or one with no parameters that can be read."""

    exit_code = 2


class Recorded(Struct, frozen=True, kw_only=True):
    """What a picture says about its origin.

    Attributes:
        request: the parameters, ready to be sent again; None where another tool's text does not say.
        model, revision, version: the weights' name and revision, and lambdiff's version; empty where unknown.
        exact: the parameters are lambdiff's own record, not a reading of the web UI's text.
        settings: every setting of the web UI's text, as it stands there.
    """

    request: GenerateRequest
    model: str = ""
    revision: str = ""
    version: str = ""
    exact: bool = False
    settings: dict[str, str] = {}


class _Record(Struct, frozen=True, kw_only=True):
    """The JSON form of the exact record."""

    generation: Generation
    model: str
    revision: str
    version: str


def write(image: Image, generation: Generation, model: ModelIdentity, image_format: ImageFormat | None = None) -> bytes:
    """Encode a picture with its parameters inside.

    Args:
        image: RGB.
        generation: how it was made.
        model: what made it.
        image_format: the encoding; None for `generation.image_format`.

    Returns:
        The file's bytes; the same input gives the same bytes.
    """
    generation = msgspec.structs.replace(generation, image_format=image_format or generation.image_format)
    text = to_text(generation, model)
    record = msgspec.json.encode(
        _Record(generation=generation, model=model.name, revision=model.revision, version=__version__)
    )
    stream = io.BytesIO()
    if generation.image_format == "png":
        # Level 1 costs 5% of the size of level 6 in photographs and a third of its time.
        image.save(stream, "PNG", compress_level=1, pnginfo=_png_text(text, record.decode()))
    elif generation.image_format == "jpeg":
        image.save(stream, "JPEG", quality=92, subsampling=0, exif=_exif(text, record))
    else:
        image.save(stream, "WEBP", quality=90, method=4, exif=_exif(text, record))
    return stream.getvalue()


def read(source: bytes | Path) -> Recorded:
    """The parameters inside a picture of lambdiff or of any tool that writes the web UI's text.

    Nothing is decompressed but the file's text.

    Raises:
        MetadataError: no picture, too large, damaged, or without parameters.
    """
    with _opened(source) as image:
        text, record = _texts(image)
    settings: dict[str, str] = {}
    foreign = None
    if text:
        foreign, settings = from_text(text)
    if record:
        try:
            exact = msgspec.json.decode(record, type=_Record)
            # Through the contract: a file may claim anything.
            request = GenerateRequest.from_fields(msgspec.to_builtins(exact.generation))
        except (msgspec.DecodeError, LambdiffError):
            if foreign is None:
                raise MetadataError("The picture's parameters are damaged.", fix="Use the original file.") from None
        else:
            return Recorded(
                request=request,
                model=exact.model,
                revision=exact.revision,
                version=exact.version,
                exact=True,
                settings=settings,
            )
    if foreign is None:
        raise MetadataError(
            "The picture holds no generation parameters.",
            fix="Use a picture of lambdiff or of the web UI that was not edited or sent through a messenger.",
        )
    return Recorded(request=foreign, model=settings.get("Model", ""), settings=settings)


def to_text(generation: Generation, model: ModelIdentity) -> str:
    """The `parameters` text.

    Example:
        >>> print(to_text(generation, model))  # doctest: +SKIP
        a cat in a top hat
        Negative prompt: dog
        Steps: 20, Sampler: Euler, CFG scale: 7, Seed: 42, Size: 512x512, Model: sd-turbo, Version: lambdiff 0.1.0
    """
    scale = generation.guidance_scale
    settings = {
        "Steps": generation.num_inference_steps,
        "Sampler": SAMPLERS[generation.scheduler],
        "CFG scale": int(scale) if scale == int(scale) else scale,
        "Seed": generation.seed,
        "Size": f"{generation.width}x{generation.height}",
        "Model": model.name,
        "Version": f"lambdiff {__version__}",
    }
    lines = [generation.prompt]
    if generation.negative_prompt:
        lines.append(f"Negative prompt: {generation.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings.items()))
    return "\n".join(lines)


def from_text(text: str) -> tuple[GenerateRequest, dict[str, str]]:
    """The inverse of `to_text`, for any tool's text: what can be understood, and all settings as they stand.

    The values are as found and may be out of the contract's range; sending them validates them.
    """
    *lines, last = text.strip().split("\n")
    settings = {name: _unquoted(value) for name, value in _SETTING.findall(last)}
    if len(settings) < 3:  # a prompt with commas and colons, and no settings below it
        lines, settings = [*lines, last], {}
    prompts = "\n".join(lines)
    prompt, _, negative = prompts.partition("\nNegative prompt:")
    if not negative and prompts.startswith("Negative prompt:"):
        prompt, negative = "", prompts.removeprefix("Negative prompt:")
    schedulers = {sampler.lower(): name for name, sampler in SAMPLERS.items()}
    size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", settings.get("Size", ""))
    fields: dict[str, Any] = {
        "prompt": prompt.strip(),
        "negative_prompt": negative.strip() or None,
        "num_inference_steps": _number(int, settings.get("Steps")),
        "guidance_scale": _number(float, settings.get("CFG scale")),
        "seed": _number(int, settings.get("Seed")),
        "width": int(size[1]) if size else None,
        "height": int(size[2]) if size else None,
        "scheduler": schedulers.get(settings.get("Sampler", "").lower()),
    }
    return GenerateRequest(**fields), settings


_SETTING: Final = re.compile(r'\s*(\w[\w /()-]{0,60}):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]', value) else value


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        with contextlib.suppress(json.JSONDecodeError):
            return str(json.loads(value))
    return value.strip()


def _number(kind: type, value: str | None) -> Any:
    try:
        return kind((value or "")[:40])
    except ValueError:
        return None


def _png_text(text: str, record: str) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", text)
    info.add_text(KEY, record)
    return info


def _exif(text: str, record: bytes) -> Any:
    from PIL.Image import Exif

    exif = Exif()
    exif[_SOFTWARE] = f"lambdiff {__version__}"
    exif[_IMAGE_HISTORY] = record
    # The character code and the byte order that readers of the web UI's files expect.
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
    return exif


@contextlib.contextmanager
def _opened(source: bytes | Path) -> Iterator[Image]:
    import PIL.Image

    try:
        if isinstance(source, Path):
            if source.stat().st_size > MAX_FILE:
                raise MetadataError(f"{source.name} is larger than {MAX_FILE >> 20} MiB.", fix="Use the original file.")
            source = source.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large and of damaged files; both are handled here
            with PIL.Image.open(io.BytesIO(source), formats=("PNG", "JPEG", "WEBP")) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise MetadataError("The picture has too many pixels.", fix="Use the original file.")
                yield image
    except OSError as error:
        if error.strerror:
            raise MetadataError(f"The file cannot be read: {error.strerror}.", fix="Name a picture.") from None
        raise MetadataError("The file is no PNG, JPEG or WebP picture.", fix="Name a picture.") from None
    except LambdiffError:
        raise
    except Exception:  # Pillow's decoders raise nearly anything on hostile files
        raise MetadataError("The picture is damaged.", fix="Use the original file.") from None


def _texts(image: Image) -> tuple[str, bytes]:
    if image.format == "PNG":
        getattr(image, "text", None)  # reads the chunks after the pixels as well
        text, record = image.info.get("parameters", ""), image.info.get(KEY, "")
        return (text if isinstance(text, str) else ""), str(record).encode()
    exif = image.getexif()
    record = exif.get(_IMAGE_HISTORY, b"")
    return _user_comment(exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")), (
        record.encode("latin-1", "replace") if isinstance(record, str) else bytes(record)
    )


def _user_comment(value: Any) -> str:
    """Decode EXIF's UserComment: eight bytes name the code (Exif 2.32, 4.6.5)."""
    if not isinstance(value, bytes):
        return value if isinstance(value, str) else ""
    code, content = value[:8], value[8:]
    if code == b"UNICODE\0":
        return content.decode("utf-16-le" if content[1:2] == b"\0" else "utf-16-be", "replace")
    return (content if code in (b"ASCII\0\0\0", bytes(8)) else value).decode("utf-8", "replace")

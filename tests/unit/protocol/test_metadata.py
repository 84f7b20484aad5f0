"""Parameters inside images: writing, reading, foreign tools and hostile files (protocol/metadata.py)."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from sd_prompt_reader.image_data_reader import ImageDataReader

from lambdiff._version import __version__
from lambdiff.errors import MetadataError
from lambdiff.protocol import a1111, containers, contract, metadata
from lambdiff.protocol.contract import Generation, ModelIdentity
from support.stub_engine import pattern

MODEL = ModelIdentity(name="sd-turbo", revision="abc123", license="MIT")
FORMATS = ["png", "jpeg", "webp"]
IMAGE = Image.fromarray(pattern(0, 64, 64))


def generation(**changes: Any) -> Generation:
    """Return a complete set of parameters."""
    values: dict[str, Any] = {
        "prompt": "a cat in a top hat",
        "negative_prompt": "dog, blurry",
        "num_inference_steps": 20,
        "guidance_scale": 7.5,
        "width": 64,
        "height": 64,
        "seed": 4_294_967_295,
        "scheduler": "dpmpp_2m",
        **changes,
    }
    return Generation(**values)


def encoded(image_format: str, **changes: Any) -> bytes:
    """Return an encoded image with these parameters inside."""
    return metadata.encode(IMAGE, metadata.ImageMetadata.of(generation(**changes), MODEL), image_format)


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize(
    "prompt",
    [
        "a cat in a top hat",
        "two\nlines",
        "Steps: 4, Seed: 1\nNegative prompt: fake\nSteps: 9, Sampler: X, Seed: 2, Size: 8x8",
        'quotes "and", commas: colons',
        "größer, 猫, 😀",
        "  spaces kept  ",
        "\r\n\t\x01",
        "😀" * contract.MAX_PROMPT,
        "\x01" * contract.MAX_PROMPT,
    ],
)
def test_every_parameter_reads_back_exactly(image_format: str, prompt: str) -> None:
    """Parameters read back exactly, even prompts that make the web UI's text ambiguous, and the longest ones."""
    prompt = prompt if prompt.strip() else prompt + "x"
    original = generation(prompt=prompt[: contract.MAX_PROMPT], negative_prompt=prompt[: contract.MAX_PROMPT])
    content = metadata.encode(IMAGE, metadata.ImageMetadata.of(original, MODEL), image_format)
    recorded = metadata.read(content)
    assert recorded.exact
    assert recorded.generation.prompt == original.prompt
    assert recorded.generation.negative_prompt == original.negative_prompt
    assert recorded.generation.image_format == image_format
    assert (recorded.model, recorded.revision, recorded.version) == ("sd-turbo", "abc123", __version__)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_prompt_survives_any_format(prompt: str) -> None:
    """Any prompt reads back from any format."""
    if prompt.strip():
        for image_format in FORMATS:
            assert metadata.read(encoded(image_format, prompt=prompt)).request.prompt == prompt


@pytest.mark.parametrize("image_format", FORMATS)
def test_sd_prompt_reader_reads_our_files(image_format: str, tmp_path: Path) -> None:
    """sd-prompt-reader, a widely used viewer, finds prompt, negative prompt and every setting."""
    path = tmp_path / f"cat.{image_format}"
    path.write_bytes(encoded(image_format))
    reader = ImageDataReader(path)
    assert reader.tool == "A1111 webUI"
    assert reader.positive == "a cat in a top hat"
    assert reader.negative == "dog, blurry"
    assert reader.parameter == {
        "model": "sd-turbo",
        "sampler": "DPM++ 2M",
        "seed": "4294967295",
        "cfg": "7.5",
        "steps": "20",
        "size": "64x64",
    }


def test_the_text_has_the_web_uis_format() -> None:
    """Whole numbers have no decimal point, an empty negative prompt has no line, and special names are quoted."""
    assert a1111.to_text(generation(guidance_scale=7.0, negative_prompt=""), "a, b: c") == (
        "a cat in a top hat\n"
        "Steps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 4294967295, Size: 64x64, "
        f'Model: "a, b: c", Version: lambdiff {__version__}'
    )


@pytest.mark.parametrize("image_format", FORMATS)
def test_the_same_input_gives_the_same_bytes(image_format: str) -> None:
    """Encoding the same image and parameters twice gives the same bytes."""
    assert encoded(image_format) == encoded(image_format)


def test_png_keeps_every_pixel() -> None:
    """A PNG contains the exact pixels."""
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encoded("png")))), np.asarray(IMAGE))


def foreign_png(text: str) -> bytes:
    """Return a PNG with the web UI's text, as another tool writes it."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    stream = io.BytesIO()
    IMAGE.save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def foreign_jpeg(user_comment: bytes) -> bytes:
    """Return a JPEG with this UserComment, written by Pillow."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = user_comment
    stream = io.BytesIO()
    IMAGE.save(stream, "JPEG", exif=exif)
    return stream.getvalue()


FOREIGN = (
    "masterpiece, (cat:1.2), night\nsecond line\n"
    "Negative prompt: lowres, bad hands\n"
    "Steps: 30, Sampler: Euler, Schedule type: Karras, CFG scale: 5.5, Seed: 1960802277, Size: 768x512, "
    'Model hash: abc, Model: v1-5, Lora hashes: "a: 1, b: 2", Version: v1.10.1'
)


def test_images_from_other_tools_can_be_read() -> None:
    """Prompt, negative prompt, steps, scale, seed, size and sampler are read from the web UI's own text."""
    recorded = metadata.read(foreign_png(FOREIGN))
    request = recorded.request
    assert not recorded.exact
    assert request.prompt == "masterpiece, (cat:1.2), night\nsecond line"
    assert request.negative_prompt == "lowres, bad hands"
    assert (request.num_inference_steps, request.guidance_scale, request.seed) == (30, 5.5, 1960802277)
    assert (request.width, request.height, request.scheduler) == (768, 512, "euler")
    assert recorded.model == "v1-5"
    assert recorded.settings["Lora hashes"] == "a: 1, b: 2"
    assert recorded.settings["Schedule type"] == "Karras"


@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + FOREIGN.encode("utf-16-be"),
        b"UNICODE\0" + FOREIGN.encode("utf-16-le"),
        b"ASCII\0\0\0" + FOREIGN.encode(),
        bytes(8) + FOREIGN.encode(),
    ],
)
def test_every_encoding_of_a_user_comment_is_read(comment: bytes) -> None:
    """A UserComment is read in UTF-16 of either byte order, in ASCII, and without a stated encoding."""
    assert metadata.read(foreign_jpeg(comment)).request.seed == 1960802277


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        ("just a prompt", "just a prompt", None),
        ("a prompt: with a colon, and a comma", "a prompt: with a colon, and a comma", None),
        ("a\nNegative prompt: b", "a", "b"),
        ("Negative prompt: b\nSteps: 1, Sampler: Foo, Seed: 2", "", "b"),
        ("a\nSteps: many, Sampler: Foo, CFG scale: x, Seed: -1, Size: huge", "a", None),
    ],
)
def test_incomplete_texts_are_read_as_far_as_possible(text: str, prompt: str, negative: str | None) -> None:
    """Values that are missing or unreadable stay None, and the others are read."""
    request = metadata.read(foreign_png(text)).request
    assert (request.prompt, request.negative_prompt) == (prompt, negative)
    assert request.width is None
    assert request.scheduler is None


def test_metadata_of_another_tool_may_be_incomplete() -> None:
    """If a foreign image lacks parameters, `generation` and writing its metadata raise a `MetadataError`."""
    recorded = metadata.read(foreign_png("just a prompt"))
    with pytest.raises(MetadataError, match="does not record all"):
        _ = recorded.generation
    with pytest.raises(MetadataError):
        metadata.encode(IMAGE, recorded)


def test_an_invalid_record_is_not_trusted() -> None:
    """If the exact record violates the contract, the web UI's text is read instead."""
    record = b'lambdiff\0{"generation":{"prompt":"a","num_inference_steps":99999}}'
    recorded = metadata.read(png(1, 1, chunk(b"tEXt", record), chunk(b"tEXt", b"parameters\0" + FOREIGN.encode())))
    assert not recorded.exact
    assert recorded.request.num_inference_steps == 30


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """Return a minimal PNG with extra chunks."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    )


BOMB = zlib.compress(bytes(80_000_000), 9)
HOSTILE = {
    "empty": b"",
    "text": b"not an image",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "gif": b"GIF89a" + bytes(40),
    "signature alone": b"\x89PNG\r\n\x1a\n",
    "truncated png": encoded("png")[:60],
    "truncated jpeg": encoded("jpeg")[:25],
    "truncated webp": encoded("webp")[:40],
    "pixel bomb": png(60_000, 60_000),
    "bomb in zTXt": png(1, 1, chunk(b"zTXt", b"parameters\0\0" + BOMB)),
    "bomb in iTXt": png(1, 1, chunk(b"iTXt", b"parameters\0\1\0\0\0" + BOMB)),
    "many bombs": png(
        1, 1, *[chunk(b"zTXt", b"k%d\0\0" % index + zlib.compress(bytes(1_000_000))) for index in range(80)]
    ),
    "no parameters": png(1, 1),
    "record is not JSON": png(1, 1, chunk(b"tEXt", b"lambdiff\0{")),
    "record is deeply nested": png(1, 1, chunk(b"tEXt", b"lambdiff\0" + b"[" * 100_000)),
    "record is invalid": png(1, 1, chunk(b"tEXt", b'lambdiff\0{"generation": {"prompt": 5}}')),
    "exif is garbage": foreign_jpeg(b"").replace(b"Exif\0\0MM", b"Exif\0\0ZZ"),
    "webp is garbage": b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(range(200)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_clearly(name: str) -> None:
    """A hostile file is refused with an error that has a fix."""
    with pytest.raises(MetadataError) as caught:
        metadata.read(HOSTILE[name])
    assert caught.value.fix
    assert caught.value.exit_code == 2


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8), st.sampled_from(FORMATS))
@settings(max_examples=300, deadline=None)
def test_damaged_files_are_read_or_refused(position: int, damage: bytes, image_format: str) -> None:
    """Reading a file with overwritten bytes succeeds or raises a `MetadataError`."""
    content = bytearray(encoded(image_format))
    position %= len(content)
    content[position : position + len(damage)] = damage
    with contextlib.suppress(MetadataError):
        metadata.read(bytes(content))


def test_files_are_read_by_path(tmp_path: Path) -> None:
    """A file is read by its path; a missing file, a folder and a huge file are refused."""
    path = tmp_path / "cat.png"
    path.write_bytes(encoded("png"))
    assert metadata.read(path).request.prompt == "a cat in a top hat"
    with pytest.raises(MetadataError, match="No such file"):
        metadata.read(tmp_path / "dog.png")
    with pytest.raises(MetadataError, match="directory"):
        metadata.read(tmp_path)
    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate(containers.MAX_FILE + 1)
    with pytest.raises(MetadataError, match="larger than 64 MiB"):
        metadata.read(tmp_path / "huge.png")


def test_bombs_cost_little_memory() -> None:
    """Reading hostile files takes less than 100 MB, because Pillow limits a file's texts to 64 MiB."""
    tracemalloc.start()
    for content in HOSTILE.values():
        with contextlib.suppress(MetadataError):
            metadata.read(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000

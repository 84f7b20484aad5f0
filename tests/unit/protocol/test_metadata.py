"""Parameters inside images: writing, reading and hostile files (protocol/metadata.py, protocol/image_texts.py)."""

from __future__ import annotations

import contextlib
import io
import tracemalloc
import zlib
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sd_prompt_reader.image_data_reader import ImageDataReader

from lambdiff._version import __version__
from lambdiff.errors import MetadataError
from lambdiff.protocol import a1111, containers, contract, image_texts, metadata
from lambdiff.protocol.contract import Generation, ModelIdentity, SchedulerName
from support.foreign_images import chunk, png
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
    computed: dict[str, Any] = {"engine": "openvino", "precision": "f32", "threads": 2}
    content = metadata.encode(IMAGE, metadata.ImageMetadata.of(original, MODEL, **computed), image_format)
    recorded = metadata.read(content)
    assert {name: getattr(recorded, name) for name in computed} == computed
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


def test_the_text_names_samplers_as_the_web_ui_does() -> None:
    """Every scheduler has a name there, and the spacing of noise levels is named if it is not the usual one."""
    text = a1111.to_text(generation(scheduler="euler_ancestral"), "m")
    assert "Sampler: Euler a, CFG scale" in text
    text = a1111.to_text(generation(scheduler="dpmpp_2m_sde", sigma_schedule="karras"), "m")
    assert "Sampler: DPM++ 2M SDE, Schedule type: Karras, CFG scale" in text
    assert a1111.SAMPLERS.keys() == set(get_args(SchedulerName))


def test_records_without_a_sigma_schedule_are_read() -> None:
    """Images from before there were sigma schedules have the usual one."""
    image = metadata.ImageMetadata.of(generation(), MODEL)
    fields = msgspec.to_builtins(image.generation)
    del fields["sigma_schedule"]
    record = {"generation": fields, "model": "m", "revision": "r", "version": "0.1"}
    content = containers.write(IMAGE, "png", "", msgspec.json.encode(record))
    assert metadata.read(content).generation == image.generation


@pytest.mark.parametrize("image_format", FORMATS)
def test_the_same_input_gives_the_same_bytes(image_format: str) -> None:
    """Encoding the same image and parameters twice gives the same bytes."""
    assert encoded(image_format) == encoded(image_format)


def test_png_keeps_every_pixel() -> None:
    """A PNG contains the exact pixels."""
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encoded("png")))), np.asarray(IMAGE))


def test_metadata_without_all_parameters_cannot_be_written() -> None:
    """If parameters are missing, as in images of other tools, `generation` and `encode` raise a `MetadataError`."""
    recorded = metadata.ImageMetadata(request=contract.GenerateRequest(prompt="just a prompt"))
    with pytest.raises(MetadataError, match="does not record all"):
        _ = recorded.generation
    with pytest.raises(MetadataError):
        metadata.encode(IMAGE, recorded)


def test_an_invalid_record_is_not_trusted() -> None:
    """A record that violates the contract is not used."""
    record = b'lambdiff\0{"generation":{"prompt":"a","num_inference_steps":99999}}'
    with pytest.raises(MetadataError, match="no valid record"):
        metadata.read(png(chunk(b"tEXt", record)))


def test_half_of_a_size_is_not_reusable() -> None:
    """If only one side is in range, neither is used: the image would have another shape."""
    request = contract.GenerateRequest(prompt="a", width=1216, height=832, seed=1)
    assert metadata.ImageMetadata(request=request).reusable() == {"prompt": "a", "seed": 1}


def test_latin_1_in_a_record_is_not_taken_for_utf_8() -> None:
    """Characters whose Latin-1 bytes are valid UTF-8 read back from a PNG."""
    assert metadata.read(encoded("png", prompt="Ã©, Â°")).request.prompt == "Ã©, Â°"


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
    "pixel bomb": png(width=60_000, height=60_000),
    "bomb in zTXt": png(chunk(b"zTXt", b"parameters\0\0" + BOMB)),
    "bomb in iTXt": png(chunk(b"iTXt", b"parameters\0\1\0\0\0" + BOMB)),
    "many bombs": png(*[chunk(b"zTXt", b"k%d\0\0" % index + zlib.compress(bytes(1_000_000))) for index in range(80)]),
    "no parameters": png(),
    "record is not JSON": png(chunk(b"tEXt", b"lambdiff\0{")),
    "record is deeply nested": png(chunk(b"tEXt", b"lambdiff\0" + b"[" * 100_000)),
    "record is invalid": png(chunk(b"tEXt", b'lambdiff\0{"generation": {"prompt": 5}}')),
    "exif is garbage": encoded("jpeg").replace(b"Exif\0\0MM", b"Exif\0\0ZZ"),
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
        stream.truncate(image_texts.MAX_FILE + 1)
    with pytest.raises(MetadataError, match="larger than 64 MiB"):
        metadata.read(tmp_path / "huge.png")


def test_bombs_cost_little_memory() -> None:
    """Reading hostile files takes less than 100 MB, because the texts of a file are limited."""
    tracemalloc.start()
    for content in HOSTILE.values():
        with contextlib.suppress(MetadataError):
            metadata.read(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000

"""Start images and masks of a request: any kind of file becomes plain pixels, or is refused (protocol/pictures.py)."""

from __future__ import annotations

import base64
import io
import json
import pickle
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lambdiff.errors import InvalidRequest
from lambdiff.protocol import contract, pictures
from lambdiff.protocol.contract import Defaults, GenerateRequest, Limits
from lambdiff.protocol.image_decoding import BadImage
from lambdiff.protocol.pictures import Kind, Picture

DEFAULTS = Defaults(num_inference_steps=10, guidance_scale=1.0, width=512, height=512, scheduler="euler")
COLORS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 255], [0, 0, 0], [9, 99, 199]]], np.uint8)


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> str:
    """Return an image in base64."""
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return base64.b64encode(stream.getvalue()).decode()


def large(mode: str = "RGB") -> Image.Image:
    """Return six blocks of 32 x 32 pixels in the colors above, so that JPEG keeps them."""
    return Image.fromarray(COLORS.repeat(32, axis=0).repeat(32, axis=1)).convert(mode)


def blocks(text: str, kind: Kind = "image") -> np.ndarray:
    """Return the color in the middle of each block."""
    return Picture(text, kind).pixels[16::32, 16::32].astype(int)


@pytest.mark.parametrize(
    ("text", "tolerance"),
    [
        (encoded(large()), 0),
        (encoded(large().quantize(6)), 0),
        (encoded(large("RGBA")), 0),
        (encoded(large(), "WEBP", lossless=True), 0),
        (encoded(large(), "WEBP", quality=95), 12),
        (encoded(large(), "JPEG", quality=95), 12),
        (encoded(large(), "JPEG", quality=95, progressive=True), 12),
        (encoded(large("CMYK"), "JPEG", quality=95), 12),
    ],
    ids=["png", "palette", "opaque", "lossless", "webp", "jpeg", "progressive", "cmyk"],
)
def test_every_kind_of_file_becomes_rgb(text: str, tolerance: int) -> None:
    """PNG, JPEG and WebP files with palettes, CMYK and transparency give the same colors."""
    assert np.abs(blocks(text) - COLORS).max() <= tolerance


def test_sixteen_bits_are_scaled() -> None:
    """16 bits of gray become 8, from black to white."""
    values = np.array([[0, 256, 32_768, 65_535]], np.uint16)
    text = encoded(Image.fromarray(values))
    assert Picture(text, "image").pixels[0, :, 0].tolist() == [0, 1, 128, 255]
    assert Picture(text, "mask").pixels[0].tolist() == [0, 1, 128, 255]


def test_transparency_is_white_in_images_and_black_in_masks() -> None:
    """What shows through is the background of a start image, and is not redrawn by a mask."""
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert (Picture(encoded(clear), "image").pixels == 255).all()
    assert (Picture(encoded(clear), "mask").pixels == 0).all()
    palette = Image.new("RGB", (8, 8), "green").quantize(2)
    assert (Picture(encoded(palette, transparency=0), "image").pixels == 255).all()


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_is_turned_upright(orientation: int, image_format: str) -> None:
    """EXIF's eight orientations are applied to pixels and size."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = large()
    operation = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)  # the inverse of what a viewer does
    if operation is not None:
        stored = stored.transpose(Image.Transpose(operation))
    picture = Picture(encoded(stored, image_format, exif=exif), "image")
    assert picture.size == (96, 64)
    assert np.abs(picture.pixels[16::32, 16::32].astype(int) - COLORS).max() <= 130  # WebP and JPEG blur colors
    assert np.abs(picture.pixels[16, 16].astype(int) - COLORS[0, 0]).max() <= 12


def test_the_hash_is_that_of_the_pixels() -> None:
    """The same pixels in another format or with other metadata have the same hash, and other pixels another one."""
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    texts = [encoded(large()), encoded(large(), exif=exif), encoded(large(), "WEBP", lossless=True)]
    assert len({Picture(text, "image").sha256 for text in texts}) == 1
    assert len({Picture(text, "image").sha256 for text in (texts[0], encoded(large().rotate(90)))}) == 2


def test_a_decoded_picture_is_pickled_without_its_pixels() -> None:
    """Copies are equal, and as small as before the pixels were needed."""
    picture = Picture(encoded(large()), "image")
    small = len(pickle.dumps(picture))
    picture.decode()
    assert len(pickle.dumps(picture)) == small
    copied = pickle.loads(pickle.dumps(picture))  # noqa: S301
    assert (copied, hash(copied), copied.sha256) == (picture, hash(picture), picture.sha256)
    assert copied not in (Picture(encoded(large()), "mask"), Picture(pictures.WHITE, "image"), None)


def test_nothing_prints_a_picture() -> None:
    """The representations of a request and of its pictures have their sizes, and no base64."""
    request = GenerateRequest.from_fields({"prompt": "a", "image": encoded(large()), "mask": encoded(large("L"))})
    generation = request.resolve(DEFAULTS)
    for text in (repr(request), repr(generation), str(generation), repr([request, generation])):
        assert "iVBOR" not in text
    assert "image=<Picture 96x64>" in repr(generation)
    assert all("iVBOR" not in str(value) for value in (*request.__rich_repr__(), *generation.__rich_repr__()))


def test_the_largest_pictures_fit_into_a_request() -> None:
    """1024 x 1024 random pixels, a random mask and two escaped prompts fit into a body, and the event into 6 MiB."""
    random = np.random.default_rng(0)
    image = encoded(Image.fromarray(random.integers(0, 256, (1024, 1024, 3), np.uint8)))
    mask = encoded(Image.fromarray(random.integers(0, 256, (1024, 1024), np.uint8)))
    for character in ("\N{CAT FACE}", '"', "\\"):
        prompt = character * contract.MAX_PROMPT
        fields = {"prompt": prompt, "negative_prompt": prompt, "image": image, "mask": mask, "strength": 0.123456789}
        request = GenerateRequest.from_fields(fields)
        for body in (request.to_json(), json.dumps(fields).encode()):
            assert len(body) <= pictures.MAX_BODY
            assert pictures.check_body(body)
            room = pictures.MAX_BODY - len(body)  # for a larger picture from another client
            event = json.dumps({"body": body.decode(), "headers": {"x": '"' * 16_384}, "context": "x" * 2_048})
            assert len(event) + room <= 6 * 1024 * 1024


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_slashes_may_be_escaped(separators: tuple[str, str]) -> None:
    """PHP escapes slashes in JSON; that is not a reason to refuse a picture."""
    random = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    body = json.dumps({"prompt": "a", "image": encoded(Image.fromarray(random))}, separators=separators)
    body = body.replace("/", "\\/")
    assert pictures.check_body(body.encode())
    assert GenerateRequest.from_json(body.encode()).image is not None


def test_a_size_follows_from_the_start_image() -> None:
    """Without a size, the image has the aspect ratio of the start image and about as many pixels as by default."""
    tall = GenerateRequest(prompt="a", image=encoded(Image.new("RGB", (600, 900)))).resolve(DEFAULTS)
    assert (tall.width, tall.height) == (416, 624)
    given = GenerateRequest(prompt="a", image=encoded(Image.new("RGB", (600, 900))), width=256).resolve(DEFAULTS)
    assert (given.width, given.height) == (256, 384)
    extreme = Image.new("RGB", (2, 2000))
    limits = Limits(min_size=100, max_size=300)
    small = GenerateRequest(prompt="a", image=encoded(extreme)).resolve(DEFAULTS, limits)
    assert (small.width, small.height) == (104, 296)
    limits.check(small)


def test_a_strength_without_steps_is_refused() -> None:
    """If the strength leaves no step, the message names one that does."""
    picture = encoded(Image.new("RGB", (64, 64)))
    for steps, strength in ((10, 0.09), (1, 0.99), (100, 0.0), (3, 0.333), (49, 0.02)):
        request = GenerateRequest(prompt="a", image=picture, strength=strength, num_inference_steps=steps)
        with pytest.raises(InvalidRequest, match=f"none of the {steps} steps") as refused:
            Limits().check(request.resolve(DEFAULTS))
        ((name, detail),) = refused.value.problems
        assert name == "strength"
        enough = float(detail.split("; ")[1].split()[0])
        request = GenerateRequest(prompt="a", image=picture, strength=enough, num_inference_steps=steps)
        assert request.resolve(DEFAULTS).steps == 1


def test_models_say_which_pictures_they_take() -> None:
    """A picture that a model does not take, or a missing one that it needs, is refused by name."""
    picture = encoded(Image.new("RGB", (64, 64)))
    both = GenerateRequest(prompt="a", image=picture, mask=picture)
    cases = [
        (Limits(), both, ["image", "mask"]),
        (Limits(image="optional"), both, ["mask"]),
        (Limits(image="required", mask="required"), GenerateRequest(prompt="a"), ["image", "mask"]),
    ]
    for limits, request, names in cases:
        with pytest.raises(InvalidRequest) as refused:
            limits.check_pictures(request)
        assert [name for name, _ in refused.value.problems] == names
    Limits(image="required", mask="required").check_pictures(both)
    Limits().check_pictures(GenerateRequest(prompt="a"))


def test_damaged_pixels_are_found_when_they_are_decoded() -> None:
    """A file with a good header and damaged pixels is refused by its field."""
    content = bytearray(base64.b64decode(encoded(large())))
    content[content.index(b"IDAT") + 10] ^= 0xFF
    text = base64.b64encode(bytes(content)).decode()
    with pytest.raises(BadImage, match="is damaged"):
        _ = Picture(text, "image").pixels
    with pytest.raises(InvalidRequest, match="`image=` is damaged"):
        GenerateRequest.from_fields({"prompt": "a", "image": text}).resolve(DEFAULTS).decode_pictures()

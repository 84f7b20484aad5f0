"""How long an image is expected to take (client/progress.py)."""

from __future__ import annotations

import pytest

from lambdiff import config
from lambdiff.client import progress
from lambdiff.client.client import Client

URL = "https://abc.lambda-url.us-east-1.on.aws/"


def test_denoising_is_scaled_by_steps_and_pixels() -> None:
    """Loading is left out, denoising grows with steps and pixels, and the rest stays."""
    assert progress.expected_seconds(URL) is None
    progress.remember_seconds(URL, 10.0, load=3.0, denoise=4.0, steps=8, pixels=64 * 64)
    assert progress.expected_seconds(URL) == 7.0
    assert progress.expected_seconds(URL, steps=16) == 11.0
    assert progress.expected_seconds(URL, steps=4, pixels=64 * 64) == 5.0
    assert progress.expected_seconds(URL, steps=4, pixels=128 * 128) == pytest.approx(11.0)
    assert progress.expected_load_seconds(URL) == 3.0


def test_an_unknown_division_is_not_scaled() -> None:
    """If only the whole duration is known, it is the estimate."""
    progress.remember_seconds(URL, 10.0)
    assert progress.expected_seconds(URL, steps=100) == 10.0
    assert progress.expected_load_seconds(URL) == 0.0


def test_an_image_is_remembered_with_its_phases(client: Client) -> None:
    """The phases and the parameters come from the image."""
    image = client.generate("a cat", num_inference_steps=2)
    image.timings.update(total=10.0, load=1.0, denoise=6.0)
    progress.remember_image(URL, image)
    assert progress.expected_seconds(URL, steps=4) == 15.0


def test_a_file_of_another_version_is_ignored() -> None:
    """An estimate is not worth an error."""
    config.home().mkdir(parents=True)
    (config.home() / "seconds.json").write_text(f'{{"{URL}": 1.5}}')
    assert progress.expected_seconds(URL) is None
    progress.remember_seconds(URL, 2.0)
    assert progress.expected_seconds(URL) == 2.0

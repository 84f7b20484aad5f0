"""The model that ships in the package, drawn with the real engine."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import lambdiff
from lambdiff.engine import manifest as manifests
from lambdiff.local import builtin

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def client() -> lambdiff.Client:
    """One engine for all tests of this file."""
    return lambdiff.Client(local=True)


def pixels(image: lambdiff.GeneratedImage) -> np.ndarray:
    """Shape (height, width, 3), 0..1."""
    return np.asarray(image.image, dtype=np.float32) / 255


def test_the_folder_is_what_was_baked() -> None:
    """Hashes hold, license and origin are told; deflated, as in the wheel, the folder has at most 25 MB."""
    manifest = manifests.verify(builtin.folder())
    assert manifest.license == "MIT"
    assert len(manifest.origin) >= 2
    assert sum(len(zlib.compress(path.read_bytes())) for path in builtin.builtin_model_dir().iterdir()) <= 25_000_000


def test_the_same_seed_is_the_same_file_in_another_process(client: lambdiff.Client, tmp_path: Path) -> None:
    """A fresh process gives the bytes that this one gave."""
    image = client.generate("a cat in a top hat", seed=7)
    code = "import lambdiff; lambdiff.generate('a cat in a top hat', seed=7, local=True).save('a.png')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert (tmp_path / "a.png").read_bytes() == image.content


def test_seed_prompt_and_negative_prompt_change_the_picture(client: lambdiff.Client) -> None:
    """Each of them has a visible effect."""
    base = pixels(client.generate("a cat", seed=1))
    for other in (
        client.generate("a cat", seed=2),
        client.generate("a red apple", seed=1),
        client.generate("a cat", seed=1, negative_prompt="a cat on a blue background", guidance_scale=6),
    ):
        assert np.abs(pixels(other) - base).mean() > 0.01


@pytest.mark.parametrize(("words", "channel"), [("on a red background", 0), ("on a blue background", 2)])
def test_the_background_has_the_colour_that_was_asked_for(client: lambdiff.Client, words: str, channel: int) -> None:
    """The corners of the picture are of the named colour: its channel leads the others in most of four seeds."""
    right = 0
    for seed in range(4):
        picture = pixels(client.generate(f"a cat {words}", seed=seed))
        corners = np.concatenate([picture[:16, :16].reshape(-1, 3), picture[:16, -16:].reshape(-1, 3)]).mean(0)
        right += corners[channel] > max(corners[i] for i in range(3) if i != channel) + 0.1
    assert right >= 3


def test_the_reply_says_that_the_picture_was_enlarged(client: lambdiff.Client) -> None:
    """The native size and the size that was asked for are both in the warning."""
    image = client.generate("a cat", width=512, height=256, seed=1)
    assert image.size == (512, 256)
    assert any("128x128" in warning and "512x256" in warning for warning in image.warnings)


def test_unknown_words_are_named(client: lambdiff.Client) -> None:
    """A word the model has never seen is no error, and is told."""
    assert any("flibbertigibbet" in warning for warning in client.generate("a flibbertigibbet cat", seed=1).warnings)


def test_many_pictures_from_threads_are_the_same_as_one_by_one(client: lambdiff.Client) -> None:
    """Side by side nothing is mixed up."""
    batch = client.generate_many([{"prompt": "a fox", "seed": seed} for seed in range(4)], max_workers=4)
    alone = [client.generate("a fox", seed=seed).content for seed in range(4)]
    assert [image.content for image in batch.images] == alone


def test_health_says_what_answers(client: lambdiff.Client) -> None:
    """Name, license, defaults and limits are those of the manifest."""
    health = client.health()
    manifest = manifests.read(builtin.folder())
    assert (health.model.name, health.model.license) == (manifest.name, "MIT")
    assert health.defaults == manifest.defaults
    assert health.loaded


@pytest.mark.linux
def test_a_terminal_sees_the_steps_and_a_clean_end(tmp_path: Path) -> None:
    """On a terminal the steps are counted on stderr; stdout holds the file's name alone."""
    terminal, stderr = pty.openpty()
    command = [sys.executable, "-m", "lambdiff", "generate", "a cat", "-o", "a.png", "--steps", "3"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr)
    os.close(stderr)
    seen = b""
    with contextlib.suppress(OSError):  # what Linux says when the other end is closed
        while chunk := os.read(terminal, 65536):
            seen += chunk
    out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert (process.returncode, out) == (0, b"a.png\n")
    assert b"step 3 of 3" in seen
    assert seen.rstrip().endswith(b"upsampled to 256x256.")

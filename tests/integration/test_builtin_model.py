"""The built-in model with the real engine."""

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
    """One client, and thus one engine, for all tests in this file."""
    return lambdiff.Client(local=True)


def pixels(image: lambdiff.GeneratedImage) -> np.ndarray:
    """Return an image's pixels from 0 to 1, shape (height, width, 3)."""
    return np.asarray(image.image, dtype=np.float32) / 255


def test_the_folder_is_complete_licensed_and_small() -> None:
    """Hashes match, license and origin are stated, and the folder compresses to at most 25 MB."""
    manifest = manifests.verify(builtin.default_model_dir())
    assert manifest.license == "MIT"
    assert len(manifest.origin) >= 2
    assert sum(len(zlib.compress(path.read_bytes())) for path in builtin.builtin_model_dir().iterdir()) <= 25_000_000


def test_the_same_seed_gives_the_same_bytes_in_another_process(client: lambdiff.Client, tmp_path: Path) -> None:
    """The same prompt and seed give the same file in another process."""
    image = client.generate("a cat in a top hat", seed=7)
    code = "import lambdiff; lambdiff.generate('a cat in a top hat', seed=7, local=True).save('a.png')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert (tmp_path / "a.png").read_bytes() == image.content


def test_seed_prompt_and_negative_prompt_change_the_image(client: lambdiff.Client) -> None:
    """Each of them has a visible effect."""
    base = pixels(client.generate("a cat", seed=1))
    for other in (
        client.generate("a cat", seed=2),
        client.generate("a red apple", seed=1),
        client.generate("a cat", seed=1, negative_prompt="a cat on a blue background", guidance_scale=6),
    ):
        assert np.abs(pixels(other) - base).mean() > 0.01


@pytest.mark.parametrize(("words", "channel"), [("on a red background", 0), ("on a blue background", 2)])
def test_the_background_has_the_requested_color(client: lambdiff.Client, words: str, channel: int) -> None:
    """For at least three of four seeds, the requested color is the strongest channel in the upper corners."""
    right = 0
    for seed in range(4):
        image = pixels(client.generate(f"a cat {words}", seed=seed))
        corners = np.concatenate([image[:16, :16].reshape(-1, 3), image[:16, -16:].reshape(-1, 3)]).mean(0)
        right += corners[channel] > max(corners[i] for i in range(3) if i != channel) + 0.1
    assert right >= 3


def test_resizing_gives_a_warning(client: lambdiff.Client) -> None:
    """An image of another size than the native one has a warning that contains both sizes."""
    image = client.generate("a cat", width=512, height=256, seed=1)
    assert image.size == (512, 256)
    assert any("128x128" in warning and "512x256" in warning for warning in image.warnings)


def test_unknown_words_are_named(client: lambdiff.Client) -> None:
    """A word that the model was not trained on is a warning, not an error."""
    assert any("flibbertigibbet" in warning for warning in client.generate("a flibbertigibbet cat", seed=1).warnings)


def test_concurrent_requests_do_not_affect_each_other(client: lambdiff.Client) -> None:
    """Images generated concurrently equal those generated one after another."""
    batch = client.generate_many([{"prompt": "a fox", "seed": seed} for seed in range(4)], max_workers=4)
    alone = [client.generate("a fox", seed=seed).content for seed in range(4)]
    assert [image.content for image in batch.images] == alone


def test_health_describes_the_model(client: lambdiff.Client) -> None:
    """Name, license and defaults are those of the manifest."""
    health = client.health()
    manifest = manifests.read(builtin.default_model_dir())
    assert (health.model.name, health.model.license) == (manifest.name, "MIT")
    assert health.defaults == manifest.defaults
    assert health.loaded


@pytest.mark.linux
def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal, stderr shows what is being done, and stdout contains only the file's name."""
    terminal, stderr = pty.openpty()
    command = [sys.executable, "-m", "lambdiff", "generate", "a cat", "-o", "a.png", "--steps", "3"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr)
    os.close(stderr)
    seen = b""
    with contextlib.suppress(OSError):  # Linux raises it when the other end is closed
        while chunk := os.read(terminal, 65536):
            seen += chunk
    out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert (process.returncode, out) == (0, b"a.png\n")
    assert b"loading the model" in seen or b"compiling the model" in seen
    assert seen.rstrip().endswith(b"upsampled to 256x256.")

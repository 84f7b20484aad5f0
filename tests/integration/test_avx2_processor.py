"""The engine on an emulated Haswell, because Lambda guarantees no more than AVX2 on x86.

Setting `ONEDNN_MAX_CPU_ISA=AVX2` on a newer processor is no substitute: parts of OpenVINO still probe the CPU directly,
and the combination crashes at some sizes.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lambdiff.engine.factory import open_engine
from lambdiff.local import builtin
from lambdiff.protocol.contract import GenerateRequest
from support import tiny_pipeline
from support.localcloud import install

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

GENERATE = """
import sys
from pathlib import Path
import msgspec
from PIL import Image
from lambdiff.protocol.contract import GenerateRequest
from lambdiff.engine.factory import open_engine
engine = open_engine(Path(sys.argv[1]))
request = msgspec.json.decode(sys.argv[2], type=GenerateRequest)
Image.fromarray(engine.generate(request.resolve(engine.manifest.defaults)).pixels).save(sys.argv[3])
print(engine.precision)
"""


@pytest.fixture(scope="module", autouse=True)
def emulator():
    """Install QEMU's user-mode emulation, which runs a program as if on another processor."""
    install.debian_packages("qemu-user")


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("built-in", {"prompt": "a red apple", "num_inference_steps": 2}),
        ("tiny", {"prompt": "a cat", "num_inference_steps": 2}),
        ("tiny", {"prompt": "a cat", "num_inference_steps": 2, "width": 80, "height": 112}),
    ],
    ids=["built-in", "static", "dynamic"],
)
def test_the_emulated_processor_gives_the_same_image(tmp_path, model, fields):
    """Images agree up to rounding, even at a size for which the UNet has a level of 5 x 7 positions."""
    folder = builtin.builtin_model_dir() if model == "built-in" else tiny_pipeline.baked()
    request = GenerateRequest(seed=1, **fields)
    path = tmp_path / "image.png"
    command = [sys.executable, "-c", GENERATE, folder, request.to_json(), path]
    done = subprocess.run(["qemu-x86_64", "-cpu", "Haswell", *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "f32"), done.stderr
    engine = open_engine(folder)
    local = engine.generate(request.resolve(engine.manifest.defaults)).pixels
    error = np.mean((np.asarray(Image.open(path), dtype=float) - local) ** 2)
    assert 10 * np.log10(255**2 / error) > 35

"""Guards against regressions in cost: inferences, bytes, modules and memory, counted rather than timed.

Counts need neither an idle machine nor tolerances. A commit that changes a cost on purpose changes the figure here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import Approximations, Manifest
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.local import builtin
from lambdiff.protocol.contract import GenerateRequest, Generation, SchedulerName
from support.observed_calls import ObservedCalls
from support.opened_files import OpenedFiles

pytestmark = pytest.mark.engine

PEAK_MB = 322
"""Peak memory (VmHWM, in megabytes of 10^6 bytes) of a process that generates the built-in model's default image.

A failing test prints the new figure. It does not depend on the number of threads (one or two) or of steps, and is the
same within 2% if limited to AVX2. Measured on x86-64 with CPython 3.11 and openvino 2026.4.
"""

CLIENT = {
    "import lambdiff": {"lambdiff"},
    "import lambdiff.cli": {"lambdiff", "click"},
    "import lambdiff; lambdiff.Client, lambdiff.generate": {"lambdiff", "msgspec"},
}
"""Packages that the client loads, by the code that is run."""
FUNCTION_BEFORE = {"lambdiff", "msgspec"}
FUNCTION_AFTER = FUNCTION_BEFORE | {"numpy", "openvino", "tokenizers", "PIL"}
"""Packages that the function has loaded before its first request and after its first image."""
TOLERATED = {"typing_extensions", "packaging", "defusedxml"}
"""Loaded by msgspec, by OpenVINO's converter and by Pillow if installed. An endpoint's function needs none of them."""

MODULES = """
import json, sys
def packages():
    loaded = {name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__spec__", None)}
    return sorted(loaded - set(sys.stdlib_module_names) - before)
before = set()
before = set(packages())
"""
IMAGE = """
body = json.dumps({"prompt": "a red apple", "num_inference_steps": 1})
event = {"rawPath": "/", "headers": {}, "requestContext": {"http": {"method": "POST"}}, "body": body}
reply = lambdiff.handler.function.handler(event, None)
assert reply["statusCode"] == 200, reply
"""
PEAK = """
import json, re
from pathlib import Path
from lambdiff.protocol.contract import GenerateRequest
from lambdiff.engine.factory import open_engine
from lambdiff.local import builtin
engine = open_engine(builtin.builtin_model_dir())
engine.generate(GenerateRequest(prompt="a red apple", seed=1).resolve(engine.manifest.defaults))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(int(peak) * 1024 / 1e6)
"""


def fresh(code: str, **environment: str) -> Any:
    """Run code in a new interpreter, and return the last line it prints, parsed as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    """The built-in model's manifest without approximations, with which batch sizes would depend on the step."""
    return msgspec.structs.replace(manifests.read(builtin.builtin_model_dir()), approximations=Approximations())


@pytest.fixture(scope="module")
def all_calls() -> ObservedCalls:
    """Every inference of `engine`."""
    return ObservedCalls()


@pytest.fixture(scope="module")
def engine(manifest: Manifest, all_calls: ObservedCalls) -> OpenVinoEngine:
    """An engine that is shared by all tests that only count its inferences."""
    return OpenVinoEngine(builtin.builtin_model_dir(), manifest, observe=all_calls.record)


@pytest.fixture
def calls(all_calls: ObservedCalls) -> ObservedCalls:
    """The inferences of `engine` during the test, each with its batch size."""
    all_calls.clear()
    return all_calls


def request_with(manifest: Manifest, **fields: Any) -> Generation:
    """Return a request with three steps and the model's defaults."""
    return GenerateRequest(**{"prompt": "a red apple", "num_inference_steps": 3} | fields).resolve(manifest.defaults)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0], ids=["unguided", "guided"])
@pytest.mark.parametrize("scheduler", get_args(SchedulerName))
def test_each_step_is_one_unet_call(
    engine: OpenVinoEngine, calls: ObservedCalls, scheduler: str, guidance_scale: float
) -> None:
    """Each step is one UNet call, with two samples if guided, and the decoder runs once.

    PNDM has one more call, and Heun two for each step but the last.
    """
    engine.generate(request_with(engine.manifest, scheduler=scheduler, guidance_scale=guidance_scale))
    guided = guidance_scale > 1 and not engine.manifest.guidance_embedding
    assert [call for call in calls if call[0] != "text_encoder"] == [
        *[("unet", 2 if guided else 1)] * {"pndm": 4, "heun": 5}.get(scheduler, 3),
        ("decoder", 1),
    ]


def test_prompts_are_encoded_once(manifest: Manifest) -> None:
    """A prompt is encoded at its first request only, and the empty negative prompt once for all requests."""
    calls = ObservedCalls()
    engine = OpenVinoEngine(builtin.builtin_model_dir(), manifest, observe=calls.record)
    encoded = []
    for prompt in ("a red apple", "a red apple", "a blue bird"):
        engine.generate(request_with(manifest, prompt=prompt, guidance_scale=4.0, num_inference_steps=1))
        encoded.append(calls.count(("text_encoder", 1)))
        calls.clear()
    assert encoded == [1 if manifest.guidance_embedding else 2, 0, 1]


@pytest.fixture
def opened() -> Iterator[OpenedFiles]:
    """Counts how often the built-in model's files are opened."""
    with OpenedFiles(builtin.builtin_model_dir()) as files:
        yield files


@pytest.mark.linux
def test_files_are_opened_once(opened: OpenedFiles) -> None:
    """Loading opens each file once and maps weights instead of reading them; generating opens nothing."""
    folder = builtin.builtin_model_dir()
    manifest = manifests.read(folder)
    assert opened.take() == {"manifest.json": 1}
    engine = OpenVinoEngine(folder, msgspec.structs.replace(manifest, approximations=Approximations()))
    before = bytes_read()
    engine.load()
    read = bytes_read() - before
    parts = ("unet", "decoder", "text_encoder")
    expected = {"tokenizer.json": 1} | {f"{part}.{kind}": 1 for part in parts for kind in ("xml", "bin")}
    assert opened.take() == expected
    needed = sum((folder / name).stat().st_size for name in expected if not name.endswith(".bin"))
    assert needed <= read < needed + 100_000, f"{read:,} bytes read, {needed:,} needed"
    for _ in range(2):
        engine.generate(request_with(engine.manifest, num_inference_steps=1))
    assert opened.take() == {}


def bytes_read() -> int:
    """Return the bytes that this process has read from files, not counting mapped ones."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("code", CLIENT)
def test_the_client_loads_few_packages(code: str) -> None:
    """Before its first request, the client has loaded exactly the packages in CLIENT."""
    loaded = fresh(f"{MODULES}{code}\nprint(json.dumps(packages()))")
    assert set(loaded) - TOLERATED == CLIENT[code]


def test_the_function_loads_few_packages() -> None:
    """The function has loaded exactly FUNCTION_BEFORE after its import, and FUNCTION_AFTER after its first image."""
    code = f"{MODULES}import lambdiff.handler.function\nfirst = packages()\n{IMAGE}"
    code += "print(json.dumps([first, packages()]))"
    before, after = fresh(code, LAMBDIFF_MODEL_DIR=str(builtin.builtin_model_dir()))
    assert set(before) - TOLERATED == FUNCTION_BEFORE
    assert set(after) - TOLERATED == FUNCTION_AFTER


@pytest.mark.linux
@pytest.mark.x86_64
def test_peak_memory_is_as_recorded() -> None:
    """Peak memory is within 10% of PEAK_MB and below 500 MB."""
    peak = fresh(PEAK)
    assert peak == pytest.approx(PEAK_MB, rel=0.1), f"now {peak:.0f} MB"
    assert peak < 500

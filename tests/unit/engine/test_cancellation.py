"""Cancelling an engine in the middle of native code (engine/cancellation.py)."""

from __future__ import annotations

import _thread
import threading
import time
from pathlib import Path

import numpy as np
import openvino
import pytest

from lambdiff.client.client import Client
from lambdiff.engine import cancellation, runtime
from lambdiff.engine.runtime import Part, Runtime, Shape
from lambdiff.errors import Cancelled

SIZE = Shape(1, 256, 256)
LAYERS = 200


class Countdown:
    """A condition that holds after it has been checked a number of times."""

    def __init__(self, checks: int) -> None:
        self.left = checks

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one part, `slow`: many layers, each of which is quick."""
    folder = tmp_path_factory.mktemp("slow")
    parameter = openvino.opset15.parameter([-1, 16, -1, -1], np.float32)
    parameter.output(0).get_tensor().set_names({"latents"})
    weights = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32) / 12
    node = parameter
    for _ in range(LAYERS):
        node = openvino.opset15.convolution(node, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    openvino.save_model(openvino.Model([node], [parameter], "slow"), folder / "slow.xml", compress_to_fp16=False)
    return folder


@pytest.fixture(scope="module")
def slow(folder: Path) -> Runtime:
    """The model, loaded."""
    loaded = Runtime(folder, precision="f32", threads=1)
    loaded.load([Part("slow")], {"slow": [SIZE]}, is_static=lambda *_: True)
    return loaded


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check conditions as often as possible."""
    monkeypatch.setattr(cancellation, "INTERVAL_S", 0.001)
    monkeypatch.setattr(runtime, "_INTERVAL_MS", 1)


def infer(slow: Runtime) -> np.ndarray:
    """Run the model."""
    (output,) = slow.serve("slow", [SIZE])({"latents": np.ones((1, 16, 256, 256), np.float32)})
    return output


@pytest.mark.engine
def test_an_inference_is_cancelled_in_the_middle(slow: Runtime) -> None:
    """A condition ends an inference long before it would be complete, and the next inference is right."""
    expected = infer(slow)
    started = time.perf_counter()
    infer(slow)
    complete = time.perf_counter() - started
    for checks in (0, 1, 5):
        started = time.perf_counter()
        with pytest.raises(Cancelled), cancellation.cancelled_if(Countdown(checks)):
            infer(slow)
        assert time.perf_counter() - started < complete / 2
        assert np.array_equal(infer(slow), expected)


@pytest.mark.engine
def test_ctrl_c_cancels_an_inference(slow: Runtime, default_signal_handlers: None) -> None:
    """Ctrl-C raises KeyboardInterrupt in the middle of an inference, and the next inference is right."""
    expected = infer(slow)

    def interrupt() -> bool:
        _thread.interrupt_main()
        return False

    with pytest.raises(KeyboardInterrupt), cancellation.cancelled_if(interrupt):
        infer(slow)
    assert np.array_equal(infer(slow), expected)


@pytest.mark.engine
def test_loading_is_not_waited_for(folder: Path) -> None:
    """A condition ends the wait for a compilation, unless it does not apply to loading."""
    for while_loading in (True, False):
        loaded = Runtime(folder, precision="f32", threads=1)
        with cancellation.cancelled_if(lambda: True, while_loading=while_loading):
            try:
                loaded.load([Part("slow")], {"slow": [SIZE]}, is_static=lambda *_: True)
            except Cancelled:
                assert while_loading
            else:
                assert not while_loading
        assert bool(loaded.graphs) == (not while_loading)


def test_conditions_apply_to_their_block_and_thread_only() -> None:
    """An outer condition applies inside an inner block; none applies after its block or on another thread."""
    cancellation.check()
    with cancellation.cancelled_if(lambda: True):
        with cancellation.cancelled_if(lambda: False), pytest.raises(Cancelled):
            cancellation.check()
        other = threading.Thread(target=cancellation.check)
        other.start()
        other.join()
    cancellation.check()


@pytest.mark.engine
def test_a_batch_is_cancelled_in_the_middle_of_a_step() -> None:
    """An exception in `on_result` ends the other requests of a batch, those in progress and those that wait."""
    with Client(local=True) as client:
        client.generate("a cat", num_inference_steps=1)
        before = threading.active_count()
        with pytest.raises(ZeroDivisionError):
            client.generate_many(
                [{"prompt": "a", "num_inference_steps": 1}, *[{"prompt": "b", "num_inference_steps": 100}] * 7],
                on_result=lambda *_: 1 / 0,
            )
        deadline = time.monotonic() + 5  # seven images would take longer
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() <= before

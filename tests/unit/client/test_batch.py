"""`Client.generate_many` with the real handler and the stub engine (client/batch.py)."""

from __future__ import annotations

import threading

import pytest

import lambdiff
from lambdiff.client.batch import Failure
from lambdiff.client.client import Client
from lambdiff.errors import InvalidRequest
from support.stub_engine import StubEngine


def test_a_batch_keeps_its_order_and_its_parameters(client: Client) -> None:
    """Prompts and mappings may be mixed; shared parameters apply unless a mapping overrides them."""
    batch = client.generate_many(["a", {"prompt": "b", "seed": 5}, "c"], seed=1, image_format="webp")
    assert [(image.parameters.prompt, image.seed) for image in batch.images] == [("a", 1), ("b", 5), ("c", 1)]
    assert {image.format for image in batch.images} == {"webp"}
    assert len(batch) == 3


def test_none_in_a_mapping_means_the_models_default(client: Client) -> None:
    """None in a mapping replaces a shared parameter by the model's default."""
    batch = client.generate_many([{"prompt": "a", "num_inference_steps": None}, "b"], num_inference_steps=9)
    assert [image.parameters.num_inference_steps for image in batch.images] == [2, 9]


def test_a_batch_is_validated_before_the_first_request(client: Client, engine: StubEngine) -> None:
    """If one request is invalid, the batch is refused before anything is generated."""
    with pytest.raises(InvalidRequest):
        client.generate_many(["a", "b", ""])
    assert engine.calls == 0


def test_a_failure_does_not_affect_the_rest_of_a_batch(client: Client) -> None:
    """A refused request becomes a `Failure` in its place, whose request can be corrected and sent again."""
    batch = client.generate_many(["a", {"prompt": "b", "width": 1024}, "c"])
    assert [type(result) for result in batch] == [lambdiff.GeneratedImage, Failure, lambdiff.GeneratedImage]
    (failure,) = batch.failures
    assert (failure.index, failure.error.exit_code) == (1, 4)
    assert failure.request["prompt"] == "b"
    assert len(client.generate_many([{**failure.request, "width": 64}]).images) == 1


def test_an_exception_in_a_callback_is_raised_and_leaves_no_thread(client: Client) -> None:
    """An exception in `on_result` is raised to the caller, and the worker threads end."""
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        client.generate_many(["a"] * 20, max_workers=2, on_result=lambda *_: 1 / 0)
    for thread in threading.enumerate():
        if thread.daemon and thread.name.startswith("Thread-"):
            thread.join(5)
    assert threading.active_count() <= before

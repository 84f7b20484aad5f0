"""`Client.generate_many` with the real handler and the stub engine (client/batch.py)."""

from __future__ import annotations

import base64
import io
import re
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lambdiff
from lambdiff.client.batch import Batch, Failure
from lambdiff.client.client import Client
from lambdiff.errors import EndpointFailed, InvalidRequest
from support.stub_engine import StubEngine
from support.stub_transport import StubTransport


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
    before = threading.enumerate()
    with pytest.raises(ZeroDivisionError):
        client.generate_many(["a"] * 20, max_workers=2, on_result=lambda *_: 1 / 0)
    started = [thread for thread in threading.enumerate() if thread not in before]
    for thread in started:
        thread.join(20)
    assert not [thread for thread in started if thread.is_alive()]


def test_n_images_of_each_prompt_have_consecutive_seeds(client: Client) -> None:
    """`n=` counts up from `seed=`, from the mapping's seed or from a random one; 0 follows the largest seed."""
    batch = client.generate_many(["a", {"prompt": "b", "seed": 2**32 - 1}], n=3, seed=np.int64(7))
    assert [image.seed for image in batch.images] == [7, 8, 9, 2**32 - 1, 0, 1]
    assert [image.parameters.prompt for image in batch.images] == list("aaabbb")
    first, second, third = (image.seed for image in client.generate_many(["a"], n=3).images)
    assert ((second - first) % 2**32, (third - first) % 2**32) == (1, 2)
    assert [image.seed for image in client.generate_many(["a"] * 2, seed=7).images] == [7, 7]


@pytest.mark.parametrize(
    ("prompts", "kind"),
    [("a cat", "text"), (np.str_("a cat"), "text"), ({"prompt": "a"}, "dict"), (b"a", "bytes"), (5, "int"),
     (None, "NoneType")],
)  # fmt: skip
def test_a_single_prompt_is_not_a_list(client: Client, engine: StubEngine, prompts: Any, kind: str) -> None:
    """A lone string is refused instead of being read letter by letter; the fix shows the list and `n=`."""
    with pytest.raises(InvalidRequest) as caught:
        client.generate_many(prompts)
    assert caught.value.message == f"`prompts=` must be a list of prompts, not {kind}."
    assert 'generate_many(["a cat"])' in caught.value.fix
    assert "`n=4`" in caught.value.fix
    assert engine.calls == 0


@pytest.mark.parametrize("prompts", [("a", "b"), iter("ab"), np.array(["a", "b"]), {"a": 1, "b": 2}.keys()])
def test_any_iterable_is_a_list(client: Client, prompts: Any) -> None:
    """Tuples, generators and arrays of prompts are accepted."""
    assert len(client.generate_many(prompts).images) == 2


@pytest.mark.parametrize(
    ("prompts", "shared", "message"),
    [
        (["a", " "], {}, "prompts[1]: `prompt=` is blank."),
        (["a", 5], {}, "prompts[1]: `prompt=` must be text or a mapping, not int."),
        ([{"seed": 1}], {}, "prompts[0]: `prompt=` is required."),
        (["a", {"prompt": "b", "width": 3, "steps": 1}], {}, "prompts[1]: `width=` must be a multiple of 8 in "
         "64..1024, not 3; `steps=` is not a parameter; did you mean num_inference_steps?"),
        ([""] * 9, {}, "prompts[0]: `prompt=` must have 1..2000 characters, not 0; prompts[1]: `prompt=` must have "
         "1..2000 characters, not 0; prompts[2]: `prompt=` must have 1..2000 characters, not 0; and 6 more prompts."),
        (["a"] * 9, {"seed": -1}, "`seed=` must be a whole number in 0..4294967295, not -1."),
        (["a"], {"n": 0}, "`n=` must be a whole number in 1..10000, not 0."),
        (["a"], {"n": 10**9}, "`n=` must be a whole number in 1..10000, not 1000000000."),
        (["a"], {"n": "4"}, "`n=` must be a whole number in 1..10000, not '4'."),
        (["a"], {"n": True}, "`n=` must be a whole number in 1..10000, not True."),
        (["a"], {"max_workers": 0}, "`max_workers=` must be a whole number of at least 1, not 0."),
    ],
)  # fmt: skip
def test_a_bad_prompt_is_named_by_its_index(
    client: Client, engine: StubEngine, prompts: Any, shared: dict[str, Any], message: str
) -> None:
    """The message and `problems` name the index of a bad prompt; a bad shared parameter has none."""
    with pytest.raises(InvalidRequest) as caught:
        client.generate_many(prompts, **shared)
    assert caught.value.message == message
    assert caught.value.problems
    assert message.lstrip("`").startswith(caught.value.problems[0][0].partition(".")[0])
    assert engine.calls == 0


def test_a_batch_is_a_sequence(client: Client) -> None:
    """Results have indexes, also from the end, and slices are batches."""
    batch = client.generate_many(["a", {"prompt": "b", "width": 1024}, "c"], seed=1)
    assert batch[0] is batch.results[0]
    assert batch[-1] is batch.images[-1]
    assert isinstance(batch[1:], Batch)
    assert len(batch[1:].failures) == 1
    assert batch[np.int64(1)] in batch
    assert list(reversed(batch)) == batch.results[::-1]
    with pytest.raises(IndexError):
        batch[3]
    assert not client.generate_many([])


def test_a_batch_describes_itself(client: Client) -> None:
    """`repr` counts images and failures, gives the first reasons, and contains no prompt."""
    good, bad = "a secret cat", {"prompt": "a secret dog", "width": 1024}
    assert repr(client.generate_many([good])) == "<Batch: 1 image>"
    assert repr(client.generate_many([])) == "<Batch: 0 images>"
    text = repr(client.generate_many([good, good, *[bad] * 5]))
    assert text.startswith("<Batch: 2 images, 5 failures (2: The endpoint refused the request (422): `width=` must be")
    assert text.endswith("; ...)>")
    assert "secret" not in text


def test_a_notebook_shows_a_batch_as_a_grid(client: Client) -> None:
    """The grid has each image, scaled down, with its seed, and the reasons of failures; it runs no markup of others."""
    batch = client.generate_many(["a", {"prompt": "b", "width": 1024}], seed=7)
    evil = Failure(2, {"prompt": "a"}, EndpointFailed("<script>alert(1)</script>\x1b[2J", status=500))
    html = Batch([*batch, evil])._repr_html_()
    assert html.count("<img ") == 1
    assert "0: seed 7<br>a warning with ünïcode" in html
    assert "1: failed<br>The endpoint refused the request (422): `width=` must be 64..512" in html
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    assert "\x1b" not in html
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (64, 64)


def test_a_grid_of_a_thousand_images_is_bounded(client: Client) -> None:
    """A grid shows the first images and says how to see more; even noisy images keep it below 1.5 MB."""
    noisy = StubEngine(noise=(512, 512))
    image = Client(transport=StubTransport(noisy)).generate("a")
    html = Batch([image] * 1000)._repr_html_()
    assert html.count("<img ") == 60
    assert "and 940 more: display batch[60:]" in html
    assert len(html) < 1_500_000

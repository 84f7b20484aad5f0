"""The handler with hostile events and bodies, from a corpus and from Hypothesis.

Each gets a 4xx problem document that names the field, in little processor time and without loading the model. The next
good request works.
"""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdiff.handler.app import App
from lambdiff.protocol import contract
from support.hostile_corpus import FIELDS, corpus, encoded, event, pictures
from support.stub_engine import WITH_PICTURES, StubEngine

CORPUS = dict(corpus())


def processor_seconds(work: Callable[[], object]) -> float:
    """Return the least processor time of three runs: other processes share the caches, and may change the clock."""
    seconds = []
    for _ in range(3):
        started = time.thread_time()
        work()
        seconds.append(time.thread_time() - started)
    return min(seconds)


def check(reply: dict[str, Any]) -> dict[str, Any]:
    """Return a reply's problem document, after checking its 4xx status and its headers."""
    document: dict[str, Any] = json.loads(reply["body"])
    assert 400 <= reply["statusCode"] < 500, document
    assert document["status"] == reply["statusCode"]
    assert document["type"].startswith("urn:lambdiff:problem:")
    assert reply["headers"]["content-type"] == "application/problem+json"
    assert len(reply["body"]) < 16_000
    for name, value in reply["headers"].items():
        assert (name + value).isascii()
        assert (name + value).isprintable()
    return document


def test_the_corpus_is_large_enough() -> None:
    """The corpus contains at least 300 different cases."""
    assert len(CORPUS) >= 300


def test_every_case_of_the_corpus_is_refused() -> None:
    """Each gets a 4xx that names what is wrong, quickly and without loading the model; then a good request works."""
    refuse_all(StubEngine(), CORPUS)


def test_every_bad_picture_is_refused() -> None:
    """The same holds for bad pictures, at an endpoint whose model takes some, and for the other cases there."""
    engine = StubEngine(manifest=WITH_PICTURES)
    cases = dict(pictures()) | {name: CORPUS[name] for name in [*CORPUS][::5]}
    refuse_all(engine, cases, share=4)  # bodies have up to 6 MB


def refuse_all(engine: StubEngine, cases: dict[str, Any], share: float = 1.0) -> None:
    """Send all cases, each of which may take `share` times as long as some other work, and then a good request."""
    app = App(lambda: engine)
    wrong = []
    numbers = list(range(500_000))
    bound = share * processor_seconds(lambda: json.dumps(numbers))  # 0.1 s where a refusal takes at most 0.015 s
    for name, hostile in cases.items():
        try:
            document = check(app.invoke(hostile))
            assert processor_seconds(lambda hostile=hostile: app.invoke(hostile)) < bound
            if document["status"] == 422:
                assert document["errors"]
        except AssertionError as error:
            wrong.append(f"{name}: {str(error)[:300]}")
    assert not wrong, "\n".join(wrong)
    assert (engine.loads, engine.calls) == (0, 0)
    assert app.invoke(event())["statusCode"] == 200


@pytest.mark.parametrize("name", FIELDS)
def test_the_field_is_named(name: str) -> None:
    """A value of the wrong type is reported for its own field only."""
    reply = App(StubEngine).invoke(event(json.dumps({"prompt": "a cat", name: {"a": 1}})))
    assert [error["field"] for error in json.loads(reply["body"])["errors"]] == [name]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=10), JSON_VALUES, max_size=8))
@settings(max_examples=400, deadline=None)
def test_any_object_gets_an_image_or_a_4xx(fields: dict[str, Any]) -> None:
    """A body that is a JSON object gets an image or a 4xx, but never a 5xx."""
    engine = StubEngine()
    reply = App(lambda: engine).invoke(event(json.dumps(fields)))
    if reply["statusCode"] == 200:
        assert isinstance(fields["prompt"], str)
        assert engine.calls == 1
    else:
        check(reply)
        assert engine.loads == 0


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_get_a_4xx(body: bytes) -> None:
    """A body of random bytes gets a 4xx and does not load the model."""
    engine = StubEngine()
    check(App(lambda: engine).invoke(encoded(body)))
    assert engine.loads == 0


@pytest.mark.slow
@given(
    st.dictionaries(
        st.sampled_from(["version", "rawPath", "headers", "requestContext", "body", "isBase64Encoded"])
        | st.text(max_size=5),
        JSON_VALUES | st.fixed_dictionaries({"http": JSON_VALUES | st.fixed_dictionaries({"method": JSON_VALUES})}),
    )
    | JSON_VALUES
)
@settings(max_examples=400, deadline=None)
def test_any_event_gets_a_reply(hostile: Any) -> None:
    """Any JSON value as an event gets a 200 or a 4xx."""
    reply = App(StubEngine).invoke(hostile)
    if reply["statusCode"] != 200:
        check(reply)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200))
@settings(max_examples=100, deadline=None)
def test_a_prompt_cannot_inject_headers(prompt: str) -> None:
    """Headers are printable ASCII whatever the prompt contains, even if a warning quotes it."""
    app = App(lambda: StubEngine(warnings=(f"ignored: {prompt}",)))
    reply = app.invoke(event(json.dumps({"prompt": f"{prompt}\r\nx-evil: 1"})))
    assert reply["statusCode"] == 200
    for name, value in reply["headers"].items():
        assert name.islower()
        assert value.isascii()
        assert value.replace("\x7f", "").isprintable()
    assert "x-evil" not in reply["headers"]


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("character", ["x", "ä", "😀", "\n", '"', "\\", "\x01"])
def test_prompts_of_maximum_length_work(field: str, character: str) -> None:
    """A prompt of 2,000 characters of any kind gets an image, as plain or as escaped JSON; a longer one gets a 422."""
    fields = {"prompt": "a", field: "a" + character * (contract.MAX_PROMPT - 1)}
    for ascii_only in (True, False):
        reply = App(StubEngine).invoke(event(json.dumps(fields, ensure_ascii=ascii_only)))
        assert reply["statusCode"] == 200
    assert App(StubEngine).invoke(event(json.dumps({**fields, field: "b" + fields[field]})))["statusCode"] == 422


@pytest.mark.slow
def test_memory_does_not_grow() -> None:
    """After 2,000 hostile requests the process uses no more memory than after the first 500."""
    app = App(StubEngine)
    cases = [hostile for hostile in CORPUS.values() if len(str(hostile)) < 100_000]

    def send(count: int) -> None:
        for index in range(count):
            app.invoke(cases[index % len(cases)])
        gc.collect()

    tracemalloc.start()
    send(500)
    before = tracemalloc.get_traced_memory()[0]
    send(1_500)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000

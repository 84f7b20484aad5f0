"""The batch function's work (handler/batch_worker.py), with a stub engine and a store in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from obstore.store import MemoryStore

from lambdiff.handler.app import App
from lambdiff.handler.batch_worker import BatchWorker, GenerationFailed, ItemRefused
from lambdiff.handler.claims import ImageClaimed, acquire
from lambdiff.local import builtin
from lambdiff.protocol.batch_layout import BatchRecord, image_name, parse_record_name
from lambdiff.protocol.contract import GenerateRequest
from lambdiff.protocol.http import HttpRequest
from lambdiff.protocol.request_key import request_key
from support.stub_engine import MANIFEST, StubEngine

PROMPT = "a very secret cat"


@dataclass
class Context:
    """What Lambda passes to a handler."""

    aws_request_id: str = "call-1"
    left_s: float = 60.0

    def get_remaining_time_in_millis(self) -> int:
        return int(self.left_s * 1000)


def make_event(prompt: str = PROMPT, seed: int = 7, *, model: str = MANIFEST.digest, **fields: Any) -> dict[str, Any]:
    """Return an event for a complete request, with its key at a model."""
    request = GenerateRequest(prompt=prompt, seed=seed, **fields)
    generation = request.resolve(MANIFEST.defaults)
    complete = {name: getattr(generation, name) for name in generation.__struct_fields__}
    complete = {name: value for name, value in complete.items() if value is not None}
    return {"run": "run-1", "item": {"key": request_key(generation, model), "request": complete}}


class Bench:
    """A worker, its bucket and what it logs."""

    def __init__(self, engine: StubEngine | None = None, store: MemoryStore | None = None) -> None:
        self.engine = engine or StubEngine()
        self.store = store or MemoryStore()
        self.log: list[dict[str, Any]] = []
        self.now = 1_000_000.0
        self.worker = BatchWorker(
            App(lambda: self.engine, write_log=self.log.append), lambda: self.store, write_log=self.log.append,
            clock=lambda: self.now,
        )  # fmt: skip

    @property
    def names(self) -> list[str]:
        return sorted(each["path"] for batch in self.store.list() for each in batch)

    def records(self) -> list[BatchRecord]:
        names = [name for name in self.names if "/records/" in name]
        return [msgspec.json.decode(bytes(self.store.get(name).bytes()), type=BatchRecord) for name in names]


def test_an_image_is_generated_once() -> None:
    """The first call generates and keeps the same bytes as the App alone; the second finds them and loads nothing."""
    bench, event = Bench(StubEngine(warnings=("cut",))), make_event()
    done = bench.worker(event, Context())
    assert (done["outcome"], done["key"]) == ("generated", event["item"]["key"])
    alone = App(StubEngine).handle(HttpRequest(method="POST", body=msgspec.json.encode(event["item"]["request"])))
    stored = bench.store.get(image_name(done["key"], "png"))
    assert bytes(stored.bytes()) == alone.body
    assert stored.attributes["Content-Type"] == "image/png"
    other = Bench(store=bench.store)
    assert other.worker(event, Context("call-2"))["outcome"] == "present"
    assert (bench.engine.calls, other.engine.calls, other.engine.loads) == (1, 0, 0)
    first, second = sorted(bench.records(), key=lambda each: each.outcome)
    assert (first.outcome, first.warnings, first.request_id) == ("generated", ["cut"], "call-1")
    assert (second.outcome, second.request_id) == ("present", "call-2")


def test_a_claimed_image_is_left_to_its_owner() -> None:
    """Nothing is generated while another execution holds the claim; afterwards it is taken over."""
    bench, event = Bench(), make_event()
    acquire(bench.store, event["item"]["key"], "other", 60, clock=lambda: bench.now)
    with pytest.raises(ImageClaimed):
        bench.worker(event, Context())
    assert (bench.engine.loads, bench.records()[0].outcome) == (0, "claimed")
    bench.now += 1000
    assert bench.worker(event, Context())["outcome"] == "generated"


def test_an_image_of_an_expired_claim_is_found() -> None:
    """If the owner of an expired claim finished between the look and the takeover, nothing is generated."""
    event = make_event()
    name = image_name(event["item"]["key"], "png")

    class Late(MemoryStore):
        looks = 0

        def head(self, path: str) -> Any:
            Late.looks += 1
            if Late.looks == 2:
                self.put(name, b"theirs")
            return super().head(path)

    bench = Bench(store=Late())
    acquire(bench.store, event["item"]["key"], "other", 1, clock=lambda: 0.0)
    assert bench.worker(event, Context())["outcome"] == "present"
    assert bench.engine.calls == 0


def test_an_image_is_never_overwritten() -> None:
    """If another execution was faster after all, its image stays, and the record says so."""
    bench, event = Bench(), make_event()
    name = image_name(event["item"]["key"], "png")
    bench.engine.before_step = lambda: bench.store.put(name, b"theirs")
    assert bench.worker(event, Context())["outcome"] == "generated"
    assert bytes(bench.store.get(name).bytes()) == b"theirs"
    assert bench.records()[0].problem == "already-there"


@pytest.mark.parametrize(
    ("event", "problem", "fields"),
    [
        (make_event(model="f" * 64), "wrong-key", []),
        ({"run": "run-1", "item": {"key": "0" * 64, "request": {"prompt": PROMPT}}}, "wrong-key", []),
        ({"run": "run-1", "item": {"key": "0" * 64, "request": {"prompt": PROMPT, "seed": -1}}}, "invalid-value",
         ["seed"]),
        ({"run": "run-1", "item": {"key": "0" * 64, "request": {PROMPT: PROMPT}}}, "invalid-value", ["?", "prompt"]),
        (make_event(width=1024), "invalid-value", ["width"]),
    ],
    ids=["other-model", "incomplete", "bad-value", "unknown-field", "beyond-the-model"],
)  # fmt: skip
def test_a_wrong_item_is_refused_before_anything_is_generated(
    event: dict[str, Any], problem: str, fields: list[str]
) -> None:
    """It leaves a record, no claim, and no word of the prompt in the log or in the error."""
    bench = Bench()
    with pytest.raises(ItemRefused) as caught:
        bench.worker(event, Context())
    (record,) = bench.records()
    assert (record.outcome, record.problem, record.fields) == ("refused", problem, fields)
    assert bench.names == [f"runs/run-1/records/{record.key}.refused.0"]
    assert (bench.engine.loads, PROMPT in str(caught.value) + str(bench.log)) == (0, False)


@pytest.mark.parametrize("event", [None, [], {}, {"run": "A/..", "item": {}}, {"run": "a", "item": {"key": "x"}}])
def test_an_event_of_another_kind_is_refused(event: object) -> None:
    """Only the state machine's events are accepted; names in them cannot leave the run's folder."""
    bench = Bench()
    with pytest.raises(ItemRefused):
        bench.worker(event, Context())
    assert bench.names == []


def test_a_failure_can_be_repeated_at_once() -> None:
    """An engine that fails leaves a record and an expired claim; no word of the prompt gets out."""
    bench, event = Bench(StubEngine(error=RuntimeError(PROMPT))), make_event()
    with pytest.raises(GenerationFailed) as caught:
        bench.worker(event, Context())
    assert bench.records()[0].problem == "internal-error"
    assert PROMPT not in str(caught.value) + str(bench.log)
    assert Bench(store=bench.store).worker(event, Context())["outcome"] == "generated"


def test_a_call_without_time_ends_before_lambda_kills_it() -> None:
    """The generation is cancelled between steps, and the claim released."""
    bench, event = Bench(StubEngine(step_seconds=0.2)), make_event(num_inference_steps=50)
    with pytest.raises(GenerationFailed, match="timed-out"):
        bench.worker(event, Context(left_s=0.5))
    assert bench.engine.steps < 50


def test_the_log_counts_generations_but_has_no_prompt() -> None:
    """One line for each item, with its key, its outcome and its seconds."""
    bench = Bench()
    for _ in range(2):
        bench.worker(make_event(), Context())
    lines = [entry for entry in bench.log if "outcome" in entry]
    assert [entry["outcome"] for entry in lines] == ["generated", "present"]
    assert PROMPT not in str(bench.log)


def test_the_first_record_includes_the_start_of_the_environment() -> None:
    """Lambda bills it, and the records are what a run's cost is summed up from."""
    bench = Bench()
    worker = BatchWorker(App(StubEngine), lambda: bench.store, clock=lambda: bench.now, started=bench.now - 3)
    assert worker(make_event(), Context())["seconds"] == 3
    assert worker(make_event(seed=8), Context())["seconds"] == 0
    assert {parse_record_name(name)[2] for name in bench.names if "/records/" in name} == {3.0, 0.0}


def test_the_entry_point_loads_nothing() -> None:
    """Importing it starts the prefetch, but opens neither the engine nor the bucket."""
    program = (
        "import sys; from lambdiff.handler import prefetch; prefetch.start = lambda folder: print(folder)\n"
        "import lambdiff.handler.batch\nprint('obstore' in sys.modules, 'openvino' in sys.modules)"
    )
    model = str(builtin.builtin_model_dir())
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"LAMBDIFF_MODEL_DIR": model}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{model}\nFalse False\n"

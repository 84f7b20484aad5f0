"""A run: what it does with each kind of failure, and how it is followed and cancelled."""

from __future__ import annotations

import threading

import pytest

from lambdiff.batches.items import ItemReader
from lambdiff.batches.results_folder import ResultsFolder
from lambdiff.batches.run import BatchRun
from lambdiff.client.client import Client
from lambdiff.errors import AccessDenied, Cancelled, ConfigurationError, OutputError, Throttled
from lambdiff.handler.app import App
from lambdiff.protocol.http import HttpRequest, HttpResponse
from support.stub_engine import StubEngine


class Endpoint:
    """A transport that answers POSTs with the next entry of a script, and then with images."""

    url = "a stub"

    def __init__(self, *script: int, engine=None):
        self.script = list(script)
        self.engine = engine or StubEngine()
        self.app = App(lambda: self.engine)
        self.closed = False
        self.lock = threading.Lock()

    def request(self, method, body=b"", on_step=None):
        with self.lock:
            status = self.script.pop(0) if method == "POST" and self.script else 0
        if status:
            return HttpResponse(status=status, headers={}, body=b"")
        headers = {"content-type": "application/json"}
        return self.app.handle(HttpRequest(method=method, headers=headers, body=body), on_step)

    def close(self):
        self.closed = True


def start(folder, endpoint, count=3, **options):
    """Start a run of some prompts."""
    client = Client(transport=endpoint)
    reader = ItemReader([{"prompt": "a", "seed": seed} for seed in range(count)], client.health())
    return BatchRun(reader, ResultsFolder(folder), client, count, **{"max_workers": 1, **options})


def test_every_image_is_made_once(tmp_path):
    """All images are there at the end, and the next run makes none."""
    endpoint = Endpoint()
    run = start(tmp_path, endpoint, max_workers=4)
    assert sorted(line.number for line in run) == [1, 2, 3]
    assert (run.finished, run.failed, run.done) == (3, 0, True)
    assert endpoint.closed
    assert repr(run) == "<BatchRun: 3 of 3>"
    again = Endpoint()
    records = start(tmp_path, again).results()
    assert [record["number"] for record in records] == [1, 2, 3]
    assert again.engine.calls == 0


@pytest.mark.parametrize("status", [500, 502, 422])
def test_a_failure_concerns_its_row_only(tmp_path, status):
    """A row that fails is recorded, the others go on, and the next run makes it."""
    run = start(tmp_path, Endpoint(status)).wait()
    assert run.failed == 1
    (error,) = [line.error for line in run.lines() if line.error]
    assert error.exit_code == (4 if status == 422 else 5)
    assert start(tmp_path, Endpoint()).wait().failed == 0
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_lost_images_are_generated_again_on_request(tmp_path):
    """With retries, a 5xx reply is followed by another request."""
    assert start(tmp_path, Endpoint(500, 502), retries=2).wait().failed == 0


def test_throttling_is_waited_for(tmp_path):
    """A request that was not accepted is sent again, without a failure."""
    endpoint = Endpoint(429, 429)
    assert start(tmp_path, endpoint).wait().failed == 0
    assert endpoint.engine.calls == 3


@pytest.mark.parametrize(("status", "error"), [(403, AccessDenied), (429, Throttled)])
def test_what_concerns_every_row_ends_the_run(tmp_path, status, error):
    """Without permission, or if the endpoint is busy for too long, the run ends with the error."""
    run = start(tmp_path, Endpoint(*[status] * 50), patience_s=0.0)
    with pytest.raises(error):
        run.wait()
    assert run.done


def test_a_folder_that_disappears_ends_the_run(tmp_path):
    """An image that cannot be written ends the run, since no other could be either."""
    folder = tmp_path / "out"
    engine = StubEngine(
        before_step=lambda: folder.exists() and [each.unlink() for each in folder.iterdir()] and folder.rmdir()
    )
    with pytest.raises(OutputError):
        start(folder, Endpoint(engine=engine)).wait()


def test_another_model_ends_the_run(tmp_path, monkeypatch):
    """If the endpoint is deployed with another model meanwhile, no image gets the key of the former one."""
    endpoint = Endpoint()
    client = Client(transport=endpoint)
    reader = ItemReader(["a"], client.health())
    reader.model = "other@r1"
    with pytest.raises(ConfigurationError, match="has another model now: stub@r1 instead of other@r1"):
        BatchRun(reader, ResultsFolder(tmp_path), client, 1, max_workers=1).wait()
    assert not list(tmp_path.glob("*.png"))


def test_cancelling_keeps_what_is_finished(tmp_path):
    """A cancelled run ends with `Cancelled`, and the next one makes the rest."""
    begun = threading.Event()
    endpoint = Endpoint(engine=StubEngine(step_seconds=0.02, before_step=begun.set))
    run = start(tmp_path, endpoint, count=50)
    begun.wait(10)
    run.cancel()
    assert run.done
    with pytest.raises(Cancelled):
        run.wait()
    made = len(list(tmp_path.glob("*.png")))
    rest = Endpoint()
    assert start(tmp_path, rest, count=50).wait().failed == 0
    assert rest.engine.calls == 50 - made


def test_equal_rows_share_one_image(tmp_path):
    """Two rows with the same request are generated once, and both have a line."""
    endpoint = Endpoint()
    client = Client(transport=endpoint)
    reader = ItemReader([{"prompt": "a", "seed": 7}] * 2, client.health())
    run = BatchRun(reader, ResultsFolder(tmp_path), client, 2, max_workers=2)
    assert [record["number"] for record in run.results()] == [1, 2]
    assert endpoint.engine.calls == 1
    assert len({record["file"] for record in run.results()}) == 1

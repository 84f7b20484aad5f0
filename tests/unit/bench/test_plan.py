"""Planning which images a benchmark generates (bench/plan.py)."""

from __future__ import annotations

from typing import Any

import pytest

from lambdiff.bench.plan import make_plan
from lambdiff.client.client import Client
from lambdiff.errors import EndpointRefused, InvalidRequest, LambdiffError
from support.recording_transport import RecordingTransport


def test_by_default_the_models_steps_and_half_of_them_are_measured(client: Client) -> None:
    """By default the plan has the model's size, with its default steps and with half of them."""
    generations = make_plan(client).generations
    assert [(each.num_inference_steps, each.width, each.height) for each in generations] == [(1, 64, 64), (2, 64, 64)]


def test_duplicates_are_measured_once(client: Client) -> None:
    """Steps and sizes given twice make one configuration."""
    assert len(make_plan(client, steps=[2, 2, 1], sizes=[(64, 64)] * 2).generations) == 2


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"steps": [4, 0]}, InvalidRequest),
        ({"sizes": [(65, 64)]}, InvalidRequest),
        ({"prompt": " "}, InvalidRequest),
        ({"sizes": [(1024, 64)]}, EndpointRefused),
        ({"scheduler": "pndm"}, EndpointRefused),
    ],
)
def test_bad_values_are_refused_before_an_image(
    client: Client, transport: RecordingTransport, wrong: dict[str, Any], kind: type[LambdiffError]
) -> None:
    """Values outside the contract or the model's limits raise the errors of `Client.generate`, before any request."""
    with pytest.raises(kind) as planned:
        make_plan(client, **wrong)
    assert planned.type is kind
    assert planned.value.fix or kind is InvalidRequest
    assert transport.requests == []

"""Valid and invalid requests, their JSON, defaults and limits (protocol/contract.py and validation.py)."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdiff.errors import InvalidRequest, MalformedRequest
from lambdiff.protocol import contract
from lambdiff.protocol.contract import Defaults, GenerateRequest, Limits, SchedulerName, SigmaSchedule

DEFAULTS = Defaults(
    num_inference_steps=20, guidance_scale=7.5, width=512, height=512, scheduler="euler", negative_prompt="blurry"
)

VALID = st.fixed_dictionaries(
    {
        "prompt": st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=2000
        ).filter(str.strip)
    },
    optional={
        "negative_prompt": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=2000),
        "num_inference_steps": st.integers(1, 100),
        "guidance_scale": st.floats(0, 30, allow_nan=False),
        "width": st.integers(8, 128).map(lambda n: n * 8),
        "height": st.integers(8, 128).map(lambda n: n * 8),
        "seed": st.integers(0, 2**32 - 1),
        "sigma_schedule": st.sampled_from(get_args(SigmaSchedule)),
        "scheduler": st.sampled_from(get_args(SchedulerName)),
        "image_format": st.sampled_from(["png", "jpeg", "webp"]),
    },
)


@given(VALID)
def test_every_valid_request_reads_back(fields: dict[str, Any]) -> None:
    """A valid request encodes and decodes to itself, and its body is within the limit."""
    request = GenerateRequest.from_fields(fields)
    body = request.to_json()
    assert GenerateRequest.from_json(body) == request
    assert len(body) <= contract.MAX_BODY
    assert len(json.dumps(fields)) <= contract.MAX_BODY


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""), ("prompt", "   "), ("prompt", "x" * 2001), ("prompt", 5), ("prompt", None), ("prompt", "a\0b"),
        ("prompt", "\ud800"), ("negative_prompt", "x" * 2001), ("num_inference_steps", 0), ("num_inference_steps", 101),
        ("num_inference_steps", 1.5), ("num_inference_steps", "4"), ("num_inference_steps", True),
        ("guidance_scale", -0.1), ("guidance_scale", 30.1), ("guidance_scale", "7"), ("guidance_scale", float("nan")),
        ("guidance_scale", float("inf")), ("width", 63), ("width", 100), ("width", 1032), ("height", 8),
        ("seed", -1), ("seed", 2**32), ("seed", 10**400), ("scheduler", "euler_a"), ("image_format", "gif"),
        ("size", 1),
    ],
)  # fmt: skip
def test_a_bad_value_is_reported(field: str, value: Any) -> None:
    """An invalid value is reported for its own field only."""
    with pytest.raises(InvalidRequest) as caught:
        GenerateRequest.from_fields({"prompt": "a cat", field: value})
    assert [name for name, _ in caught.value.problems] == [field]


def test_all_bad_fields_are_reported_at_once() -> None:
    """All invalid, missing and unknown fields of a request are reported together."""
    with pytest.raises(InvalidRequest) as caught:
        GenerateRequest.from_fields({"width": 1, "seed": -1, "steps": 4})
    assert sorted(name for name, _ in caught.value.problems) == ["prompt", "seed", "steps", "width"]


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'"a"', b"{", b'{"prompt": NaN}', b'{"seed": -Infinity}', b'{"prompt":"a","prompt":"b"}',
     b"\xff\xfe", b"[" * 60_000, b'{"seed": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_invalid_json_is_malformed(body: bytes) -> None:
    """A body that is not a valid JSON object raises `MalformedRequest`."""
    with pytest.raises(MalformedRequest):
        GenerateRequest.from_json(body)


def test_defaults_replace_missing_values_only() -> None:
    """Missing values get the model's defaults; given values are kept, including zero and the empty string."""
    generation = GenerateRequest(prompt="a", negative_prompt="", guidance_scale=0, seed=0).resolve(DEFAULTS)
    assert (generation.negative_prompt, generation.guidance_scale, generation.seed) == ("", 0.0, 0)
    assert (generation.num_inference_steps, generation.width, generation.scheduler) == (20, 512, "euler")
    assert generation.sigma_schedule == "normal"
    assert not generation.guided
    assert GenerateRequest(prompt="a").resolve(DEFAULTS).guided


def test_a_missing_seed_is_random() -> None:
    """Requests without a seed get different random seeds."""
    seeds = {GenerateRequest(prompt="a").resolve(DEFAULTS).seed for _ in range(50)}
    assert len(seeds) == 50
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_model_may_support_less_than_the_contract() -> None:
    """Sizes and schedulers that the model does not support are reported together."""
    generation = GenerateRequest(prompt="a", width=1024, height=64, scheduler="pndm").resolve(DEFAULTS)
    with pytest.raises(InvalidRequest) as caught:
        Limits(min_size=128, max_size=512, schedulers=("euler",)).check(generation)
    assert [name for name, _ in caught.value.problems] == ["width", "height", "scheduler"]
    Limits().check(generation)


def test_a_sigma_schedule_belongs_to_its_scheduler() -> None:
    """The model's spacing of noise levels is used with its own scheduler only, and refused where there are none."""
    karras = msgspec.structs.replace(DEFAULTS, sigma_schedule="karras")
    assert GenerateRequest(prompt="a").resolve(karras).sigma_schedule == "karras"
    assert GenerateRequest(prompt="a", scheduler="euler").resolve(karras).sigma_schedule == "karras"
    assert GenerateRequest(prompt="a", scheduler="ddim").resolve(karras).sigma_schedule == "normal"
    assert GenerateRequest(prompt="a", sigma_schedule="normal").resolve(karras).sigma_schedule == "normal"
    for scheduler in get_args(SchedulerName):
        generation = GenerateRequest(prompt="a", scheduler=scheduler, sigma_schedule="karras").resolve(DEFAULTS)
        if scheduler in contract.SIGMA_SCHEDULED:
            Limits().check(generation)
        else:
            with pytest.raises(InvalidRequest, match=f"must be normal with the scheduler {scheduler}"):
                Limits().check(generation)

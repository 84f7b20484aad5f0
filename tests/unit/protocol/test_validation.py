"""Values of any type become the contract's, or a message in the words of the parameter (protocol/validation.py)."""

from __future__ import annotations

import decimal
import enum
import fractions
from pathlib import PurePosixPath
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdiff.errors import InvalidRequest
from lambdiff.protocol.contract import GenerateRequest, SchedulerName


class Sampler(str, enum.Enum):  # noqa: UP042 (unlike StrEnum, its `str()` is not its value)
    """Text of another type."""

    EULER = "euler"


class Steps(enum.IntEnum):
    """A number of another type."""

    FEW = 4


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("seed", np.int64(5), 5),
        ("seed", np.uint32(2**32 - 1), 2**32 - 1),
        ("seed", np.array(5), 5),
        ("seed", np.float64(5.0), 5),
        ("width", np.uint16(128), 128),
        ("width", fractions.Fraction(128), 128),
        ("num_inference_steps", Steps.FEW, 4),
        ("num_inference_steps", decimal.Decimal(4), 4),
        ("guidance_scale", np.float32(7.5), 7.5),
        ("guidance_scale", np.float16(7.5), 7.5),
        ("guidance_scale", np.int8(7), 7.0),
        ("guidance_scale", decimal.Decimal("7.5"), 7.5),
        ("guidance_scale", fractions.Fraction(15, 2), 7.5),
        ("prompt", np.str_("a cat"), "a cat"),
        ("scheduler", Sampler.EULER, "euler"),
    ],
)
def test_numbers_and_text_of_other_libraries_are_accepted(field: str, value: Any, wanted: object) -> None:
    """A number from numpy, `decimal`, `fractions` or `enum` becomes Python's own, as JSON needs it."""
    request = GenerateRequest.from_fields({"prompt": "a cat", field: value})
    stored = getattr(request, field)
    assert stored == wanted
    assert type(stored) in (int, float, str)
    assert GenerateRequest.from_json(request.to_json()) == request


STEPS, SEED, PIXELS = "a whole number in 1..100", "a whole number in 0..4294967295", "a multiple of 8 in 64..1024"
SAMPLERS, FORMATS = "one of " + ", ".join(sorted(get_args(SchedulerName))), "one of jpeg, png, webp"


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("num_inference_steps", 101, f"must be {STEPS}, not 101"),
        ("num_inference_steps", 1.5, f"must be {STEPS}, not 1.5"),
        ("num_inference_steps", "4", f"must be {STEPS}, not '4'"),
        ("num_inference_steps", True, f"must be {STEPS}, not True"),
        ("num_inference_steps", np.True_, f"must be {STEPS}, not bool"),
        ("num_inference_steps", [4], f"must be {STEPS}, not list"),
        ("num_inference_steps", 4 + 0j, f"must be {STEPS}, not complex"),
        ("seed", -1, f"must be {SEED}, not -1"),
        pytest.param("seed", 10**5000, f"must be {SEED}, not a larger number", id="huge"),
        pytest.param("seed", -(10**5000), f"must be {SEED}, not a smaller number", id="tiny"),
        ("seed", np.array([1, 2]), f"must be {SEED}, not ndarray"),
        ("width", 100, f"must be {PIXELS}, not 100"),
        ("height", 1032, f"must be {PIXELS}, not 1032"),
        ("guidance_scale", 30.5, "must be a number in 0..30, not 30.5"),
        ("guidance_scale", float("nan"), "must be a number in 0..30, not nan"),
        ("guidance_scale", np.float32("inf"), "must be a number in 0..30, not inf"),
        ("guidance_scale", decimal.Decimal("sNaN"), "must be a number in 0..30, not Decimal"),
        ("guidance_scale", fractions.Fraction(10**400), "must be a number in 0..30, not Fraction"),
        ("scheduler", "eular", f"must be {SAMPLERS}, not 'eular'; did you mean euler?"),
        ("scheduler", "DDIM", f"must be {SAMPLERS}, not 'DDIM'; did you mean ddim?"),
        ("scheduler", "restart", f"must be {SAMPLERS}, not 'restart'"),
        ("scheduler", "a prompt in the wrong place", f"must be {SAMPLERS}, not text of 27 characters"),
        ("image_format", "jpg", f"must be {FORMATS}, not 'jpg'; did you mean jpeg?"),
        ("prompt", 5, "must be text, not 5"),
        ("prompt", None, "must be text, not null"),
        ("prompt", b"a cat", "must be text, not bytes"),
        ("prompt", PurePosixPath("cat"), "must be text, not PurePosixPath"),
        ("prompt", "x" * 2001, "must have 1..2000 characters, not 2001"),
        ("prompt", " ", "is blank"),
        ("negative_prompt", "x" * 2001, "must have 0..2000 characters, not 2001"),
        ("negative_prompt", "a\0b", "contains a NUL character"),
        ("steps", 4, "is not a parameter; did you mean num_inference_steps?"),
        ("guidance", 4, "is not a parameter; did you mean guidance_scale?"),
        ("negative", "x", "is not a parameter; did you mean negative_prompt?"),
        ("widht", 64, "is not a parameter; did you mean width?"),
    ],
)
def test_a_message_names_the_parameter_its_range_and_the_value(field: str, value: Any, detail: str) -> None:
    """Each kind of mistake is explained without a validator's vocabulary, in Python as in a problem document."""
    with pytest.raises(InvalidRequest) as caught:
        GenerateRequest.from_fields({"prompt": "a cat", field: value})
    assert caught.value.problems == [(field, detail)]
    assert caught.value.message == f"`{field}=` {detail}" + ("" if detail.endswith("?") else ".")


def test_an_unknown_parameter_that_resembles_none_gets_the_list() -> None:
    """The message lists every parameter."""
    with pytest.raises(InvalidRequest, match="is not a parameter; the parameters are prompt, negative_prompt, num_inf"):
        GenerateRequest.from_fields({"prompt": "a cat", "foo": 1})


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
    | st.decimals() | st.fractions() | st.dates() | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)  # fmt: skip


@given(st.sampled_from(["seed", "guidance_scale", "width", "scheduler", "negative_prompt"]), ANYTHING)
def test_any_object_is_accepted_or_explained(field: str, value: Any) -> None:
    """Whatever a caller passes gives a request or one short message, never another exception."""
    try:
        GenerateRequest.from_fields({"prompt": "a cat", field: value}).to_json()
    except InvalidRequest as error:
        ((name, detail),) = error.problems
        assert name == field
        assert len(detail) < 200
        assert "`" not in detail

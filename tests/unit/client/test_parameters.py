"""The generation parameters have the contract's names, types and defaults everywhere (client/parameters.py)."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

import lambdiff
from lambdiff.client.parameters import GenerationParameters, build_request
from lambdiff.client.pictures import PictureSource
from lambdiff.errors import InvalidRequest
from lambdiff.protocol.contract import GenerateRequest, SchedulerName
from lambdiff.protocol.pictures import KINDS

CONTRACT = get_type_hints(GenerateRequest) | dict.fromkeys(KINDS, PictureSource | None)
"""The request's fields with their types. Callers give pictures as they have them, and requests carry base64."""
DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(GenerateRequest)}
FUNCTIONS = [lambdiff.Client.generate, lambdiff.Client.generate_many, lambdiff.generate]
OWN = {
    "self", "return", "prompts", "n", "max_workers", "on_result", "on_step", "url", "region", "deployment", "profile",
    "local",
}  # fmt: skip
"""Parameters of the functions that are not part of a request."""


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__qualname__)
def test_signatures_agree_with_the_contract(function: Callable[..., Any]) -> None:
    """Each signature has every field of the request, with its type and default."""
    wanted = CONTRACT.keys() - ({"prompt"} if function is lambdiff.Client.generate_many else set())
    hints = get_type_hints(function)
    assert hints.keys() - OWN == wanted
    assert {name: hints[name] for name in wanted} == {name: CONTRACT[name] for name in wanted}
    parameters = inspect.signature(function).parameters
    for name in wanted - {"prompt"}:
        assert parameters[name].default == DEFAULTS[name], name
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


def test_the_typed_dict_agrees_with_the_contract() -> None:
    """`GenerationParameters` has the fields of the request, and only the prompt is required."""
    assert get_type_hints(GenerationParameters) == CONTRACT
    assert GenerationParameters.__required_keys__ == {"prompt"}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__qualname__)
def test_help_shows_every_parameter_with_its_type(function: Callable[..., Any]) -> None:
    """`help()` shows the schedulers and formats by name, not an alias or `**parameters`."""
    text = pydoc.plain(pydoc.render_doc(function))
    assert f"Literal[{', '.join(map(repr, get_args(SchedulerName)))}]" in text
    assert "Literal['normal', 'karras', 'exponential']" in text
    assert "Literal['png', 'jpeg', 'webp'] = 'png'" in text
    assert "width: int | None = None" in text.replace("Optional[int]", "int | None")
    assert "**" not in text.partition("\n\n")[2].partition("\n")[0]


def test_none_is_left_out() -> None:
    """None and an omitted parameter give the same request."""
    assert build_request(prompt="a", seed=None, scheduler=None) == build_request(prompt="a")
    with pytest.raises(InvalidRequest, match="seed"):
        build_request(prompt="a", seed=-1)

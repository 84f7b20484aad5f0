"""Untrusted JSON in, validated fields out; every problem is explained to the caller."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from lambdiff.errors import MalformedRequest


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a JSON object, more strictly than `json.loads`: no duplicate names, no NaN, no infinity.

    Raises:
        MalformedRequest: the body is not such an object.

    Example:
        >>> parse_object(b'{"prompt": "a cat"}')
        {'prompt': 'a cat'}
    """
    try:
        # The standard library's parser, because msgspec's silently drops duplicate names.
        fields = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise MalformedRequest(f"The body is not JSON: {error.msg} at character {error.pos}.") from None
    except UnicodeDecodeError:
        raise MalformedRequest("The body is not UTF-8.") from None
    except ValueError as error:
        raise MalformedRequest(f"The body is not valid: {_detail(error)}.") from None
    except RecursionError:
        raise MalformedRequest("The body is nested too deeply.") from None
    if not isinstance(fields, dict):
        raise MalformedRequest('The body must be a JSON object such as {"prompt": "a cat in a top hat"}.')
    return fields


def validate_fields(kind: type[Struct], fields: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Check each value against its field in a struct.

    Returns:
        The valid values by name, and `(name, detail)` for each bad one. Missing fields are not reported.
    """
    values: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, value in fields.items():
        if name not in known:
            problems.append((_printable(name), f"is not a field; the fields are {', '.join(known)}"))
            continue
        try:
            values[name] = msgspec.convert(_normalized(value), known[name].type)
        except (msgspec.ValidationError, _BadText) as error:
            problems.append((name, _detail(error)))
    return values, problems


class _BadText(ValueError):
    """A string that cannot be sent as UTF-8 or recorded in an image."""


def _normalized(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 4.0 is an integer in JSON Schema, and some languages only write floats
    if isinstance(value, str):
        if "\0" in value:
            raise _BadText("contains a NUL character")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise _BadText("contains a lone surrogate, which is not a character")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field occurs twice")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _detail(error: Exception) -> str:
    message = str(error)
    return message[:1].lower() + message[1:200]


def _printable(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode()[:40]

"""Untrusted JSON in, validated fields out; every problem is explained to the caller."""

from __future__ import annotations

import functools
import itertools
import json
import operator
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, get_args, get_origin

import msgspec
from msgspec import Struct

from lambdiff.errors import InvalidRequest, MalformedRequest, did_you_mean

if TYPE_CHECKING:
    from msgspec import inspect

_MAX_SHOWN = 24
"""Longer texts are not repeated in messages: they may be a prompt in the wrong place."""
_MAX_SUGGESTIONS = 20
"""How many unknown fields are compared with the known ones."""


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
    known = _types(kind)
    for name, value in fields.items():
        if name not in known:
            # Looking for similar names takes time, and nobody corrects hundreds of them.
            candidates = known if len(problems) < _MAX_SUGGESTIONS else ()
            problems.append((_printable(str(name)), _unknown(str(name), candidates)))
            continue
        try:
            values[name] = convert(value, known[name])
        except BadValue as error:
            problems.append((name, str(error)))
    return values, problems


@functools.cache
def _types(kind: type[Struct]) -> dict[str, Any]:
    """The type of each field of a struct; msgspec evaluates the annotations anew each time."""
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


class BadValue(ValueError):
    """A value does not have the required type; the text says what it must be, as in "must be 1..100, not 0"."""


def convert(value: Any, kind: Any) -> Any:
    """Return a value as an annotated type; numbers of other libraries, such as numpy's, become Python's own.

    Raises:
        BadValue: it is not of this type, or out of its range.

    Example:
        >>> from lambdiff.protocol.contract import Steps
        >>> convert(4.0, Steps)
        4
        >>> convert(0, Steps)
        Traceback (most recent call last):
        lambdiff.protocol.validation.BadValue: must be a whole number in 1..100, not 0
    """
    value = _plain(value)
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, ValueError) as error:  # the latter for a decimal that is a signaling NaN
        from msgspec import inspect  # only needed for messages

        for item, item_kind in _items(value, kind):
            convert(item, item_kind)
        raise BadValue(_explain(inspect.type_info(kind), value) or _detail(error)) from None


def checked(name: str, value: Any, kind: Any) -> Any:
    """Return an argument as `convert` does.

    Raises:
        InvalidRequest: it is not of this type, or out of its range; the message names the parameter.
    """
    try:
        return convert(value, kind)
    except BadValue as error:
        raise _refusal([(name, str(error))]) from None


def raise_for(problems: Iterable[tuple[str, str]]) -> None:
    """Raise an error that names every problem, if there is any.

    Args:
        problems: `(name, detail)` for each bad parameter.

    Raises:
        InvalidRequest: there are problems.
    """
    if problems := list(problems):
        raise _refusal(problems)


def _refusal(problems: list[tuple[str, str]]) -> InvalidRequest:
    message = "; ".join(f"`{name}=` {detail}" for name, detail in problems)
    return InvalidRequest(message if message.endswith("?") else f"{message}.", problems=problems)


def _items(value: Any, kind: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the items of a tuple or a dictionary with the types that they must have."""
    kinds = get_args(kind)
    if isinstance(value, dict) and get_origin(kind) is dict:
        yield from ((item, each) for pair in value.items() for item, each in zip(pair, kinds, strict=True))
    elif isinstance(value, list | tuple) and get_origin(kind) is tuple:
        yield from zip(value, itertools.repeat(kinds[0]) if Ellipsis in kinds else kinds, strict=False)


def _explain(kind: inspect.Type, value: Any) -> str:  # noqa: PLR0911 (a table)
    """Say what a value must be and what it is; empty for types without words of their own."""
    from msgspec import inspect

    match kind:
        case inspect.Metadata():
            examples = (kind.extra_json_schema or {}).get("examples")
            return _explain(kind.type, value) or (f"must look like {examples[0]}" if examples else "")
        case inspect.UnionType():
            return _explain(next(each for each in kind.types if not isinstance(each, inspect.NoneType)), value)
        case inspect.IntType() | inspect.FloatType():
            return f"must be {_number(kind)}, not {_shown(value)}"
        case inspect.LiteralType():
            choices = [str(choice) for choice in kind.values]
            suggestion = did_you_mean(value, choices) if isinstance(value, str) else ""
            return f"must be one of {', '.join(choices)}, not {_shown(value)}{suggestion}"
        case inspect.StrType() if not isinstance(value, str):
            return f"must be text, not {_shown(value)}"
        case inspect.StrType() if kind.max_length and not (kind.min_length or 0) <= len(value) <= kind.max_length:
            return f"must have {kind.min_length or 0}..{kind.max_length} characters, not {len(value)}"
        case inspect.BoolType():
            return f"must be true or false, not {_shown(value)}"
    return ""


def _number(kind: inspect.IntType | inspect.FloatType) -> str:
    low = kind.ge if kind.ge is not None else kind.gt
    high = kind.le if kind.le is not None else kind.lt
    if kind.multiple_of:
        noun = f"a multiple of {kind.multiple_of}"
    else:
        noun = "a number" if type(kind).__name__ == "FloatType" else "a whole number"
    if low is not None and high is not None:
        return f"{noun} in {low}..{high}"
    return noun if low is None else f"{noun} of at least {low}"


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**_MAX_SHOWN:  # Python refuses to print numbers of 5,000 digits
        return "a larger number" if value > 0 else "a smaller number"
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return ascii(value) if len(value) <= _MAX_SHOWN else f"text of {len(value):,} characters"
    return type(value).__name__


def _unknown(name: str, known: Iterable[str]) -> str:
    known = list(known)
    # `steps` and `guidance` are too short to resemble the field that they are part of.
    parts = [field for field in known if f"_{name}_" in f"_{field}_"]
    suggestion = f"; did you mean {parts[0]}?" if len(parts) == 1 else did_you_mean(name, known)
    parameters = f"; the parameters are {', '.join(known)}" if known else ""
    return f"is not a parameter{suggestion or parameters}"


def _plain(value: Any) -> Any:
    """Return a value as Python's own type, if it is a number or text of another one."""
    if isinstance(value, str):
        if "\0" in value:
            raise BadValue("contains a NUL character")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise BadValue("contains a lone surrogate, which is not a character")
        return str.__str__(value)  # exactly `str`: msgspec accepts no subclass, such as numpy's
    if type(value) not in (int, float, bool, list, dict, type(None)):
        value = _python_number(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 4.0 is an integer in JSON Schema, and some languages only write floats
    return value


def _python_number(value: Any) -> Any:
    """The number behind `__index__` or `__float__`; any other value as it is, numpy's booleans included."""
    import decimal
    import numbers

    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        return float(value) if isinstance(value, numbers.Real | decimal.Decimal) else value
    except (OverflowError, ValueError):  # a fraction that is too large, a signaling NaN
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

"""A Griffe extension that adapts our docstrings and adds signatures.

Griffe's parser for Google style does not know the forms on the left. They are rewritten to those on the right:

    Example:                     Examples:
    width, height: pixels.       width: pixels.
                                 height: pixels.

Structs, typed dictionaries and named tuples have no `__init__` in the source. They get one, so that their fields are
shown as a signature, like those of dataclasses.
"""

from __future__ import annotations

import re
from typing import Any, Final

import griffe

_NAMES: Final = re.compile(r"^    ((?:\w+,\s+)+\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)
_WITH_FIELDS: Final = {"Struct", "TypedDict", "NamedTuple"}


class Extension(griffe.Extension):
    """Griffe calls these methods by their names."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Adapt one docstring."""
        if obj.docstring:
            obj.docstring.value = adapt(obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Add the `__init__` of a class with fields."""
        if not _WITH_FIELDS.intersection(str(base) for base in cls.bases):
            return
        kind = griffe.ParameterKind
        by_name = "NamedTuple" not in map(str, cls.bases)
        fields = [
            griffe.Parameter(
                name,
                annotation=attribute.annotation,
                kind=kind.keyword_only if by_name else kind.positional_or_keyword,
                default=attribute.value,
            )
            for name, attribute in cls.attributes.items()
            if attribute.annotation is not None and "property" not in attribute.labels
        ]
        this = griffe.Parameter("self", kind=kind.positional_or_keyword)
        cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(this, *fields)))


def adapt(docstring: str) -> str:
    """Return a docstring in the forms that Griffe knows."""
    docstring = re.sub(r"^Example:$", "Examples:", docstring, flags=re.MULTILINE)
    return _NAMES.sub(
        lambda item: "\n".join(f"    {name}: {item[2]}" for name in re.split(r",\s+", item[1])), docstring
    )

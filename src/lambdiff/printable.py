"""Text from outside, made safe to print: what an endpoint, AWS, a tool or a file says.

A terminal obeys control characters: they move the cursor, change its title, and in some terminals write to the
clipboard. Bidirectional controls show a text in another order than it has. All of these are escaped here.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_ESCAPED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: control, format (bidirectional controls too), surrogates, line and paragraph separators."""
_JOINERS: Final = "\u200c\u200d"
"""Format characters that stay, because emoji, Persian and Indic scripts need them."""


def printable(text: object, limit: int = 500, *, multiline: bool = False) -> str:
    r"""Return a text without control characters, cut to about `limit` characters.

    Apply it where foreign text enters a message, and where it is printed.

    Args:
        text: what somebody else wrote; anything but a string is converted with `str`.
        limit: the maximum length, without the dots that mark a cut.
        multiline: keep line breaks and tabs.

    Example:
        >>> printable("\x1b[2Jall \u202egood\n")
        '\\x1b[2Jall \\u202egood\\n'
        >>> printable("a" * 50, limit=5)
        'aaaaa...'
    """
    whole = str(text)
    kept = whole[:limit]
    if multiline:
        kept = kept.replace("\r\n", "\n").replace("\r", "\n")
    if not kept.isprintable():
        stay = _JOINERS + "\n\t" if multiline else _JOINERS
        kept = "".join(_backslashed(each) if _is_escaped(each) and each not in stay else each for each in kept)
    return kept if len(kept) <= limit and len(whole) <= limit else f"{kept[:limit]}..."


def printable_json(document: str) -> str:
    r"""Return a JSON document with the same value and without characters that a terminal would act on.

    Example:
        >>> printable_json('{"a": "\x9b2J"}')
        '{"a": "\\u009b2J"}'
    """
    if document.isprintable():
        return document
    import json

    return "".join(json.dumps(each)[1:-1] if _is_escaped(each) and each != "\n" else each for each in document)


def _is_escaped(character: str) -> bool:
    return unicodedata.category(character) in _ESCAPED


def _backslashed(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

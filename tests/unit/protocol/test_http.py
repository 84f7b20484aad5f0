"""HTTP requests and responses (protocol/http.py)."""

from __future__ import annotations

from lambdiff.protocol.http import media_type


def test_media_types_lose_their_parameters() -> None:
    """A media type is in lower case and has no parameters."""
    assert media_type(" Application/JSON ; charset=UTF-8") == "application/json"

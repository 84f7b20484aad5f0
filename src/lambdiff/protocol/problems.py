"""Error replies: problem details for HTTP APIs (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct


class FieldError(Struct, frozen=True, kw_only=True):
    """One bad field of a request."""

    field: str
    detail: str


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document. Compare `type`, which is stable, rather than the texts."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    errors: list[FieldError] = []


# RFC 9457 requires a URI, which need not resolve. A URN does not suggest that there is a page.
PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "malformed-request": (400, "The request cannot be read"),
    "forbidden": (403, "The signature or the permission is not valid"),
    "not-found": (404, "There is nothing at this path"),
    "method-not-allowed": (405, "This method is not supported"),
    "payload-too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "The body must be application/json"),
    "invalid-value": (422, "A field has an invalid value"),
    "too-many-requests": (429, "All capacity is in use"),
    "internal-error": (500, "lambdiff failed"),
    "reply-too-large": (500, "The image does not fit into a reply"),
    "timed-out": (502, "The function ran out of time"),
    "model-unavailable": (503, "The model cannot be loaded"),
    "stopping": (503, "The server is stopping"),
}
"""HTTP status and title by the last part of `Problem.type`."""


def make_problem(slug: str, detail: str, *, instance: str = "", errors: Iterable[tuple[str, str]] = ()) -> Problem:
    """Return a problem document.

    Args:
        slug: a key of `PROBLEMS`.
        detail: what went wrong this time.
        instance: the request's id.
        errors: `(field, detail)` for each bad field.

    Example:
        >>> make_problem("not-found", "POST to / instead.").status
        404
    """
    status, title = PROBLEMS[slug]
    return Problem(
        type=f"urn:lambdiff:problem:{slug}",
        title=title,
        status=status,
        detail=detail,
        instance=f"urn:lambdiff:request:{instance}" if instance else "",
        errors=[FieldError(field=field, detail=detail) for field, detail in errors],
    )

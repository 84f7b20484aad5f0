"""Refused requests: map each error to a problem document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from lambdiff.errors import ConfigurationError, InvalidRequest, MalformedRequest

MAX_ERRORS: Final = 20
"""Maximum number of bad fields in a problem document."""
_MAX_DETAIL: Final = 500


class Refusal(Exception):
    """Ends a request with a problem document.

    Attributes:
        slug: a key of `problems.PROBLEMS`.
        detail: what is wrong, for the caller.
        errors: `(field, detail)` for each bad field, at most `MAX_ERRORS`.
        fields: the names of all bad fields.
        headers: additional headers of the reply.
    """

    def __init__(
        self,
        slug: str,
        detail: str,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(slug)
        self.slug = slug
        self.detail = detail
        self.errors = errors[:MAX_ERRORS]
        self.fields = [name for name, _ in errors]
        self.headers = headers or {}

    @classmethod
    def of(cls, error: Exception, request_id: str) -> Refusal:
        """Return the refusal for an error. Unexpected errors reveal nothing but the request's id."""
        match error:
            case Refusal():
                return error
            case MalformedRequest():
                return cls("malformed-request", error.message, error.problems)
            case InvalidRequest():
                # In the words of the document, whose fields are not Python parameters.
                detail = "; ".join(f"{name} {problem}" for name, problem in error.problems) or error.message
                return cls("invalid-value", detail[:_MAX_DETAIL], error.problems)
            case ConfigurationError():
                return cls("model-unavailable", " ".join((error.message, error.fix)).strip())
        return cls("internal-error", f"The function's log has details under request id {request_id}.")

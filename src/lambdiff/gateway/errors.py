"""Errors in the shape of OpenAI's API."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import JSONResponse

from lambdiff.errors import (
    AccessDenied,
    EndpointFailed,
    EndpointRefused,
    EndpointTimeout,
    EndpointUnreachable,
    InvalidRequest,
    LambdiffError,
    Throttled,
)
from lambdiff.printable import printable

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}


class GatewayError(Exception):
    """A request that is refused or has failed.

    Attributes:
        status: the HTTP status.
        message: what is wrong, for people.
        code: what is wrong, for programs.
        param: the field that is wrong.
        retry_after: seconds after which it may succeed.
    """

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = printable(message, 2_000)
        self.code = code
        self.param = param
        self.retry_after = retry_after

    @property
    def type(self) -> str:
        """The kind of error, in OpenAI's words."""
        return _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")


def as_document(error: GatewayError) -> dict[str, Any]:
    """Return the JSON document of an error.

    Example:
        >>> as_document(GatewayError(401, "The API key is wrong.", code="invalid_api_key"))["error"]["type"]
        'authentication_error'
    """
    fields = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return {"error": fields}


def as_response(error: GatewayError) -> JSONResponse:
    """Return the reply for an error."""
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(as_document(error), error.status, headers)


_KINDS: Final[tuple[tuple[type[LambdiffError], int, str, int | None], ...]] = (
    (Throttled, 429, "rate_limit_exceeded", 1),
    (EndpointRefused, 400, "invalid_value", None),
    (EndpointTimeout, 504, "endpoint_timeout", None),
    (EndpointUnreachable, 503, "endpoint_unreachable", 5),
    (EndpointFailed, 502, "endpoint_failed", None),
)
"""Error, status, code and seconds after which to try again; the first that matches counts."""


def translate(error: LambdiffError) -> GatewayError:
    """Return the gateway's error for one of the client.

    What is wrong with the gateway's own configuration is not the caller's business; the gateway's log has it.
    """
    if isinstance(error, InvalidRequest):
        param = error.problems[0][0] if error.problems else None
        return GatewayError(400, error.message, code="invalid_value", param=param)
    if not isinstance(error, AccessDenied):
        for kind, status, code, retry_after in _KINDS:
            if isinstance(error, kind):
                return GatewayError(status, error.message, code=code, retry_after=retry_after)
    return GatewayError(502, "The gateway cannot use its endpoint; its log says why.", code="endpoint_unusable")

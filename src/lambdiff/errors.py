"""Every error lambdiff raises on purpose.

::

    LambdiffError                 1   anything below; alone: a bug in lambdiff
    ├── InvalidRequest            2   a parameter is missing, unknown or out of range (`problems` lists each field)
    │   └── MalformedRequest      2   the body is not a JSON object
    ├── MetadataError             2   a file is no picture, or holds no parameters that can be read
    ├── ConfigurationError        3   no usable endpoint, region or deployment
    │   ├── CredentialsError      3   nobody to sign the request, or the secret cannot be read
    │   ├── MissingExtra          3   an optional part of lambdiff is not installed
    │   └── ModelError            3   a model folder is missing, incomplete or does not match its manifest
    ├── EndpointRefused           4   the endpoint answered and said no (`status` is the HTTP status)
    │   ├── AccessDenied          4   403: signature or permission
    │   └── Throttled             4   429, after all retries
    ├── EndpointFailed            5   the endpoint broke, or its answer is unusable
    │   ├── EndpointUnreachable   5   no connection: nothing was generated
    │   └── EndpointTimeout       5   no answer in time: the image may have been paid for
    ├── OutputError               6   the picture exists but could not be written
    ├── DeployError               7   a deployment failed
    │   └── ToolchainError        7   node, the CDK CLI or a container engine is missing or broken
    └── Cancelled               130   stopped by the caller

The number is the exit code of the command line. Where the message does not say it already, `fix` is one sentence that
says what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `msgspec.json.decode` raises for bytes that are not the JSON they should be."""


class LambdiffError(Exception):
    """The root of the tree.

    Args:
        message: what went wrong, one sentence, no secret and no prompt.
        fix: what to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n{self.fix}" if self.fix else self.message


class InvalidRequest(LambdiffError):
    """A parameter is missing, unknown or out of range.

    Attributes:
        problems: `(field, detail)` for each bad field.
    """

    exit_code = 2

    def __init__(self, message: str, *, fix: str = "", problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message, fix=fix)
        self.problems = list(problems)


class MalformedRequest(InvalidRequest):
    """The body is not a JSON object: nothing in it can be named."""


class MetadataError(LambdiffError):
    """A file is no picture, or one that holds no parameters that can be read."""

    exit_code = 2


class ConfigurationError(LambdiffError):
    """No usable endpoint, region or deployment."""

    exit_code = 3


class CredentialsError(ConfigurationError):
    """Nobody to sign the request, or the stack's secret cannot be read."""


class MissingExtra(ConfigurationError):
    """An optional part of lambdiff is not installed; the fix is the exact pip line."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed.", fix=f'Install it: pip install "lambdiff[{extra}]"')
        self.extra = extra


class ModelError(ConfigurationError):
    """A model folder is missing, incomplete or does not match its manifest."""


class EndpointRefused(LambdiffError):
    """The endpoint answered and said no.

    Attributes:
        status: the HTTP status, 400..499.
        request_id: AWS's id of the request, for `lambdiff logs --request-id`.
    """

    exit_code = 4

    def __init__(self, message: str, *, fix: str = "", status: int, request_id: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.status = status
        self.request_id = request_id


class AccessDenied(EndpointRefused):
    """403: the signature does not match, or the identity may not call this function."""


class Throttled(EndpointRefused):
    """429 after all retries: the function's concurrency is used up."""


class EndpointFailed(LambdiffError):
    """The endpoint broke (5xx), or what it sent is no picture.

    Attributes:
        status: the HTTP status, or None where there was none.
        request_id: AWS's id of the request, or None.
    """

    exit_code = 5

    def __init__(
        self, message: str, *, fix: str = "", status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, fix=fix)
        self.status = status
        self.request_id = request_id


class EndpointUnreachable(EndpointFailed):
    """No connection to the endpoint: nothing was generated, nothing was paid for."""


class EndpointTimeout(EndpointFailed):
    """No answer in time. The image may have been generated and paid for, so the request is never repeated unasked."""


class OutputError(LambdiffError):
    """The picture exists but could not be written."""

    exit_code = 6


class DeployError(LambdiffError):
    """A deployment, or something around it, failed."""

    exit_code = 7


class ToolchainError(DeployError):
    """Node, the CDK CLI or a container engine is missing or broken."""


class Cancelled(LambdiffError):
    """Stopped by the caller: Ctrl-C, a callback that returned True, or a deadline."""

    exit_code = 130

"""Every error that lambdiff raises on purpose, and its exit code on the command line.

::

    LambdiffError                 1   the base of all errors; a bug in lambdiff if raised directly
    ├── InvalidRequest            2   a parameter is missing, unknown or out of range (`problems` lists each)
    │   └── MalformedRequest      2   the body is not a JSON object
    ├── MetadataError             2   a file is not an image, or contains no readable parameters
    ├── ConfigurationError        3   no usable endpoint, region or deployment
    │   ├── CredentialsError      3   no credentials to sign the request with, or the secret cannot be read
    │   ├── MissingExtra          3   an optional part of lambdiff is not installed
    │   └── ModelError            3   a model folder is missing, incomplete, or does not match its manifest
    ├── EndpointRefused           4   the endpoint refused the request (`status` is the HTTP status)
    │   ├── AccessDenied          4   403: signature or permission
    │   └── Throttled             4   429, after all retries
    ├── EndpointFailed            5   the endpoint failed, or its reply is unusable
    │   ├── EndpointUnreachable   5   no connection: nothing was generated
    │   └── EndpointTimeout       5   no reply in time: the image may have been billed
    ├── OutputError               6   the image was generated but could not be written
    ├── DeployError               7   a deployment failed
    │   └── ToolchainError        7   Node, the CDK CLI or a container engine is missing or broken
    └── Cancelled               130   stopped by the caller

`message` says in one sentence what is wrong. `fix` says what to do next, unless the message already does.
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from lambdiff.printable import printable

NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `msgspec.json.decode` raises for bytes that are not JSON of the expected type."""

MAX_TEXT: Final = 2_000
"""Maximum characters of an error's message, and of its fix."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the known word that resembles `word` most; empty if none does.

    Example:
        >>> did_you_mean("eular", ["ddim", "euler", "lcm"]), did_you_mean("gen", ["generate", "status"])
        ('; did you mean euler?', '; did you mean generate?')
    """
    import difflib

    known, word = list(known), word[:100].lower()
    longer = [each for each in known if each.startswith(word)]
    close = longer if len(longer) == 1 else difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


class LambdiffError(Exception):
    """The base of all errors.

    Both texts are safe to print, even if they quote somebody else: control characters are escaped, and what is longer
    than 2,000 characters is cut.

    Args:
        message: what is wrong; never contains a secret or a prompt.
        fix: what to do next.
    """

    exit_code = 1

    def __init__(self, message: str, *, fix: str = "") -> None:
        self.message = printable(message, MAX_TEXT, multiline=True)
        self.fix = printable(fix, MAX_TEXT, multiline=True)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n{self.fix}" if self.fix else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, an exception is pickled and copied by calling its class with `args`, which `__init__` of these
        # classes does not accept. All fields are in the dictionary.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class InvalidRequest(LambdiffError):
    """A parameter is missing, unknown or out of range.

    Attributes:
        problems: `(name, detail)` for each bad parameter.
    """

    exit_code = 2

    def __init__(self, message: str, *, fix: str = "", problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message, fix=fix)
        self.problems = list(problems)


class MalformedRequest(InvalidRequest):
    """The body is not a JSON object, so no field can be named."""


class MetadataError(LambdiffError):
    """A file is not an image, or contains no readable parameters."""

    exit_code = 2


class ConfigurationError(LambdiffError):
    """No usable endpoint, region or deployment."""

    exit_code = 3


class CredentialsError(ConfigurationError):
    """There are no credentials to sign the request with, or the stack's secret cannot be read."""


class MissingExtra(ConfigurationError):
    """An optional part of lambdiff is not installed; the fix is the command that installs it here."""

    def __init__(self, what: str, extra: str) -> None:
        from lambdiff.installation import install_command

        command = install_command(extra)
        fix = f"Install it: {command}" if command else f"Install lambdiff again, with its extra `{extra}`."
        super().__init__(f"{what} is not installed.", fix=fix)
        self.extra = extra


class ModelError(ConfigurationError):
    """A model folder is missing, incomplete, or does not match its manifest."""


class EndpointRefused(LambdiffError):
    """The endpoint refused the request.

    Attributes:
        status: the HTTP status, 300 to 499.
        request_id: the request's id in the logs, or None.
    """

    exit_code = 4

    def __init__(self, message: str, *, fix: str = "", status: int, request_id: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.status = status
        self.request_id = request_id


class AccessDenied(EndpointRefused):
    """403: the signature is wrong, or the identity may not call this function."""


class Throttled(EndpointRefused):
    """429 after all retries: the function's concurrency is used up."""


class EndpointFailed(LambdiffError):
    """The endpoint failed (5xx), or did not send a complete image.

    Attributes:
        status: the HTTP status, or None if there was no reply.
        request_id: the request's id in the logs, or None.
    """

    exit_code = 5

    def __init__(
        self, message: str, *, fix: str = "", status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, fix=fix)
        self.status = status
        self.request_id = request_id


class EndpointUnreachable(EndpointFailed):
    """There was no connection to the endpoint: nothing was generated or billed."""


class EndpointTimeout(EndpointFailed):
    """There was no reply in time. lambdiff never repeats such a request, because the image may have been billed."""


class OutputError(LambdiffError):
    """The image was generated but could not be written."""

    exit_code = 6


class DeployError(LambdiffError):
    """A deployment failed, or another operation on a stack."""

    exit_code = 7


class ToolchainError(DeployError):
    """Node, the CDK CLI or a container engine is missing or broken."""


class Cancelled(LambdiffError):
    """The request was cancelled: by Ctrl-C, by a callback that returned True, or by a deadline."""

    exit_code = 130

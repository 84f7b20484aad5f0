"""Check successful replies: they must have what was asked for, and nothing else is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from lambdiff.errors import NOT_JSON, EndpointFailed
from lambdiff.printable import printable
from lambdiff.protocol.contract import GenerateRequest, Health, Limits
from lambdiff.protocol.headers import JSON, MEDIA_TYPES
from lambdiff.protocol.http import HttpResponse
from lambdiff.protocol.image_decoding import BadImage, ImageHeader, read_header
from lambdiff.protocol.pictures import KINDS, Kind, Picture

MAX_HEALTH: Final = 64 * 1024
"""Maximum bytes of a health report."""
_MAX_SIZE: Final = Limits().max_size
_IDENTITY: Final = ("prompt", "negative_prompt", "seed")
"""Parameters whose change means another image; a change of the others can be useful, and becomes a warning."""
_NOT_REPEATED: Final = (
    "The request was not repeated, because the image has been billed. Run it again if you accept the cost."
)
_CHECK_URL: Final = "Check that the URL is that of a lambdiff endpoint, and which proxies are in between."


def check_image(reply: HttpResponse, request: GenerateRequest) -> ImageHeader:
    """Check that a reply is an image in the requested format and size, before its pixels are decoded.

    Raises:
        EndpointFailed: it is not.
    """
    expected = MEDIA_TYPES[request.image_format]
    if reply.content_type != expected:
        kind = printable(reply.content_type, 60) or "no content type"
        raise EndpointFailed(
            f"The endpoint replied {reply.status} with {kind}, not {expected}.", fix=_CHECK_URL, status=reply.status
        )
    try:
        header = read_header(reply.body, request.image_format)
    except BadImage as bad:
        raise bad_image(bad) from None
    for side, received, asked in (
        ("width", header.width, request.width),
        ("height", header.height, request.height),
    ):
        if received != asked and (asked is not None or received > _MAX_SIZE):
            limit = f"at most {_MAX_SIZE}" if asked is None else str(asked)
            raise EndpointFailed(
                f"The endpoint sent an image of {header.width}x{header.height} pixels: its {side} must be {limit}.",
                fix=_CHECK_URL,
                status=reply.status,
            )
    return header


def bad_image(bad: BadImage) -> EndpointFailed:
    """Return the error for an image that cannot be decoded."""
    return EndpointFailed(f"The image that arrived {printable(bad, 200)}.", fix=_NOT_REPEATED)


def check_parameters(request: GenerateRequest, used: Mapping[str, Any]) -> list[str]:
    """Compare the parameters that were asked for with those that a reply names.

    Returns:
        A warning for each parameter that changed.

    Raises:
        EndpointFailed: it is the image of another request.
    """
    warnings = []
    for name, value in used.items():
        asked = getattr(request, name)
        if asked in (None, value) or name in KINDS:  # a reply does not repeat pictures
            continue
        if name in _IDENTITY:
            difference = f"its seed is {value}, not {asked}" if name == "seed" else f"its `{name}=` is another one"
            raise EndpointFailed(f"The endpoint sent the image of another request: {difference}.", fix=_NOT_REPEATED)
        warnings.append(f"The endpoint used `{name}={value}` instead of {asked}.")
    return warnings


def check_pictures(request: GenerateRequest, recorded: Mapping[Kind, str]) -> None:
    """Compare the start image and the mask that were sent with those that a reply was made from.

    Args:
        request: what was asked for.
        recorded: the hashes in the reply by field; empty if there was no such picture.

    Raises:
        EndpointFailed: it is the image of another request.
    """
    for kind, sha256 in recorded.items():
        sent = getattr(request, kind)
        if sha256 != (Picture(sent, kind).sha256 if sent else ""):
            difference = f"its `{kind}=` is another one"
            raise EndpointFailed(f"The endpoint sent the image of another request: {difference}.", fix=_NOT_REPEATED)


def read_health(reply: HttpResponse, url: str) -> Health:
    """Read a health report. Its texts are safe to print.

    Raises:
        EndpointFailed: it is not one.
    """
    problem = ""
    if reply.content_type != JSON:
        problem = printable(reply.content_type, 60) or "no content type"
    elif len(reply.body) > MAX_HEALTH:
        problem = f"{len(reply.body):,} bytes"
    else:
        try:
            return msgspec.convert(_printable_texts(msgspec.json.decode(reply.body)), type=Health)
        except (*NOT_JSON, msgspec.ValidationError) as error:
            problem = printable(error, 200)
    raise EndpointFailed(
        f"The reply from {url} is not a lambdiff health report: {problem}.",
        fix="Check the URL: `lambdiff status`.",
        status=reply.status,
    )


def _printable_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _printable_texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable_texts(item) for item in value]
    return printable(value, 2_000) if isinstance(value, str) else value

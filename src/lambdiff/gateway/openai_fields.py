"""The fields of OpenAI's images API: what each becomes, and what is said about those that have no effect.

Every field of the API is honoured, named as ignored in `warnings`, or refused:
https://platform.openai.com/docs/api-reference/images
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from lambdiff.client.parameters import build_request, consecutive_seeds
from lambdiff.errors import InvalidRequest, did_you_mean
from lambdiff.gateway.errors import GatewayError
from lambdiff.gateway.settings import MAX_IMAGES
from lambdiff.printable import printable
from lambdiff.protocol.contract import GenerateRequest, Health

OURS: Final = (
    "negative_prompt", "num_inference_steps", "guidance_scale", "seed", "scheduler", "sigma_schedule", "prompt_syntax",
    "strength",
)  # fmt: skip
"""Parameters of lambdiff that a request may have in addition."""
HONOURED: Final = ("prompt", "n", "size", "response_format", "output_format", "model", "stream", "partial_images")
PICTURES: Final = ("image", "mask")
IGNORED: Final = (
    "quality", "style", "moderation", "complexity", "user", "safety_identifier", "output_compression", "input_fidelity",
)  # fmt: skip
"""Fields without a counterpart."""
REFUSED: Final = {
    "frame_count": "there are no animations",
    "frame_duration_ms": "there are no animations",
    "svg": "there are no vector graphics",
    "markup": "use `mask`",
}
"""Fields whose loss would give another result than the caller expects."""
_SIZE: Final = re.compile(r"(\d{2,4})x(\d{2,4})")
_NOT_IN_JSON: Final = "is for POST /v1/images/edits"


class ImagesCall:
    """A call of the images API, validated.

    Args:
        fields: the request's fields; numbers may be text, as in forms. Pictures are base64 or their bytes.
        health: the endpoint's.
        edit: whether it has a start image.

    Attributes:
        requests: one for each image.
        as_url: whether images are returned as links.
        stream: whether the reply is a stream of events.
        partial_images: how many previews the stream has at most.
        warnings: what has no effect.

    Raises:
        GatewayError: a field is wrong.
    """

    def __init__(self, fields: Mapping[str, Any], health: Health, *, edit: bool = False) -> None:
        given = {name: value for name, value in fields.items() if value is not None}
        self.warnings = [f"`{name}` is ignored." for name in IGNORED if name in given]
        self._refuse(given, edit=edit)
        model = given.get("model", health.model.name)
        if not isinstance(model, str):
            raise _wrong("model", "must be text")
        if model not in (health.model.name, f"{health.model.name}@{health.model.revision}"):
            self.warnings.append(f"`model` is ignored: this endpoint has {printable(health.model.name, 100)} only.")
        self.as_url = _choice(given, "response_format", ("b64_json", "url")) == "url"
        self.stream = _boolean(given, "stream")
        self.partial_images = _number(given, "partial_images", 0, 3) or 0
        if self.partial_images and not self.stream:
            raise _wrong("partial_images", "needs `stream`")
        count = _number(given, "n", 1, MAX_IMAGES) or 1
        if self.stream and (count > 1 or self.as_url):
            raise _wrong("stream", "works for one image as b64_json")
        self.requests = _requests(given, count)

    def _refuse(self, given: Mapping[str, Any], *, edit: bool) -> None:
        for name, reason in REFUSED.items():
            if name in given:
                raise _wrong(name, f"is not supported: {reason}")
        if given.get("background") == "transparent":
            raise _wrong("background", "must be opaque or auto: images have no transparency")
        if given.get("background", "auto") not in ("auto", "opaque"):
            raise _wrong("background", "must be opaque or auto")
        known = (*HONOURED, *IGNORED, *OURS, "background", *(PICTURES if edit else ()))
        for name in given:
            if name in PICTURES and not edit:
                raise _wrong(name, _NOT_IN_JSON)
            if name not in known:
                raise _wrong(name, f"is not a parameter{did_you_mean(name, known)}", code="unknown_parameter")


def _requests(given: Mapping[str, Any], count: int) -> list[GenerateRequest]:
    parameters = {name: _plain(name, given[name]) for name in ("prompt", *OURS, *PICTURES) if name in given}
    parameters["image_format"] = _choice(given, "output_format", ("png", "jpeg", "webp"))
    size = given.get("size", "auto")
    if size != "auto":
        match = _SIZE.fullmatch(size) if isinstance(size, str) else None
        if match is None:
            raise _wrong("size", "must be WIDTHxHEIGHT in pixels, such as 512x512, or auto")
        parameters["width"], parameters["height"] = int(match[1]), int(match[2])
    if "prompt" not in parameters:
        raise _wrong("prompt", "is required", code="missing_required_parameter")
    try:
        first = build_request(**parameters)
        seeds = consecutive_seeds(first.seed, count)
        return [build_request(**{**parameters, "seed": seed}) for seed in seeds]
    except InvalidRequest as error:
        name, detail = error.problems[0] if error.problems else (None, error.message)
        raise _wrong("size" if name in ("width", "height") else name or "prompt", detail) from None


def _plain(name: str, value: Any) -> Any:
    """Return a value of a form as a number, if it can be one; the contract decides whether it should be."""
    if isinstance(value, str) and name not in ("prompt", "negative_prompt", *PICTURES):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _choice(given: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    value = given.get(name, choices[0])
    if value not in choices:
        raise _wrong(name, f"must be one of {', '.join(choices)}")
    return str(value)


def _boolean(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        raise _wrong(name, "must be true or false")
    return value


def _number(given: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = given.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 4:
        value = int(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _wrong(name, f"must be a whole number in {low}..{high}")
    return value


def _wrong(name: str, detail: str, code: str = "invalid_value") -> GatewayError:
    shown = printable(name, 40)
    return GatewayError(400, f"`{shown}` {detail}.", code=code, param=shown)

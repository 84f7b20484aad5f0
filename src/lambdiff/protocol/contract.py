"""The wire contract between client and handler, both directions: its only definition.

    request   `POST /` with a `GenerateRequest` as JSON        reply   the image's bytes and the headers below
              `GET /`                                                  `Health` as JSON
                                                               error   `Problem` (RFC 9457) as JSON

What a request leaves open is filled in by the model's `Defaults`; the result, a `Generation`, is what an engine
draws and what is written into the image.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal, NoReturn, get_args

import msgspec
from msgspec import Meta, Struct

from lambdiff.errors import NOT_JSON, InvalidRequest, MalformedRequest

MAX_PROMPT: Final = 2_000
MAX_SEED: Final = 2**32 - 1
MAX_BODY: Final = 64 * 1024
"""Bytes of a request's body. Two prompts of 2,000 characters, each escaped as `\\uXXXX\\uXXXX`, are 48,000."""
MAX_PAYLOAD: Final = 6_291_556
"""Bytes of a buffered reply, base64 and JSON included, that Lambda passes on."""

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"

SchedulerName = Literal["ddim", "dpmpp_2m", "euler", "lcm", "pndm"]
ImageFormat = Literal["png", "jpeg", "webp"]
MEDIA_TYPES: Final[dict[ImageFormat, str]] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

# Reply headers. Warnings are a JSON list of strings, escaped to ASCII.
SEED_HEADER: Final = "lambdiff-seed"
MODEL_HEADER: Final = "lambdiff-model"
ENGINE_HEADER: Final = "lambdiff-engine"
WARNINGS_HEADER: Final = "lambdiff-warnings"
REQUEST_ID_HEADER: Final = "lambdiff-request-id"
TIMING_HEADER: Final = "server-timing"
MAX_WARNINGS_HEADER: Final = 2_048

Prompt = Annotated[
    str, Meta(min_length=1, max_length=MAX_PROMPT, description="What to draw.", examples=["a cat in a top hat"])
]
NegativePrompt = Annotated[str, Meta(max_length=MAX_PROMPT, description="What to keep out of the picture.")]
Steps = Annotated[int, Meta(ge=1, le=100, description="Denoising steps: more is slower and usually better.")]
Guidance = Annotated[
    float,
    Meta(ge=0, le=30, description="How strictly to follow the prompt; 1 or less means no guidance and half the work."),
]
Pixels = Annotated[int, Meta(ge=64, le=1024, multiple_of=8, description="Pixels, a multiple of 8.")]
Seed = Annotated[
    int, Meta(ge=0, le=MAX_SEED, description="The same seed gives the same picture; drawn at random if absent.")
]


class GenerateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a caller asks for. Whatever is None is the model's default.

    Example:
        >>> GenerateRequest(prompt="a cat in a top hat", num_inference_steps=4).to_json()
        b'{"prompt":"a cat in a top hat","num_inference_steps":4}'
    """

    prompt: Prompt
    negative_prompt: NegativePrompt | None = None
    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    seed: Seed | None = None
    scheduler: Annotated[SchedulerName, Meta(description="The sampler.")] | None = None
    image_format: Annotated[ImageFormat, Meta(description="The encoding of the reply.")] = "png"

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> GenerateRequest:
        """Validate every field and report all that are wrong at once.

        Raises:
            InvalidRequest: with one entry in `problems` for each bad field.
        """
        problems: list[tuple[str, str]] = []
        values: dict[str, Any] = {}
        known = {field.name: field for field in msgspec.structs.fields(cls)}
        for name, value in fields.items():
            if name not in known:
                problems.append((_shown(name), f"is not a field; the fields are {', '.join(known)}"))
                continue
            try:
                values[name] = msgspec.convert(_plain(value), known[name].type)
            except msgspec.ValidationError as error:
                problems.append((name, _detail(str(error))))
            except _NotText as error:
                problems.append((name, str(error)))
        if "prompt" not in fields:
            problems.append(("prompt", "is required"))
        elif "prompt" in values and not values["prompt"].strip():
            problems.append(("prompt", "is blank"))
        if problems:
            _refuse(problems)
        return cls(**values)

    @classmethod
    def from_json(cls, body: bytes) -> GenerateRequest:
        """Read a request's body.

        Raises:
            MalformedRequest: no JSON object, a field given twice, NaN or infinity.
            InvalidRequest: a bad field.
        """
        return cls.from_fields(_load_object(body))

    def to_json(self) -> bytes:
        """The bytes that are signed and sent."""
        return msgspec.json.encode(self)

    def resolve(self, defaults: Defaults) -> Generation:
        """Fill in the model's defaults; a missing seed is drawn from the operating system.

        The seed must not come from state made at start-up: every environment restored from one SnapStart snapshot
        would draw the same pictures.
        """

        def given(value: Any, default: Any) -> Any:
            return default if value is None else value

        return Generation(
            prompt=self.prompt,
            negative_prompt=given(self.negative_prompt, defaults.negative_prompt),
            num_inference_steps=given(self.num_inference_steps, defaults.num_inference_steps),
            guidance_scale=float(given(self.guidance_scale, defaults.guidance_scale)),
            width=given(self.width, defaults.width),
            height=given(self.height, defaults.height),
            seed=given(self.seed, secrets.randbelow(MAX_SEED + 1)),
            scheduler=given(self.scheduler, defaults.scheduler),
            image_format=self.image_format,
        )


class Defaults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model uses where a request says nothing."""

    num_inference_steps: Steps
    guidance_scale: Guidance
    width: Pixels
    height: Pixels
    scheduler: SchedulerName
    negative_prompt: NegativePrompt = ""


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model can draw, within the contract's own limits."""

    min_size: Pixels = 64
    max_size: Pixels = 1024
    schedulers: tuple[SchedulerName, ...] = get_args(SchedulerName)

    def check(self, generation: Generation) -> None:
        """Refuse what this model cannot draw.

        Raises:
            InvalidRequest: with one entry for each bad field.
        """
        problems = [
            (name, f"is {value}; this model draws {self.min_size} to {self.max_size} pixels")
            for name, value in (("width", generation.width), ("height", generation.height))
            if not self.min_size <= value <= self.max_size
        ]
        if generation.scheduler not in self.schedulers:
            problems.append(("scheduler", f"is {generation.scheduler}; this model has {', '.join(self.schedulers)}"))
        if problems:
            _refuse(problems)


class Generation(Struct, frozen=True, kw_only=True):
    """A request with nothing left open: what an engine draws and what the image's metadata records."""

    prompt: str
    negative_prompt: str
    num_inference_steps: int
    guidance_scale: float
    width: int
    height: int
    seed: int
    scheduler: SchedulerName
    image_format: ImageFormat = "png"

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on; at a scale of 1 it cancels out (Ho & Salimans 2022, eq. 6)."""
        return self.guidance_scale > 1


class ModelIdentity(Struct, frozen=True, kw_only=True):
    """Which weights answer."""

    name: str
    revision: str
    license: str


class Health(Struct, frozen=True, kw_only=True):
    """The reply to `GET /`."""

    version: str
    model: ModelIdentity
    engine: str
    precision: str
    cpu_features: list[str]
    threads: int
    defaults: Defaults
    limits: Limits
    loaded: bool
    status: Literal["ok"] = "ok"


class FieldError(Struct, frozen=True, kw_only=True):
    """One bad field of a request."""

    field: str
    detail: str


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details for an HTTP API (RFC 9457). `type` is stable; compare it, not the words."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    errors: list[FieldError] = []


# RFC 9457 asks for a URI that need not resolve; a URN promises no page that somebody would have to host.
PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "malformed-request": (400, "The request cannot be read"),
    "forbidden": (403, "The signature or the permission does not hold"),
    "not-found": (404, "There is nothing at this path"),
    "method-not-allowed": (405, "This method is not supported"),
    "payload-too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "The body must be application/json"),
    "invalid-value": (422, "A field has an invalid value"),
    "too-many-requests": (429, "Every slot is taken"),
    "internal-error": (500, "lambdiff failed"),
    "reply-too-large": (500, "The image does not fit into a reply"),
    "timed-out": (502, "The function's time is up"),
    "model-unavailable": (503, "The model cannot be loaded"),
}


def problem(slug: str, detail: str, *, instance: str = "", errors: Iterable[tuple[str, str]] = ()) -> Problem:
    """A problem document of one of the kinds in `PROBLEMS`.

    Example:
        >>> problem("not-found", "POST to / instead.").status
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


def encode_warnings(warnings: Sequence[str]) -> str:
    """Warnings as a header's value: ASCII, one line, at most `MAX_WARNINGS_HEADER` bytes (later ones are dropped)."""
    kept = list(warnings)
    while len(value := json.dumps(kept)) > MAX_WARNINGS_HEADER:
        kept.pop()
    return value


def decode_warnings(value: str | None) -> list[str]:
    """The inverse of `encode_warnings`; anything that is not such a list is no warning."""
    try:
        return msgspec.json.decode(value or "[]", type=list[str])
    except NOT_JSON:
        return []


def encode_timings(timings: dict[str, float]) -> str:
    """Seconds by phase as a `Server-Timing` header (durations there are milliseconds).

    Example:
        >>> encode_timings({"encode": 0.0123, "denoise": 1.5})
        'encode;dur=12.3, denoise;dur=1500.0'
    """
    return ", ".join(f"{phase};dur={seconds * 1000:.1f}" for phase, seconds in timings.items())


def decode_timings(value: str | None) -> dict[str, float]:
    """The inverse of `encode_timings`; entries of other forms are passed over."""
    timings: dict[str, float] = {}
    for entry in (value or "").split(","):
        phase, _, duration = entry.strip().partition(";dur=")
        try:
            timings[phase] = float(duration) / 1000
        except ValueError:
            continue
    return timings


def _load_object(body: bytes) -> dict[str, Any]:
    def no_constant(name: str) -> NoReturn:
        raise ValueError(f"the constant {name} is no JSON number")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            raise ValueError("a field is given twice")
        return fields

    try:
        # The standard library's parser, because it alone shows duplicate names before one of them is lost.
        fields = json.loads(body.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        raise MalformedRequest(f"The body is not JSON: {error.msg} at character {error.pos}.") from None
    except UnicodeDecodeError:
        raise MalformedRequest("The body is not UTF-8.") from None
    except ValueError as error:
        raise MalformedRequest(f"The body is not usable: {_detail(str(error))}.") from None
    except RecursionError:
        raise MalformedRequest("The body is nested too deeply.") from None
    if not isinstance(fields, dict):
        raise MalformedRequest('The body must be a JSON object such as {"prompt": "a cat in a top hat"}.')
    return fields


class _NotText(ValueError):
    """A string that could be neither sent as UTF-8 nor written into an image's text."""


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 4.0 is an integer in JSON Schema, and some languages write no other numbers
    if isinstance(value, str):
        if "\0" in value:
            raise _NotText("contains a NUL character")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise _NotText("contains a lone surrogate, which is no character")
    return value


def _detail(message: str) -> str:
    return message[:1].lower() + message[1:200]


def _shown(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode()[:40]


def _refuse(problems: list[tuple[str, str]]) -> NoReturn:
    raise InvalidRequest("; ".join(f"{field}: {detail}" for field, detail in problems), problems=problems)

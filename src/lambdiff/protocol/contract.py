"""The only definition of the wire contract between client and handler.

    request   `POST /` with a `GenerateRequest` as JSON     reply   the image's bytes, and the headers in `headers.py`
              `GET /`                                               `Health` as JSON
                                                            error   `Problem` as JSON, see `problems.py`

The model's `Defaults` fill in the parameters that a request leaves out. The result, a `Generation`, goes to the engine
and is recorded in the image.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from lambdiff.protocol.validation import parse_object, raise_for, validate_fields

MAX_PROMPT: Final = 2_000
MAX_SEED: Final = 2**32 - 1
MIN_SIZE: Final = 64
MAX_SIZE: Final = 1024
"""Width and height, in pixels."""
MAX_BODY: Final = 64 * 1024
"""Maximum bytes of a request's body. Two prompts of 2,000 characters, each escaped as `\\uXXXX\\uXXXX`, are 48,000."""
MAX_PAYLOAD: Final = 6_291_556
"""Maximum bytes of a buffered reply from Lambda, including base64 and JSON."""

SchedulerName = Literal[
    "ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde", "euler", "euler_ancestral", "heun", "lcm", "pndm", "tcd", "unipc"
]
SigmaSchedule = Literal["normal", "karras", "exponential"]
SIGMA_SCHEDULED: Final[tuple[SchedulerName, ...]] = ("dpmpp_2m", "dpmpp_2m_sde", "euler", "heun", "unipc")
"""The schedulers that take another sigma schedule than `normal`."""
PromptSyntax = Literal["plain", "a1111"]
ImageFormat = Literal["png", "jpeg", "webp"]
OnStep = Callable[[int, int], bool | None]
"""Called after each denoising step with (steps done, steps in total); return True to cancel the request."""

Prompt = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_PROMPT, description="What to show.", examples=["a cat in a top hat"]),
]
NegativePrompt = Annotated[str, Meta(max_length=MAX_PROMPT, description="What to keep out of the image.")]
Steps = Annotated[int, Meta(ge=1, le=100, description="Denoising steps: more are slower and usually better.")]
Guidance = Annotated[
    float,
    Meta(
        ge=0,
        le=30,
        description="How closely to follow the prompt; 1 or less turns guidance off, which halves the work.",
    ),
]
Pixels = Annotated[int, Meta(ge=MIN_SIZE, le=MAX_SIZE, multiple_of=8, description="Pixels, a multiple of 8.")]
Seed = Annotated[
    int,
    Meta(ge=0, le=MAX_SEED, description="The same seed and parameters give the same image; random by default."),
]


class GenerateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The parameters of one image. None stands for the model's default.

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
    scheduler: Annotated[SchedulerName, Meta(description="The sampling method.")] | None = None
    sigma_schedule: Annotated[SigmaSchedule, Meta(description="The spacing of the noise levels.")] | None = None
    prompt_syntax: (
        Annotated[PromptSyntax, Meta(description="How to read the prompts: as text, or with (weighted:1.2) words.")]
        | None
    ) = None
    image_format: Annotated[ImageFormat, Meta(description="The encoding of the reply.")] = "png"

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> GenerateRequest:
        """Validate every field and report all bad ones at once.

        Raises:
            InvalidRequest: with one entry in `problems` for each bad field.
        """
        values, problems = validate_fields(cls, fields)
        if "prompt" not in fields:
            problems.append(("prompt", "is required"))
        elif "prompt" in values and not values["prompt"].strip():
            problems.append(("prompt", "is blank"))
        raise_for(problems)
        return cls(**values)

    @classmethod
    def from_json(cls, body: bytes) -> GenerateRequest:
        """Parse a request's body.

        Raises:
            MalformedRequest: the body is not a JSON object, names a field twice, or has NaN or infinity.
            InvalidRequest: a field is bad.
        """
        return cls.from_fields(parse_object(body))

    def to_json(self) -> bytes:
        """Return the bytes that are signed and sent."""
        return msgspec.json.encode(self)

    def resolve(self, defaults: Defaults) -> Generation:
        """Fill in the model's defaults, and a random seed from the operating system.

        The seed must not come from state created at startup: all environments restored from one SnapStart snapshot
        would generate the same images.
        """

        def either(value: Any, default: Any) -> Any:
            return default if value is None else value

        scheduler = either(self.scheduler, defaults.scheduler)
        # The model's spacing of the noise levels belongs to its own scheduler.
        sigma_schedule = defaults.sigma_schedule if scheduler == defaults.scheduler else "normal"
        return Generation(
            prompt=self.prompt,
            negative_prompt=either(self.negative_prompt, defaults.negative_prompt),
            num_inference_steps=either(self.num_inference_steps, defaults.num_inference_steps),
            guidance_scale=float(either(self.guidance_scale, defaults.guidance_scale)),
            width=either(self.width, defaults.width),
            height=either(self.height, defaults.height),
            seed=either(self.seed, secrets.randbelow(MAX_SEED + 1)),
            scheduler=scheduler,
            sigma_schedule=either(self.sigma_schedule, sigma_schedule),
            prompt_syntax=either(self.prompt_syntax, defaults.prompt_syntax),
            image_format=self.image_format,
        )


class Defaults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's values for parameters that a request leaves out."""

    num_inference_steps: Steps
    guidance_scale: Guidance
    width: Pixels
    height: Pixels
    scheduler: SchedulerName
    sigma_schedule: SigmaSchedule = "normal"
    negative_prompt: NegativePrompt = ""
    prompt_syntax: PromptSyntax = "plain"


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The values that a model supports, within the contract's own limits."""

    min_size: Pixels = MIN_SIZE
    max_size: Pixels = MAX_SIZE
    schedulers: tuple[SchedulerName, ...] = get_args(SchedulerName)
    prompt_syntaxes: tuple[PromptSyntax, ...] = ("plain",)

    def check(self, generation: Generation) -> None:
        """Reject values that this model does not support.

        Raises:
            InvalidRequest: with one entry in `problems` for each bad field.
        """
        problems = [
            (name, f"must be {self.min_size}..{self.max_size} with this model, not {value}")
            for name, value in (("width", generation.width), ("height", generation.height))
            if not self.min_size <= value <= self.max_size
        ]
        if generation.scheduler not in self.schedulers:
            supported = ", ".join(self.schedulers)
            problems.append(("scheduler", f"must be one of {supported} with this model, not {generation.scheduler}"))
        if generation.sigma_schedule != "normal" and generation.scheduler not in SIGMA_SCHEDULED:
            detail = f"must be normal with the scheduler {generation.scheduler}, not {generation.sigma_schedule}"
            problems.append(("sigma_schedule", detail))
        if generation.prompt_syntax not in self.prompt_syntaxes:
            supported = " or ".join(self.prompt_syntaxes)
            problems.append(("prompt_syntax", f"must be {supported} with this model, not {generation.prompt_syntax}"))
        raise_for(problems)


class Generation(Struct, frozen=True, kw_only=True):
    """A complete request: the engine generates from it, and the image's metadata records it."""

    prompt: str
    negative_prompt: str
    num_inference_steps: int
    guidance_scale: float
    width: int
    height: int
    seed: int
    scheduler: SchedulerName
    sigma_schedule: SigmaSchedule = "normal"
    prompt_syntax: PromptSyntax = "plain"
    image_format: ImageFormat = "png"

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on; at a scale of 1 it cancels out (Ho & Salimans 2022, eq. 6)."""
        return self.guidance_scale > 1


class ModelIdentity(Struct, frozen=True, kw_only=True):
    """Which weights an endpoint serves."""

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

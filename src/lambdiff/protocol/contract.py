"""The only definition of the wire contract between client and handler.

    request   `POST /` with a `GenerateRequest` as JSON     reply   the image's bytes, and the headers in `headers.py`
              `GET /`                                               `Health` as JSON
                                                            error   `Problem` as JSON, see `problems.py`

The model's `Defaults` fill in the parameters that a request leaves out. The result, a `Generation`, goes to the engine
and is recorded in the image.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from lambdiff.protocol import image_texts, pictures
from lambdiff.protocol.image_decoding import BadImage
from lambdiff.protocol.pictures import Picture
from lambdiff.protocol.validation import parse_object, raise_for, validate_fields

MAX_PROMPT: Final = 2_000
MAX_SEED: Final = 2**32 - 1
MIN_SIZE: Final = 64
MAX_SIZE: Final = 1024
"""Width and height, in pixels."""
MAX_BODY: Final = 64 * 1024
"""Maximum bytes of a request's body without pictures. Two prompts of 2,000 characters, each escaped as
`\\uXXXX\\uXXXX`, are 48,000. With pictures, the limit is `pictures.MAX_BODY`."""
DEFAULT_STRENGTH: Final = 0.75
"""How much a start image changes by default, as in AUTOMATIC1111's web UI."""
MAX_PAYLOAD: Final = 6_291_556
"""Maximum bytes of a buffered reply from Lambda, including base64 and JSON."""

SchedulerName = Literal[
    "ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde", "euler", "euler_ancestral", "heun", "lcm", "pndm", "tcd", "unipc"
]
SigmaSchedule = Literal["normal", "karras", "exponential"]
SIGMA_SCHEDULED: Final[tuple[SchedulerName, ...]] = ("dpmpp_2m", "dpmpp_2m_sde", "euler", "heun", "unipc")
"""The schedulers that take another sigma schedule than `normal`."""
PromptSyntax = Literal["plain", "a1111"]
ImageFormat = image_texts.ImageFormat
NO_PICTURES: Final = "is not taken by this model, which was baked without an image encoder (`lambdiff bake` adds it)"
"""Why a model refuses pictures; continues the field's name."""
PictureUse = Literal["unsupported", "optional", "required"]
"""Whether a model takes a start image or a mask."""
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
Strength = Annotated[
    float,
    Meta(
        ge=0,
        le=1,
        description="How much the start image may change, which is the part of the steps that run; 0.75 by default.",
    ),
]
StartImage = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=pictures.MAX_BODY,
        description="The start image: a PNG, JPEG or WebP file in base64. Without a size, the image gets its shape.",
        extra_json_schema={"contentEncoding": "base64"},
    ),
]
Mask = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=pictures.MAX_BODY,
        description="What to redraw of the start image, in white: a PNG, JPEG or WebP file in base64.",
        extra_json_schema={"contentEncoding": "base64"},
    ),
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
    image: StartImage | None = None
    strength: Strength | None = None
    mask: Mask | None = None
    image_format: Annotated[ImageFormat, Meta(description="The encoding of the reply.")] = "png"

    def __repr__(self) -> str:
        return _short_repr(self)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return _repr_items(self)

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
        if fields.get("image") is None:
            needing = [name for name in ("strength", "mask") if values.get(name) is not None]
            problems += [(name, "needs a start image") for name in needing]
        for kind in pictures.KINDS:
            if values.get(kind) is not None:
                try:
                    Picture(values[kind], kind)
                except BadImage as error:
                    problems.append((kind, str(error)))
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

    def resolve(self, defaults: Defaults, limits: Limits | None = None) -> Generation:
        """Fill in the model's defaults, and a random seed from the operating system.

        The seed must not come from state created at startup: all environments restored from one SnapStart snapshot
        would generate the same images. With a start image, a missing width or height follows from its shape.

        Args:
            defaults: the model's.
            limits: the model's, for a size that follows from the start image.
        """

        def either(value: Any, default: Any) -> Any:
            return default if value is None else value

        scheduler = either(self.scheduler, defaults.scheduler)
        # The model's spacing of the noise levels belongs to its own scheduler.
        sigma_schedule = defaults.sigma_schedule if scheduler == defaults.scheduler else "normal"
        image = None if self.image is None else Picture(self.image, "image")
        if image is None:
            width, height = either(self.width, defaults.width), either(self.height, defaults.height)
        else:
            width, height = (limits or Limits()).size_like(image.size, self.width, self.height, defaults)
        return Generation(
            prompt=self.prompt,
            negative_prompt=either(self.negative_prompt, defaults.negative_prompt),
            num_inference_steps=either(self.num_inference_steps, defaults.num_inference_steps),
            guidance_scale=float(either(self.guidance_scale, defaults.guidance_scale)),
            width=width,
            height=height,
            seed=either(self.seed, secrets.randbelow(MAX_SEED + 1)),
            scheduler=scheduler,
            sigma_schedule=either(self.sigma_schedule, sigma_schedule),
            prompt_syntax=either(self.prompt_syntax, defaults.prompt_syntax),
            image=image,
            strength=None if image is None else float(either(self.strength, DEFAULT_STRENGTH)),
            mask=None if self.mask is None else Picture(self.mask, "mask"),
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

    def sample_request(self, prompt: str, limits: Limits) -> GenerateRequest:
        """Return a request of the default size, with the pictures that the model needs."""
        size: dict[str, Any] = {"width": self.width, "height": self.height}
        return GenerateRequest(prompt=prompt, seed=0, **size, **limits.sample_pictures)


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The values that a model supports, within the contract's own limits."""

    min_size: Pixels = MIN_SIZE
    max_size: Pixels = MAX_SIZE
    schedulers: tuple[SchedulerName, ...] = get_args(SchedulerName)
    prompt_syntaxes: tuple[PromptSyntax, ...] = ("plain",)
    image: PictureUse = "unsupported"
    """Whether the model takes a start image."""
    mask: PictureUse = "unsupported"
    """Whether it takes a mask."""

    def size_like(
        self, shape: tuple[int, int], width: int | None, height: int | None, defaults: Defaults
    ) -> tuple[int, int]:
        """Return the size of an image with the aspect ratio of another one, as far as the limits allow.

        Args:
            shape: (width, height) of the other image.
            width, height: what is given; without both, the image gets as many pixels as with the default size.
            defaults: the model's defaults.

        Returns:
            (width, height), multiples of 8.

        Example:
            >>> defaults = Defaults(
            ...     num_inference_steps=1, guidance_scale=1.0, width=512, height=512, scheduler="euler"
            ... )
            >>> Limits().size_like((3000, 2000), None, None, defaults)
            (624, 416)
        """
        ratio = shape[0] / shape[1]
        if width is None and height is None:
            area = defaults.width * defaults.height
            wide = min(math.sqrt(area * ratio), self.max_size, self.max_size * ratio)
            wide = max(wide, self.min_size, self.min_size * ratio)
            return self._fitted(wide), self._fitted(wide / ratio)
        wide = width if width is not None else self._fitted((height or 0) * ratio)
        return wide, height if height is not None else self._fitted(wide / ratio)

    def _fitted(self, side: float) -> int:
        return min(max(round(side / 8) * 8, -(-self.min_size // 8) * 8), self.max_size // 8 * 8)

    @property
    def sample_pictures(self) -> dict[str, Any]:
        """The fields with the pictures that the model needs, for requests whose result does not matter."""
        needed: dict[str, Any] = {kind: pictures.WHITE for kind in pictures.KINDS if getattr(self, kind) == "required"}
        return {**needed, "strength": 1.0} if needed else {}

    def check_pictures(self, request: GenerateRequest) -> None:
        """Reject a start image or a mask that this model does not take, and a request without one that it needs.

        Raises:
            InvalidRequest: with one entry in `problems` for each bad field.
        """
        problems = []
        for kind in pictures.KINDS:
            use, given = getattr(self, kind), getattr(request, kind) is not None
            if given and use == "unsupported":
                problems.append((kind, NO_PICTURES))
            elif not given and use == "required":
                problems.append((kind, "is required by this model, which was trained to fill in a part of an image"))
        raise_for(problems)

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
        raise_for([*problems, *strength_problems(generation)])


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
    image: Picture | None = None
    strength: float | None = None
    mask: Picture | None = None
    image_format: ImageFormat = "png"

    def __repr__(self) -> str:
        return _short_repr(self)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return _repr_items(self)

    def decode_pictures(self) -> None:
        """Decode the start image and the mask; later uses do not decode them again.

        Raises:
            InvalidRequest: one is damaged or incomplete.
        """
        problems = []
        for kind in pictures.KINDS:
            picture: Picture | None = getattr(self, kind)
            try:
                if picture is not None:
                    picture.decode()
            except BadImage as error:
                problems.append((kind, str(error)))
        raise_for(problems)

    @property
    def steps(self) -> int:
        """How many of the steps run: all, or with a start image those at its end (diffusers' `get_timesteps`)."""
        if self.image is None or self.strength is None:
            return self.num_inference_steps
        return min(int(self.num_inference_steps * self.strength), self.num_inference_steps)

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on; at a scale of 1 it cancels out (Ho & Salimans 2022, eq. 6)."""
        return self.guidance_scale > 1


def strength_problems(generation: Generation) -> list[tuple[str, str]]:
    """Return a problem if the strength leaves no step, and a strength with few digits that leaves one."""
    steps = generation.num_inference_steps
    if generation.steps > 0:
        return []
    least = math.ceil(10_000 / steps) / 10_000
    return [("strength", f"leaves none of the {steps} steps; {least:g} would leave one")]


def _repr_items(struct: Struct) -> list[tuple[str, Any]]:
    """Return the fields for a representation, without megabytes of base64."""
    items = [(name, getattr(struct, name)) for name in struct.__struct_fields__]
    return [
        (name, f"<{len(value):,} characters>" if name in pictures.KINDS and isinstance(value, str) else value)
        for name, value in items
    ]


def _short_repr(struct: Struct) -> str:
    return f"{type(struct).__name__}({', '.join(f'{name}={value!r}' for name, value in _repr_items(struct))})"


class ModelIdentity(Struct, frozen=True, kw_only=True):
    """Which weights an endpoint serves."""

    name: str
    revision: str
    license: str
    digest: str = ""
    """What images depend on, hashed (`Manifest.digest`); empty at endpoints of earlier versions."""


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

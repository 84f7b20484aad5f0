"""The generation parameters for type checkers and completion.

`protocol.contract.GenerateRequest` defines them. The signatures of `Client.generate`, `Client.generate_many` and
`lambdiff.generate` repeat them, because editors and `help()` would not expand `**parameters`; a test compares all of
them with the contract.
"""

# Annotations are evaluated here, so that `Required` works at run time too.
import secrets
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Required, TypedDict, Unpack, cast

from msgspec import Meta

from lambdiff.client.pictures import EncodedPicture, PictureSource, encode_pictures
from lambdiff.errors import InvalidRequest
from lambdiff.protocol.contract import (
    MAX_SEED,
    GenerateRequest,
    ImageFormat,
    PromptSyntax,
    SchedulerName,
    SigmaSchedule,
)
from lambdiff.protocol.validation import checked, raise_for

_MAX_N: Final = 10_000
"""Images of each prompt. A slip should not fill the memory with requests, or pay for a million images."""
_MAX_NAMED: Final = 3
"""The number of bad prompts that a message names."""


class SharedParameters(TypedDict, total=False):
    """The parameters of an image except its prompt; see `Client.generate` for their meaning."""

    negative_prompt: str | None
    num_inference_steps: int | None
    guidance_scale: float | None
    width: int | None
    height: int | None
    seed: int | None
    scheduler: SchedulerName | None
    sigma_schedule: SigmaSchedule | None
    prompt_syntax: PromptSyntax | None
    image: PictureSource | None
    strength: float | None
    mask: PictureSource | None
    image_format: ImageFormat


class GenerationParameters(SharedParameters, total=False):
    """The parameters of one image, as a mapping for `Client.generate_many`; see `Client.generate` for their meaning.

    Example:
        >>> fox: GenerationParameters = {"prompt": "a fox", "seed": 7, "width": 256, "height": 256}
    """

    prompt: Required[str]


def build_request(**parameters: Unpack[GenerationParameters]) -> GenerateRequest:
    """Validate the parameters. A parameter that is None gets the model's default, as if it were left out.

    Raises:
        InvalidRequest: with one entry in `problems` for each bad parameter.

    Example:
        >>> build_request(prompt="a cat in a top hat", seed=None).to_json()
        b'{"prompt":"a cat in a top hat"}'
    """
    return _validated(encode_pictures(parameters))


def build_requests(
    prompts: Iterable[str | GenerationParameters], shared: dict[str, Any], n: int = 1
) -> list[GenerationParameters]:
    """Return the parameters of `n` images of each prompt, validated.

    Args:
        prompts: strings, or mappings whose parameters take precedence over the shared ones.
        shared: parameters for all images.
        n: images of each prompt. With more than one, their seeds are consecutive.

    Raises:
        InvalidRequest: a request is not valid. The message and `problems` name its index.

    Example:
        >>> [request["seed"] for request in build_requests(["a cat", "a dog"], {"seed": 7}, n=2)]
        [7, 8, 7, 8]
    """
    count = checked("n", n, Annotated[int, Meta(ge=1, le=_MAX_N)])
    shared = encode_pictures(shared)  # once, and not for each prompt
    _check_shared(shared)
    requests: list[GenerationParameters] = []
    failed: list[tuple[int, InvalidRequest]] = []
    for index, prompt in enumerate(_checked_list(prompts)):
        try:
            given = {"prompt": prompt} if isinstance(prompt, str) else prompt
            if not isinstance(given, Mapping):
                raise_for([("prompt", f"must be text or a mapping, not {type(prompt).__name__}")])
            fields = encode_pictures({**shared, **given})
            request = _validated(fields)
        except InvalidRequest as error:
            failed.append((index, error))
            continue
        seeds = [request.seed] if count == 1 else consecutive_seeds(request.seed, count)
        requests += [cast(GenerationParameters, {**fields, "seed": seed}) for seed in seeds]
    if failed:
        named = "; ".join(f"prompts[{index}]: {error.message.rstrip('.')}" for index, error in failed[:_MAX_NAMED])
        rest = len(failed) - _MAX_NAMED
        message = f"{named}; and {rest:,} more prompts" if rest > 0 else named
        raise InvalidRequest(
            message if message.endswith("?") else f"{message}.",
            problems=[(f"prompts[{index}].{name}", detail) for index, each in failed for name, detail in each.problems],
        )
    return requests


def _validated(fields: Mapping[str, Any]) -> GenerateRequest:
    texts = {name: value.text if isinstance(value, EncodedPicture) else value for name, value in fields.items()}
    return GenerateRequest.from_fields({name: value for name, value in texts.items() if value is not None})


def _check_shared(shared: Mapping[str, Any]) -> None:
    """Check the parameters for all images: a mistake in these is not that of the first prompt."""
    # Without a shared start image, each prompt may have one of its own.
    needs_image = ("strength", "mask") if shared.get("image") is None else ()
    _validated({"prompt": "any", **{name: value for name, value in shared.items() if name not in needs_image}})


def consecutive_seeds(seed: int | None, n: int) -> list[int]:
    """Return the seeds of `n` images of one prompt: each is one more than the last, and 0 follows 2**32 - 1.

    Args:
        seed: the first; None for a random one.
        n: how many.

    Example:
        >>> consecutive_seeds(2**32 - 2, 3)
        [4294967294, 4294967295, 0]
    """
    first = secrets.randbelow(MAX_SEED + 1) if seed is None else seed
    return [(first + index) % (MAX_SEED + 1) for index in range(n)]


def _checked_list(prompts: Any) -> Iterable[Any]:
    """Refuse a single prompt: a string would be read as one prompt for each of its characters."""
    if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable):
        kind = "text" if isinstance(prompts, str) else type(prompts).__name__
        raise InvalidRequest(
            f"`prompts=` must be a list of prompts, not {kind}.",
            fix='Pass a list, as in generate_many(["a cat"]); `n=4` gives four images of each prompt.',
            problems=[("prompts", f"must be a list of prompts, not {kind}")],
        )
    return prompts

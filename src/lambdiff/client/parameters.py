"""The generation parameters for type checkers and completion.

`protocol.contract.GenerateRequest` defines them. The signatures of `Client.generate`, `Client.generate_many` and
`lambdiff.generate` repeat them, because editors and `help()` would not expand `**parameters`; a test compares all of
them with the contract.
"""

# Annotations are evaluated here, so that `Required` works at run time too.
from typing import Required, TypedDict, Unpack

from lambdiff.protocol.contract import GenerateRequest, ImageFormat, SchedulerName


class GenerationParameters(TypedDict, total=False):
    """The parameters of one image, as a mapping for `Client.generate_many`; see `Client.generate` for their meaning.

    Example:
        >>> fox: GenerationParameters = {"prompt": "a fox", "seed": 7, "width": 256, "height": 256}
    """

    prompt: Required[str]
    negative_prompt: str | None
    num_inference_steps: int | None
    guidance_scale: float | None
    width: int | None
    height: int | None
    seed: int | None
    scheduler: SchedulerName | None
    image_format: ImageFormat


def build_request(**parameters: Unpack[GenerationParameters]) -> GenerateRequest:
    """Validate the parameters. A parameter that is None gets the model's default, as if it were left out.

    Raises:
        InvalidRequest: with one entry in `problems` for each bad parameter.

    Example:
        >>> build_request(prompt="a cat in a top hat", seed=None).to_json()
        b'{"prompt":"a cat in a top hat"}'
    """
    return GenerateRequest.from_fields({name: value for name, value in parameters.items() if value is not None})

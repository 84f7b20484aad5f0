"""The key of an image: names it by everything that was asked for, so that an image that exists is not made again."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from lambdiff.protocol.contract import Generation
from lambdiff.protocol.pictures import Picture

_VERSION: Final = "lambdiff-key-1"
"""Part of every key: changes if the same text would stand for another request."""


def request_key(generation: Generation, model: str) -> str:
    """Return the key of a complete request at one model: 64 hexadecimal digits.

    It is the SHA-256 of a version, the model's digest and the request as JSON with sorted keys, without fields that are
    None. Pictures are named by the hash of their pixels. Equal keys mean equal requests; the bytes of the images are
    equal too if version, processor and number of threads are.

    Args:
        generation: with all defaults and the seed filled in, see `GenerateRequest.resolve`.
        model: the model's digest, `Health.model.digest`.

    Raises:
        BadImage: a picture is damaged or incomplete.
        ValueError: the model has no digest, so that another model could get the same keys.

    Example:
        >>> from lambdiff.protocol.contract import Defaults, GenerateRequest
        >>> defaults = Defaults(num_inference_steps=4, guidance_scale=1, width=256, height=256, scheduler="euler")
        >>> generation = GenerateRequest(prompt="a cat", seed=7).resolve(defaults)
        >>> request_key(generation, "0" * 64)[:16], request_key(generation, "1" * 64)[:16]
        ('d25fff6ef5ddd94a', 'be291d006c47e3b4')
    """
    if not model:
        raise ValueError("the model's digest is empty")
    fields = {name: getattr(generation, name) for name in generation.__struct_fields__}
    named = {name: value.sha256 if isinstance(value, Picture) else value for name, value in fields.items()}
    given = {name: value for name, value in named.items() if value is not None}
    text = msgspec.json.encode(given, order="sorted")
    return hashlib.sha256(b"\n".join([_VERSION.encode(), model.encode(), text])).hexdigest()

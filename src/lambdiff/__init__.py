"""A diffusion model behind an AWS Lambda Function URL, or on this machine.

>>> import lambdiff
>>> image = lambdiff.generate("a cat in a top hat", seed=7)  # doctest: +SKIP
>>> image.save("cat.png")  # doctest: +SKIP

Names load on first use, so that `import lambdiff` costs next to nothing.
"""

from __future__ import annotations

from lambdiff._version import __version__

TYPE_CHECKING = False  # as type checkers read it; importing `typing` would cost more than all the rest
if TYPE_CHECKING:
    from typing import Any

    from lambdiff import errors as errors
    from lambdiff.client.client import Client as Client
    from lambdiff.client.client import Failure as Failure
    from lambdiff.client.client import generate as generate
    from lambdiff.client.image import GeneratedImage as GeneratedImage
    from lambdiff.errors import LambdiffError as LambdiffError

_HOMES = {
    "Client": "lambdiff.client.client",
    "Failure": "lambdiff.client.client",
    "generate": "lambdiff.client.client",
    "GeneratedImage": "lambdiff.client.image",
    "LambdiffError": "lambdiff.errors",
}

__all__ = ["Client", "Failure", "GeneratedImage", "LambdiffError", "__version__", "errors", "generate"]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "errors":
        return importlib.import_module("lambdiff.errors")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lambdiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

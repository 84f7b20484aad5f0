"""Generate images with a diffusion model behind an AWS Lambda Function URL, or on this machine.

>>> import lambdiff
>>> image = lambdiff.generate("a cat in a top hat", seed=7)
>>> image.save("cat.png")
PosixPath('cat.png')

Names are imported on first use, so `import lambdiff` takes almost no time.
"""

from __future__ import annotations

from lambdiff._version import __version__

TYPE_CHECKING = False  # true for type checkers; importing `typing` would take longer than the rest of this module
if TYPE_CHECKING:
    from lambdiff import errors as errors
    from lambdiff.auth.credentials import Keys as Keys
    from lambdiff.batches.api import batch as batch
    from lambdiff.batches.results_folder import ResultLine as ResultLine
    from lambdiff.batches.run import BatchRun as BatchRun
    from lambdiff.client.async_client import AsyncClient as AsyncClient
    from lambdiff.client.batch import Batch as Batch
    from lambdiff.client.batch import Failure as Failure
    from lambdiff.client.client import Client as Client
    from lambdiff.client.image import GeneratedImage as GeneratedImage
    from lambdiff.client.parameters import GenerationParameters as GenerationParameters
    from lambdiff.client.shared import generate as generate
    from lambdiff.client.transport import Transport as Transport
    from lambdiff.errors import AccessDenied as AccessDenied
    from lambdiff.errors import Cancelled as Cancelled
    from lambdiff.errors import ConfigurationError as ConfigurationError
    from lambdiff.errors import CredentialsError as CredentialsError
    from lambdiff.errors import DeployError as DeployError
    from lambdiff.errors import EndpointFailed as EndpointFailed
    from lambdiff.errors import EndpointRefused as EndpointRefused
    from lambdiff.errors import EndpointTimeout as EndpointTimeout
    from lambdiff.errors import EndpointUnreachable as EndpointUnreachable
    from lambdiff.errors import InvalidRequest as InvalidRequest
    from lambdiff.errors import LambdiffError as LambdiffError
    from lambdiff.errors import MalformedRequest as MalformedRequest
    from lambdiff.errors import MetadataError as MetadataError
    from lambdiff.errors import MissingExtra as MissingExtra
    from lambdiff.errors import ModelError as ModelError
    from lambdiff.errors import OutputError as OutputError
    from lambdiff.errors import Throttled as Throttled
    from lambdiff.errors import ToolchainError as ToolchainError
    from lambdiff.protocol.contract import Health as Health
    from lambdiff.protocol.http import HttpResponse as HttpResponse

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "Batch",
    "BatchRun",
    "Cancelled",
    "Client",
    "ConfigurationError",
    "CredentialsError",
    "DeployError",
    "EndpointFailed",
    "EndpointRefused",
    "EndpointTimeout",
    "EndpointUnreachable",
    "Failure",
    "GeneratedImage",
    "GenerationParameters",
    "Health",
    "HttpResponse",
    "InvalidRequest",
    "Keys",
    "LambdiffError",
    "MalformedRequest",
    "MetadataError",
    "MissingExtra",
    "ModelError",
    "OutputError",
    "ResultLine",
    "Throttled",
    "ToolchainError",
    "Transport",
    "__version__",
    "batch",
    "errors",
    "generate",
]

if not TYPE_CHECKING:  # with `__getattr__` visible, a type checker would accept any misspelled name
    # Where each name is defined; names that are not listed here are errors.
    _MODULES = {
        "AsyncClient": "lambdiff.client.async_client",
        "Batch": "lambdiff.client.batch",
        "BatchRun": "lambdiff.batches.run",
        "Client": "lambdiff.client.client",
        "Failure": "lambdiff.client.batch",
        "GeneratedImage": "lambdiff.client.image",
        "GenerationParameters": "lambdiff.client.parameters",
        "Health": "lambdiff.protocol.contract",
        "HttpResponse": "lambdiff.protocol.http",
        "Keys": "lambdiff.auth.credentials",
        "ResultLine": "lambdiff.batches.results_folder",
        "Transport": "lambdiff.client.transport",
        "batch": "lambdiff.batches.api",
        "generate": "lambdiff.client.shared",
    }

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'lambdiff' has no attribute {name!r}")
        import importlib

        if name == "errors":
            return importlib.import_module("lambdiff.errors")
        return getattr(importlib.import_module(_MODULES.get(name, "lambdiff.errors")), name)

    def __dir__() -> list[str]:
        return __all__

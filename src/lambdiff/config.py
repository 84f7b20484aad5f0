"""The deployments saved on this machine, and the source of each setting.

They are saved in one JSON file, `deployments.json`, in `LAMBDIFF_HOME` (by default the user's configuration folder). It
contains no secret, but only its owner can read it, because account ids and URLs are private. Arguments take precedence
over the environment, the environment over the file, and the file over the defaults.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from lambdiff.errors import NOT_JSON, ConfigurationError, InvalidRequest, OutputError
from lambdiff.file_locks import locked
from lambdiff.files import write_atomically

T = TypeVar("T")

NAME_PATTERN: Final = r"^[a-z][a-z0-9-]{0,29}\Z"
"""A deployment's name. The stack and its resources are named after it, hence the length."""


@dataclass(frozen=True)
class Sourced(Generic[T]):
    """A value and where it came from, for `lambdiff status` and error messages.

    Example:
        >>> str(Sourced("us-west-2", "AWS_REGION"))
        'us-west-2 (AWS_REGION)'
    """

    value: T
    source: str

    def __str__(self) -> str:
        return f"{self.value} ({self.source})"


class Deployment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An endpoint that `lambdiff deploy` or `lambdiff configure` saved.

    Attributes:
        name: unique on this machine; see `check_name`.
        url, region: of the Function URL.
        auth: which credentials sign requests: the key pair in `secret_arn`, the role `role_arn`, or the caller's own.
        stack, function_name: None if only the URL is known.
        profile: the AWS profile to read credentials with.
        model: the model's name and revision.
        memory_mb, architecture: of the function; they determine its price.
        timeout_s: the function's own timeout in seconds.
        deployed_at: ISO 8601.
    """

    name: str
    url: str
    region: str
    auth: Literal["key-pair", "role", "caller"] = "caller"
    secret_arn: str | None = None
    role_arn: str | None = None
    stack: str | None = None
    function_name: str | None = None
    profile: str | None = None
    model: str | None = None
    memory_mb: int | None = None
    timeout_s: int = 600
    architecture: Literal["x86_64", "arm64"] | None = None
    deployed_at: str | None = None


class Deployments(Struct, kw_only=True, omit_defaults=True):
    """The content of the file: deployments by name, and the default one."""

    default: str | None = None
    deployments: dict[str, Deployment] = {}

    def get(self, name: str) -> Deployment:
        """Return a deployment by name.

        Raises:
            ConfigurationError: there is no such deployment; the fix lists those that exist.
        """
        try:
            return self.deployments[name]
        except KeyError:
            known = ", ".join(sorted(self.deployments))
            fix = f"Saved here: {known}." if known else "Create one with `lambdiff deploy` or `lambdiff configure`."
            raise ConfigurationError(f"There is no deployment {name!r}.", fix=fix) from None


def check_name(name: str) -> str:
    """Return a deployment's name if it is valid: a lower-case letter, then at most 29 letters, digits and hyphens.

    Raises:
        InvalidRequest: it is not valid.

    Example:
        >>> check_name("my-model")
        'my-model'
    """
    if not re.match(NAME_PATTERN, name):
        raise InvalidRequest(
            f"{name!r} is not a valid deployment name.",
            fix="Use at most 30 lower-case letters, digits and hyphens, starting with a letter.",
        )
    return name


def home() -> Path:
    """Return the folder with all of lambdiff's state."""
    if chosen := os.environ.get("LAMBDIFF_HOME"):
        return Path(chosen).expanduser()
    import platformdirs

    return platformdirs.user_config_path("lambdiff", appauthor=False)


def cache_home() -> Path:
    """Return the folder for files that can be made again at any time."""
    if chosen := os.environ.get("LAMBDIFF_HOME"):
        return Path(chosen).expanduser() / "cache"
    import platformdirs

    return platformdirs.user_cache_path("lambdiff", appauthor=False)


def path() -> Path:
    """Return the path of the deployments file, which may not exist yet."""
    return home() / "deployments.json"


def load() -> Deployments:
    """Read the deployments file; without a file there are no deployments.

    Raises:
        ConfigurationError: the file exists but cannot be read.
    """
    try:
        return msgspec.json.decode(path().read_bytes(), type=Deployments)
    except FileNotFoundError:
        return Deployments()
    except (OSError, *NOT_JSON) as error:
        raise ConfigurationError(
            f"{path()} cannot be read: {error}.", fix="Repair or delete it, then run `lambdiff configure` again."
        ) from None


@contextlib.contextmanager
def change() -> Iterator[Deployments]:
    """Yield the saved deployments, and write them when the block ends. Other processes wait, so no change is lost.

    Raises:
        ConfigurationError: the file cannot be read or written.
    """
    try:
        with locked(path()):
            saved = load()
            yield saved
            content = msgspec.json.format(msgspec.json.encode(saved), indent=2) + b"\n"
            write_atomically(path(), content, force=True, mode=0o600)
    except OutputError as error:
        raise ConfigurationError(
            error.message, fix="Try again, or set LAMBDIFF_HOME to a folder that you can write to."
        ) from None


def save(deployment: Deployment) -> Path:
    """Add or replace a deployment, make it the default, and return the file's path.

    Raises:
        ConfigurationError: the file cannot be read or written.
    """
    with change() as saved:
        saved.deployments[deployment.name] = deployment
        saved.default = deployment.name
    return path()


def remove(name: str) -> None:
    """Remove a deployment; if it was the default, another one becomes the default.

    Raises:
        ConfigurationError: the file cannot be read or written.
    """
    with change() as saved:
        saved.deployments.pop(name, None)
        if saved.default == name:
            saved.default = next(iter(saved.deployments), None)


def choose_deployment(name: str | None = None) -> Sourced[Deployment] | None:
    """Return the deployment to use: the named one, the one in `LAMBDIFF_DEPLOYMENT`, the default, or None.

    Raises:
        ConfigurationError: the named deployment does not exist.
    """
    if name:
        return Sourced(load().get(name), "`deployment=`")
    if name := os.environ.get("LAMBDIFF_DEPLOYMENT"):
        return Sourced(load().get(name), "LAMBDIFF_DEPLOYMENT")
    saved = load()
    return Sourced(saved.get(saved.default), str(path())) if saved.default else None

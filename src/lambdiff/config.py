"""What this machine knows about deployments, and where each setting of a call comes from.

One JSON file, `deployments.json`, in `LAMBDIFF_HOME` (default: the user's configuration folder). It holds no
secret; it is still readable by its owner alone, because account ids and URLs are nobody else's business.
A flag beats the environment, the environment beats the file, the file beats the default.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from lambdiff.errors import NOT_JSON, ConfigurationError, InvalidRequest, OutputError
from lambdiff.files import write_whole

T = TypeVar("T")

NAME_PATTERN: Final = r"^[a-z][a-z0-9-]{0,29}\Z"
"""A deployment's name. The names of the stack and of everything in it are made from it, hence the length."""


@dataclass(frozen=True)
class Sourced(Generic[T]):
    """A value and where it came from, for `lambdiff status` and error messages."""

    value: T
    source: str

    def __str__(self) -> str:
        return f"{self.value} ({self.source})"


def check_name(name: str) -> str:
    """Return a deployment's name if `NAME_PATTERN` allows it.

    Raises:
        InvalidRequest: it does not.

    Example:
        >>> check_name("my-model")
        'my-model'
    """
    if not re.match(NAME_PATTERN, name):
        raise InvalidRequest(
            f"{name!r} is not a valid deployment name.",
            fix="Use at most 30 lower-case letters, digits and hyphens, with a letter first.",
        )
    return name


class Deployment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An endpoint this machine knows: what `deploy` saved or `configure` was told."""

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
    """The file: deployments by name, and the one that is used when none is named."""

    default: str | None = None
    deployments: dict[str, Deployment] = {}

    def get(self, name: str) -> Deployment:
        """One deployment by name.

        Raises:
            ConfigurationError: there is no such deployment; the fix lists those that there are.
        """
        try:
            return self.deployments[name]
        except KeyError:
            known = (
                ", ".join(sorted(self.deployments)) or "none yet: `lambdiff deploy` or `lambdiff configure` makes one"
            )
            raise ConfigurationError(f"There is no deployment {name!r}.", fix=f"Known here: {known}.") from None


def home() -> Path:
    """The folder with all of lambdiff's state."""
    if chosen := os.environ.get("LAMBDIFF_HOME"):
        return Path(chosen).expanduser()
    import platformdirs

    return platformdirs.user_config_path("lambdiff", appauthor=False)


def path() -> Path:
    """The file of deployments."""
    return home() / "deployments.json"


def load() -> Deployments:
    """Read the file; a missing one is empty.

    Raises:
        ConfigurationError: the file is there but cannot be read.
    """
    try:
        return msgspec.json.decode(path().read_bytes(), type=Deployments)
    except FileNotFoundError:
        return Deployments()
    except (OSError, *NOT_JSON) as error:
        raise ConfigurationError(
            f"{path()} cannot be read: {error}.", fix="Repair or delete it, then run `lambdiff configure` again."
        ) from None


def save(deployment: Deployment) -> Path:
    """Add or replace a deployment, and make it the default."""
    known = load()
    known.deployments[deployment.name] = deployment
    known.default = deployment.name
    return _write(known)


def remove(name: str) -> None:
    """Forget a deployment; the default moves to another one if there is one."""
    known = load()
    known.deployments.pop(name, None)
    if known.default == name:
        known.default = next(iter(known.deployments), None)
    _write(known)


def _write(known: Deployments) -> Path:
    content = msgspec.json.format(msgspec.json.encode(known), indent=2) + b"\n"
    try:
        return write_whole(path(), content, force=True, mode=0o600)
    except OutputError as error:
        raise ConfigurationError(error.message, fix="Name a folder of yours with LAMBDIFF_HOME.") from None


def choose_deployment(name: str | None = None) -> Sourced[Deployment] | None:
    """The deployment a call uses: the named one, `LAMBDIFF_DEPLOYMENT`, or the file's default; None if there is none.

    Raises:
        ConfigurationError: a deployment was named that does not exist.
    """
    if name:
        return Sourced(load().get(name), "`deployment=`")
    if name := os.environ.get("LAMBDIFF_DEPLOYMENT"):
        return Sourced(load().get(name), "LAMBDIFF_DEPLOYMENT")
    known = load()
    return Sourced(known.get(known.default), str(path())) if known.default else None

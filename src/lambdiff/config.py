"""The deployments saved on this machine, and the source of each setting.

They are saved in one JSON file, `deployments.json`, in `LAMBDIFF_HOME` (by default the user's configuration folder). It
contains no secret, but only its owner can read it, because account ids and URLs are private, and it is not used if
others can change it. Arguments take precedence over the environment, the environment over the file, and the file over
the defaults.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from lambdiff import environment, trusted_files
from lambdiff.errors import NOT_JSON, ConfigurationError, InvalidRequest, OutputError
from lambdiff.file_locks import locked
from lambdiff.files import write_atomically

T = TypeVar("T")

NAME_PATTERN: Final = r"^[a-z][a-z0-9-]{0,29}\Z"
"""A deployment's name. The stack and its resources are named after it, hence the length."""
_NAME_RULE: Final = "Use at most 30 lower-case letters, digits and hyphens, starting with a letter."
_NO_HOME: Final = Path(os.devnull) / "lambdiff"


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
    memory_mb: Annotated[int, Meta(ge=1)] | None = None
    timeout_s: Annotated[int, Meta(ge=1)] = 600
    architecture: Literal["x86_64", "arm64"] | None = None
    deployed_at: str | None = None

    @property
    def shown_url(self) -> str:
        """The URL for output: without the password that somebody may have added to the file."""
        return environment.redacted(self.url)


class Deployments(Struct, kw_only=True, omit_defaults=True):
    """The content of the file: deployments by name, and the default one."""

    default: str | None = None
    deployments: dict[str, Deployment] = {}

    def get(self, name: Sourced[str]) -> Sourced[Deployment]:
        """Return a deployment by name.

        Raises:
            ConfigurationError: there is no such deployment; the fix lists those that exist.
        """
        try:
            return Sourced(self.deployments[name.value], name.source)
        except KeyError:
            known = ", ".join(sorted(self.deployments))
            fix = f"Saved here: {known}." if known else "Create one with `lambdiff deploy` or `lambdiff configure`."
            shown = environment.quoted(name.value)
            raise ConfigurationError(f"There is no deployment {shown} ({name.source}).", fix=fix) from None


def check_name(name: str, source: str = "") -> str:
    """Return a deployment's name if it is valid: a lower-case letter, then at most 29 letters, digits and hyphens.

    Args:
        name: what to check.
        source: where it comes from, for the error; empty if that is obvious.

    Raises:
        InvalidRequest: it is not valid.

    Example:
        >>> check_name("my-model")
        'my-model'
    """
    if not re.match(NAME_PATTERN, name):
        origin = f" ({source})" if source else ""
        raise InvalidRequest(f"{environment.quoted(name)} is not a valid deployment name{origin}.", fix=_NAME_RULE)
    return name


def home() -> Path:
    """Return the folder with all of lambdiff's state, which may not exist yet.

    Without a home folder, this is a path that cannot exist: nothing is read, and nothing can be saved.

    Raises:
        ConfigurationError: `LAMBDIFF_HOME` is not a path.
    """
    if chosen := environment.read_path("LAMBDIFF_HOME"):
        return chosen
    import platformdirs

    return _absolute(lambda: platformdirs.user_config_path("lambdiff", appauthor=False))


def cache_home() -> Path:
    """Return the folder for files that can be made again at any time; without a home folder, as `home`.

    Raises:
        ConfigurationError: as `home`.
    """
    if chosen := environment.read_path("LAMBDIFF_HOME"):
        return chosen / "cache"
    import platformdirs

    return _absolute(lambda: platformdirs.user_cache_path("lambdiff", appauthor=False))


def require_home() -> None:
    """Create the folder if necessary, and check that state can be kept there, before work that would be lost.

    Raises:
        ConfigurationError: the folder cannot be written to, or other users can change it.
    """
    folder = home()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        trusted_files.check_folder(folder)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise ConfigurationError(
            f"The folder for lambdiff's state, {folder}, cannot be written to.",
            fix="Set LAMBDIFF_HOME to a folder that you can write to.",
        )


def path() -> Path:
    """Return the path of the deployments file, which may not exist yet.

    Raises:
        ConfigurationError: as `home`.
    """
    return home() / "deployments.json"


def load() -> Deployments:
    """Read the deployments file; without a file there are no deployments.

    Raises:
        ConfigurationError: the file exists but cannot be read, is not valid, or can be changed by other users.
    """
    file = path()
    try:
        saved = msgspec.json.decode(trusted_files.read(file), type=Deployments)
    except FileNotFoundError:
        return Deployments()
    except OSError as error:
        if _is_out_of_reach(file):
            return Deployments()
        raise ConfigurationError(
            f"{_shown(file)} cannot be read: {error.strerror}.", fix="Make it readable, or set LAMBDIFF_HOME."
        ) from None
    except NOT_JSON as error:
        raise ConfigurationError(
            f"{_shown(file)} cannot be read: {error}.", fix="Repair or delete it, then run `lambdiff configure` again."
        ) from None
    for name, deployment in saved.deployments.items():
        if name != deployment.name or not re.match(NAME_PATTERN, name):
            raise ConfigurationError(
                f"{_shown(file)} contains an entry with the invalid name {environment.quoted(name)}.",
                fix=f"Rename it. {_NAME_RULE}",
            )
    return saved


@contextlib.contextmanager
def change() -> Iterator[Deployments]:
    """Yield the saved deployments, and write them when the block ends. Other processes wait, so no change is lost.

    Raises:
        ConfigurationError: the file cannot be read or written.
    """
    try:
        with locked(path()):
            saved = load()
            _check_folder()
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
        _remove(saved, name)


def forget(names: Sequence[str]) -> None:
    """Remove deployments from this machine, all or none; if one was the default, another one becomes the default.

    Raises:
        ConfigurationError: one of them does not exist, or the file cannot be read or written.
    """
    with change() as saved:
        for name in names:
            saved.get(Sourced(name, str(path())))
        for name in names:
            _remove(saved, name)


def set_default(name: str) -> Deployment:
    """Make a saved deployment the default one, and return it.

    Raises:
        ConfigurationError: there is no such deployment, or the file cannot be read or written.
    """
    with change() as saved:
        chosen = saved.get(Sourced(name, str(path()))).value
        saved.default = name
    return chosen


def choose_deployment(name: str | None = None) -> Sourced[Deployment] | None:
    """Return the deployment to use: the named one, the one in `LAMBDIFF_DEPLOYMENT`, the default, or None.

    Raises:
        ConfigurationError: the named deployment does not exist.
    """
    saved = load()
    named = name_from_caller(name)
    if named is None and saved.default:
        named = Sourced(saved.default, str(path()))
    return saved.get(named) if named else None


def name_from_caller(name: str | None) -> Sourced[str] | None:
    """Return the deployment's name in the argument or in `LAMBDIFF_DEPLOYMENT`; None if neither has one."""
    if given := environment.argument(name, "`deployment=`"):
        return Sourced(given, "`deployment=`")
    if given := environment.read("LAMBDIFF_DEPLOYMENT"):
        return Sourced(given, "LAMBDIFF_DEPLOYMENT")
    return None


def _remove(saved: Deployments, name: str) -> None:
    saved.deployments.pop(name, None)
    if saved.default == name:
        saved.default = next(iter(saved.deployments), None)


def _check_folder() -> None:
    """Do not save what would not be read: the folder may be one that others can change."""
    with contextlib.suppress(OSError):  # what is wrong with the folder, the attempt to write says
        trusted_files.check_folder(home())


def _absolute(find: Callable[[], Path]) -> Path:
    try:
        folder = find()
    except RuntimeError:  # the user is not in the password database, and HOME is not set
        return _NO_HOME
    return folder if folder.is_absolute() else _NO_HOME


def _is_out_of_reach(file: Path) -> bool:
    """Whether the default home folder cannot be entered, so that nothing can have been saved in it by this user.

    In containers, the home folder is often missing, /dev/null, or that of another user.
    """
    if environment.read("LAMBDIFF_HOME"):
        return False
    try:
        file.lstat()
    except OSError:
        return True
    return False


def _shown(file: Path) -> str:
    """The path of the deployments file, with the variable that it comes from."""
    return f"{file} (LAMBDIFF_HOME)" if environment.read("LAMBDIFF_HOME") else str(file)

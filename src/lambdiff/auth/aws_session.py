"""Open boto3 sessions: the only door to AWS's SDK, behind which files and variables are known to be usable."""

from __future__ import annotations

import configparser
import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from lambdiff import environment
from lambdiff.auth import aws_files, aws_settings
from lambdiff.auth.ca_bundle import choose_ca_bundle
from lambdiff.auth.key_format import IN_ENVIRONMENT, KeyNames, check_keys, names_from
from lambdiff.config import Deployment, Sourced
from lambdiff.errors import CredentialsError
from lambdiff.loopback import is_this_machine
from lambdiff.printable import printable

if TYPE_CHECKING:
    import boto3
    from botocore.credentials import ReadOnlyCredentials
    from botocore.session import Session

_PROFILE_VARIABLES: Final = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")  # in botocore's order


def choose_profile(profile: str | None, deployment: Deployment | None = None) -> Sourced[str] | None:
    """Return the AWS profile to use and its source: the argument, or the one saved with the deployment.

    Variables that name an identity take precedence over the deployment. Then, and if nothing is known, the result is
    None: boto3 looks for credentials in its usual order.

    Raises:
        ConfigurationError: the name contains a control character.

    Example:
        >>> str(choose_profile("work"))
        'work (`profile=`)'
    """
    if given := environment.argument(profile, "`profile=`"):
        return Sourced(given, "`profile=`")
    if _profile_in_environment() or os.environ.get("AWS_ACCESS_KEY_ID"):
        return None
    if deployment and (saved := environment.one_line(deployment.profile, f"The profile of {deployment.name}")):
        return Sourced(saved, f"deployment {deployment.name}")
    return None


class AwsSession:
    """A boto3 session whose settings have been checked.

    Call its methods where exceptions of boto3 are translated.

    Args:
        opened: the boto3 session.
    """

    def __init__(self, opened: boto3.Session) -> None:
        self._opened = opened
        self._core: Session = opened._session
        self._limited = False

    @property
    def profile(self) -> str:
        """The name of the profile."""
        return str(self._core.profile or "default")

    def region(self) -> Sourced[str] | None:
        """Return the region of the profile.

        Raises:
            ConfigurationError: it contains a control character.
        """
        if self._opened.region_name is None:
            return None
        value = environment.one_line(self._opened.region_name, f"region of {aws_files.describe(self.profile)}")
        return Sourced(value, f"profile {self.profile}") if value else None

    def client(self, service: Any, region: str) -> Any:
        """Return a client for a service in a region. Calls to this machine do not go through a proxy."""
        from botocore.config import Config

        self._limit_providers()
        # Without `verify`, botocore would read variables by itself, and refuse an empty one.
        options: dict[str, Any] = {"region_name": region, "verify": _ca_bundle(self._core) or True}
        client = self._opened.client(service, **options)
        if is_this_machine(urlsplit(client.meta.endpoint_url).hostname or ""):
            client = self._opened.client(service, **options, config=Config(proxies={}))
        return client

    def keys(self) -> tuple[ReadOnlyCredentials, str] | None:
        """Return the keys that the session signs with, and botocore's name for their source; None if there are none.

        Raises:
            CredentialsError: they contain a character that no key has.
        """
        self._limit_providers()
        found = self._opened.get_credentials()
        if found is None:
            return None
        frozen = found.get_frozen_credentials()
        check_keys(frozen.access_key, frozen.secret_key, frozen.token, _names(found.method, self.profile))
        return frozen, found.method

    def _limit_providers(self) -> None:
        if not self._limited:
            from lambdiff.auth import provider_limits

            provider_limits.apply(self._core)
            self._limited = True


def open_session(profile: Sourced[str] | None = None, region: str | None = None) -> AwsSession:
    """Open a boto3 session.

    Args:
        profile: takes precedence over keys in the environment.
        region: for calls that botocore makes by itself, such as assuming the role of a profile.

    Raises:
        ConfigurationError: a setting in a variable or in the profile is not valid.
        CredentialsError: there is no such profile, or a file with profiles cannot be read.
    """
    import boto3

    core = _open_core(profile)
    if region:
        core.set_config_variable("region", region)
    _ca_bundle(core)
    return AwsSession(boto3.Session(botocore_session=core))


def ca_bundle(profile: Sourced[str] | None = None) -> str | None:
    """Return the file or folder of trusted certificates, of which one may be set in the profile.

    Raises:
        ConfigurationError, CredentialsError: as `open_session`, or the file cannot be used.
    """
    return _ca_bundle(_open_core(profile))


def why_no_keys() -> str:
    """Return what may explain that no credentials were found, as sentences for the end of a message."""
    notes = [f"{path} may not be read." for path in aws_files.unreadable()]
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        notes.append("The keys in the environment are not used if a profile is chosen, and the profile has none.")
    elif os.environ.get("AWS_SECRET_ACCESS_KEY") or os.environ.get("AWS_SESSION_TOKEN"):
        notes.append("AWS_ACCESS_KEY_ID is not set, but another part of the key is.")
    return "".join(f" {note}" for note in notes)


def _open_core(profile: Sourced[str] | None) -> Session:
    """Open the botocore session that a boto3 session uses, and check everything that it reads."""
    from botocore import session
    from botocore.exceptions import BotoCoreError

    environment.check_connections()
    aws_files.check()
    named = profile or _profile_in_environment()
    # The default takes the place of the variables, so that whitespace around a name in them does not matter.
    core = session.Session(session_vars={"profile": (None, None, named.value if named else None, None)})
    if profile:
        core.set_config_variable("profile", profile.value)
    try:
        config = core.full_config
    except BotoCoreError as error:
        raise CredentialsError(
            f"The AWS configuration cannot be read: {_why_unreadable(error)}.",
            fix="Repair the file, or set AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE to another one.",
        ) from None
    if named and named.value not in config["profiles"]:
        raise _no_such_profile(named, sorted(config["profiles"]))
    aws_settings.check(core.profile or "default", config)
    return core


def _ca_bundle(core: Session) -> str | None:
    return choose_ca_bundle(aws_settings.ca_bundle(core.profile or "default", core.full_config))


def _profile_in_environment() -> Sourced[str] | None:
    for name in _PROFILE_VARIABLES:
        if value := environment.read(name):
            return Sourced(value, name)
    return None


def _names(method: str, profile: str) -> KeyNames:
    if method == "env":
        # botocore reads the old name of the token first.
        token = next((name for name in ("AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN") if os.environ.get(name)), "")
        return KeyNames("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", token or "AWS_SESSION_TOKEN")
    if method in ("shared-credentials-file", "config-file"):
        place = aws_files.describe(profile, credentials_first=method == "shared-credentials-file")
        return KeyNames(*(f"{name.lower()} of {place}" for name in IN_ENVIRONMENT))
    return names_from(f"profile {profile} ({method})")


def _no_such_profile(profile: Sourced[str], known: list[str]) -> CredentialsError:
    names = printable(", ".join(known))
    fix = f"Choose one of: {names}." if known else "Create it with `aws configure --profile NAME`."
    unreadable = "".join(f" {path} may not be read." for path in aws_files.unreadable())
    return CredentialsError(
        f"There is no AWS profile {environment.quoted(profile.value)} ({profile.source}).{unreadable}", fix=fix
    )


def _why_unreadable(error: Any) -> str:
    """Name the file and the line, but do not quote it: it may contain a key."""
    cause = error.kwargs.get("error")
    path = error.kwargs.get("path", error)
    line = getattr(cause, "lineno", None)
    match cause:
        case UnicodeDecodeError():
            reason = "it is not UTF-8 text"
        case configparser.MissingSectionHeaderError():
            reason = "it does not begin with a section such as [default], or has a byte order mark before it"
        case configparser.DuplicateSectionError() | configparser.DuplicateOptionError():
            reason = "a section or a key occurs twice"
        case _:
            reason = "it is not in the format of AWS's configuration files"
    return f"{path}{f', line {line}' if line else ''}: {reason}"

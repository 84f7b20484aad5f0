"""Who signs a request: keys that were given, the stack's secret, a role, or the caller's own AWS identity.

Keys live in memory only: never in a file, a log, an error message or a `repr`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lambdiff.errors import CredentialsError

if TYPE_CHECKING:
    import boto3
    from botocore.credentials import ReadOnlyCredentials


class Signer(Protocol):
    """A source of credentials.

    Attributes:
        source: where the keys come from, in words, for `lambdiff status` and error messages.
    """

    source: str

    def get(self) -> ReadOnlyCredentials:
        """The keys to sign with now.

        Raises:
            CredentialsError: there are none, or they cannot be read.
        """

    def refresh(self) -> bool:
        """Forget what is kept, after a 403. False where reading it again could change nothing."""


class Keys(NamedTuple):
    """A key pair, with a session token if it is temporary. Its `repr` shows the key id at most."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"Keys(access_key_id={self.access_key_id!r})"


class GivenKeys:
    """Keys the program passed in: `Keys`, botocore credentials, or a boto3 session."""

    source = "given to Client"

    def __init__(self, given: Any) -> None:
        if isinstance(given, tuple):
            given = _frozen(*given)
        elif hasattr(given, "get_credentials"):
            given = given.get_credentials()
        if given is None or not (hasattr(given, "get_frozen_credentials") or hasattr(given, "access_key")):
            raise CredentialsError(
                "The credentials given are of no usable kind.",
                fix="Pass lambdiff.auth.credentials.Keys(id, secret, token), botocore credentials or a boto3 session.",
            )
        self._given = given

    def get(self) -> ReadOnlyCredentials:
        """The given keys, renewed by botocore where it knows how."""
        return _freeze(self._given)

    def refresh(self) -> bool:
        """Given keys stay what they are."""
        return False


class CallerKeys:
    """The caller's own identity, found the way every AWS tool finds it (environment, profile, SSO, instance role)."""

    def __init__(self, profile: str | None = None) -> None:
        self._profile = profile
        self._session: boto3.Session | None = None
        self.source = f"profile {profile}" if profile else "your AWS credentials"

    def get(self) -> ReadOnlyCredentials:
        """The caller's keys, renewed by botocore."""
        self._session = self._session or session(self._profile)
        with _Translated("Your AWS credentials"):
            found = self._session.get_credentials()
            if found is None:
                raise CredentialsError(
                    "There are no AWS credentials to sign with.",
                    fix="Sign in (`aws sso login`, `aws configure`), set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                    "or draw on this machine with --local.",
                )
            self.source = f"profile {self._profile}" if self._profile else f"your AWS credentials ({found.method})"
            return _freeze(found)

    def refresh(self) -> bool:
        """Look again: the profile may have been renewed since."""
        self._session = None
        return True


class SecretKeys:
    """The invoker's key pair that a deployment keeps in Secrets Manager; read once, and again after a 403."""

    def __init__(self, secret_arn: str, region: str, profile: str | None = None) -> None:
        self._arn, self._region, self._profile = secret_arn, region, profile
        self._lock = threading.Lock()
        self._keys: ReadOnlyCredentials | None = None
        self.source = f"secret {secret_arn.rsplit(':', 1)[-1]}"

    def get(self) -> ReadOnlyCredentials:
        """The pair, read from Secrets Manager at the first call."""
        with self._lock:
            if self._keys is None:
                self._keys = self._read()
            return self._keys

    def refresh(self) -> bool:
        """Read the secret again next time: the pair may have been rotated."""
        with self._lock:
            self._keys = None
        return True

    def _read(self) -> ReadOnlyCredentials:
        with _Translated(f"The secret {self._arn}"):
            client = session(self._profile).client("secretsmanager", region_name=self._region)
            text = client.get_secret_value(SecretId=self._arn)["SecretString"]
        try:
            pair = json.loads(text)
            return _frozen(pair["AWS_ACCESS_KEY_ID"], pair["AWS_SECRET_ACCESS_KEY"])
        except (ValueError, KeyError, TypeError):
            raise CredentialsError(
                f"The secret {self._arn} does not hold AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
                fix="Write the pair again with `lambdiff rotate`.",
            ) from None


class RoleKeys:
    """Temporary keys of the stack's invoker role, assumed by the caller and renewed before they run out."""

    def __init__(self, role_arn: str, region: str, profile: str | None = None) -> None:
        self._arn, self._region, self._profile = role_arn, region, profile
        self._lock = threading.Lock()
        self._credentials: Any = None
        self.source = f"role {role_arn.rsplit('/', 1)[-1]}"

    def get(self) -> ReadOnlyCredentials:
        """The role's keys; botocore renews them fifteen minutes before their end."""
        from botocore.credentials import RefreshableCredentials

        with self._lock, _Translated(f"The role {self._arn}"):
            if self._credentials is None:
                self._credentials = RefreshableCredentials.create_from_metadata(
                    self._assume(), refresh_using=self._assume, method="sts-assume-role"
                )
            return _freeze(self._credentials)

    def refresh(self) -> bool:
        """Assume the role again next time."""
        with self._lock:
            self._credentials = None
        return True

    def _assume(self) -> dict[str, str]:
        sts = session(self._profile).client("sts", region_name=self._region)
        keys = sts.assume_role(RoleArn=self._arn, RoleSessionName="lambdiff")["Credentials"]
        return {
            "access_key": keys["AccessKeyId"],
            "secret_key": keys["SecretAccessKey"],
            "token": keys["SessionToken"],
            "expiry_time": keys["Expiration"].isoformat(),
        }


def session(profile: str | None = None, region: str | None = None) -> boto3.Session:
    """A boto3 session.

    Raises:
        CredentialsError: there is no such profile.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ProfileNotFound

    try:
        made = boto3.Session(profile_name=profile, region_name=region)
        made.region_name  # noqa: B018 (reads the configuration file, which may be damaged)
    except ProfileNotFound as error:
        raise CredentialsError(f"{error}.", fix="Choose one of `aws configure list-profiles`.") from None
    except BotoCoreError as error:
        raise CredentialsError(
            f"The AWS configuration cannot be read: {error}", fix="Repair ~/.aws/config or AWS_CONFIG_FILE."
        ) from None
    return made


class _Translated:
    """Turns botocore's exceptions into a `CredentialsError` that says what to do."""

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        if isinstance(error, NoCredentialsError):
            raise CredentialsError(
                f"{self._subject} cannot be used without AWS credentials, and there are none.",
                fix="Sign in first: `aws sso login`, `aws configure`, or --profile.",
            ) from None
        if isinstance(error, ClientError):
            code = error.response.get("Error", {}).get("Code", "unknown error")
            raise CredentialsError(
                f"{self._subject} cannot be used: {code}.", fix=_ADVICE.get(code, "Try `lambdiff doctor`.")
            ) from None
        if isinstance(error, BotoCoreError):
            raise CredentialsError(
                f"{self._subject} cannot be used: {error}", fix="Check the profile and the network, or sign in again."
            ) from None


_ADVICE = {
    "AccessDeniedException": "Ask for secretsmanager:GetSecretValue on this secret.",
    "AccessDenied": "Ask to be named in the role's trust policy, and for sts:AssumeRole.",
    "ResourceNotFoundException": "The deployment may be gone, or in another region: `lambdiff status`.",
    "ExpiredToken": "Your AWS session has run out: sign in again.",
    "ExpiredTokenException": "Your AWS session has run out: sign in again.",
    "UnrecognizedClientException": "Your AWS keys are not valid: sign in again.",
    "InvalidClientTokenId": "Your AWS keys are not valid: sign in again.",
}


def _frozen(access_key_id: str, secret_access_key: str, session_token: str | None = None) -> ReadOnlyCredentials:
    from botocore.credentials import ReadOnlyCredentials

    return ReadOnlyCredentials(access_key_id, secret_access_key, session_token)


def _freeze(credentials: Any) -> ReadOnlyCredentials:
    freeze: Callable[[], ReadOnlyCredentials] | None = getattr(credentials, "get_frozen_credentials", None)
    return freeze() if freeze else credentials

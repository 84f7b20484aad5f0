"""The credentials that sign a request: passed by the caller, from the stack's secret or role, or the caller's own.

Secret keys stay in memory: never in a file, a log, an error message or a `repr`.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from lambdiff import forks
from lambdiff.auth import aws_session
from lambdiff.auth.aws_session import AwsSession
from lambdiff.auth.credential_errors import translated
from lambdiff.auth.key_format import check_keys, names_from
from lambdiff.config import Sourced
from lambdiff.errors import CredentialsError

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from types_boto3_secretsmanager.type_defs import GetSecretValueResponseTypeDef


class Keys(NamedTuple):
    """A key pair, with a session token if it is temporary. Its `repr` shows only the access key id.

    Example:
        >>> Keys("AKIDEXAMPLE", "secret")
        Keys(access_key_id='AKIDEXAMPLE')
    """

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"Keys(access_key_id={self.access_key_id!r})"


def parse_key_pair(text: str) -> Keys:
    """Parse the text of a deployment's secret: a JSON object with the names of the AWS environment variables.

    Raises:
        ValueError: it is not JSON, or a half of the pair is missing. The message does not quote the text.

    Example:
        >>> parse_key_pair('{"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}')
        Keys(access_key_id='AKIDEXAMPLE')
    """
    try:
        pair = json.loads(text)
        return Keys(str(pair["AWS_ACCESS_KEY_ID"]), str(pair["AWS_SECRET_ACCESS_KEY"]))
    except (ValueError, KeyError, TypeError):
        raise ValueError("the secret does not hold AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from None


KEY_SPREAD_S: Final = 90.0
"""Maximum seconds until all of AWS accepts a new access key."""


class CredentialSource(Protocol):
    """Provides credentials, and renews them if it can.

    Attributes:
        source: describes where they come from, for `lambdiff status` and error messages.
    """

    source: str

    def get(self) -> ReadOnlyCredentials:
        """Return the credentials to sign with now.

        Raises:
            CredentialsError: there are none, or they cannot be read.
        """

    def refresh(self) -> bool:
        """Discard cached credentials after a 403. Return False if reading them again cannot help."""

    def is_new(self) -> bool:
        """Return whether the credentials are so new that parts of AWS may not know them yet."""


class GivenCredentials:
    """Credentials that the caller passed in: `Keys`, botocore credentials, or a boto3 session."""

    source = "given to Client"

    def __init__(self, given: Any) -> None:
        if isinstance(given, tuple) and len(given) in (2, 3):
            given = _read_only(*given)
        elif hasattr(given, "get_credentials"):
            with translated("The session in `credentials=`"):
                given = given.get_credentials()
            if given is None:
                raise CredentialsError(
                    "The session in `credentials=` has no AWS credentials.", fix="Sign in, or pass lambdiff.Keys."
                )
        if not (hasattr(given, "get_frozen_credentials") or hasattr(given, "access_key")):
            raise CredentialsError(
                "`credentials=` has an unsupported type.",
                fix="Pass lambdiff.Keys(id, secret, token), botocore credentials or a boto3 session.",
            )
        self._given = given

    def get(self) -> ReadOnlyCredentials:
        """Return the given credentials, renewed by botocore if it can."""
        with translated("What is in `credentials=`"):
            return _checked(_freeze(self._given), "`credentials=`")

    def refresh(self) -> bool:
        """Return False: given credentials do not change."""
        return False

    def is_new(self) -> bool:
        """Return False: it is not known when they were created."""
        return False


class CallerCredentials:
    """The caller's own AWS identity, found as in any AWS tool (environment, profile, SSO, instance role)."""

    def __init__(self, profile: Sourced[str] | None = None, region: str | None = None) -> None:
        self._profile, self._region = profile, region
        self._session: AwsSession | None = None
        forks.renew_in_children(self)
        self.source = f"profile {profile.value}" if profile else "your AWS credentials"

    def get(self) -> ReadOnlyCredentials:
        """Return the caller's credentials, renewed by botocore."""
        self._session = self._session or aws_session.open_session(self._profile, self._region)
        with translated("Your AWS identity", _ASK_FOR_ROLE):
            found = self._session.keys()
        if found is None:
            raise CredentialsError(
                f"There are no AWS credentials to sign with.{aws_session.why_no_keys()}",
                fix="Sign in (`aws sso login`, `aws configure`), set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "or generate on this machine with `local=True`.",
            )
        keys, method = found
        if self._profile is None:
            self.source = f"your AWS credentials ({method})"
        return keys

    def refresh(self) -> bool:
        """Look up the credentials again next time: the profile may have been renewed."""
        self._session = None
        return True

    def is_new(self) -> bool:
        """Return False: it is not known when they were created."""
        return False

    def renew_after_fork(self) -> None:
        """Open another session, because botocore's credentials have locks; see `forks`."""
        self._session = None


class SecretCredentials:
    """The invoker's key pair from the deployment's secret in Secrets Manager; read once, and again after a 403."""

    def __init__(self, secret_arn: str, region: str, profile: Sourced[str] | None = None) -> None:
        self._arn, self._region, self._profile = secret_arn, region, profile
        self._lock = threading.Lock()
        self._keys: ReadOnlyCredentials | None = None
        self._written = 0.0
        self.source = f"secret {secret_arn.rsplit(':', 1)[-1]}"
        forks.renew_in_children(self)

    def get(self) -> ReadOnlyCredentials:
        """Return the key pair; the first call reads it from Secrets Manager."""
        with self._lock:
            if self._keys is None:
                self._keys = self._read()
            return self._keys

    def refresh(self) -> bool:
        """Read the secret again next time: the key may have been rotated."""
        with self._lock:
            self._keys = None
        return True

    def is_new(self) -> bool:
        """Return whether the secret was written in the last `KEY_SPREAD_S` seconds, as after a rotation."""
        return time.monotonic() - self._written < KEY_SPREAD_S

    def renew_after_fork(self) -> None:
        """Replace the lock; the keys stay. See `forks`."""
        self._lock = threading.Lock()

    def _read(self) -> ReadOnlyCredentials:
        session = aws_session.open_session(self._profile, self._region)
        with translated(f"The secret {self._arn}", "Ask for secretsmanager:GetSecretValue on this secret."):
            session.keys()  # checks them
            client = session.client("secretsmanager", self._region)
            reply = client.get_secret_value(SecretId=self._arn)
        self._written = time.monotonic() - _age(reply)
        text = reply.get("SecretString", "")
        try:
            return _checked(_read_only(*parse_key_pair(text)), f"the secret {self._arn}")
        except ValueError:
            raise CredentialsError(
                f"The secret {self._arn} does not hold AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
                fix="Write a new key pair with `lambdiff rotate`.",
            ) from None


class RoleCredentials:
    """Temporary credentials of the stack's invoker role, which the caller assumes; renewed before they expire."""

    def __init__(self, role_arn: str, region: str, profile: Sourced[str] | None = None) -> None:
        self._arn, self._region, self._profile = role_arn, region, profile
        self._lock = threading.Lock()
        self._credentials: Any = None
        self.source = f"role {role_arn.rsplit('/', 1)[-1]}"
        forks.renew_in_children(self)

    def get(self) -> ReadOnlyCredentials:
        """Return the role's credentials; botocore renews them fifteen minutes before they expire."""
        from botocore.credentials import RefreshableCredentials

        with self._lock, translated(f"The role {self._arn}", _ASK_FOR_ROLE):
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

    def is_new(self) -> bool:
        """Return False: AWS knows the credentials of a role at once."""
        return False

    def renew_after_fork(self) -> None:
        """Assume the role again, because botocore's credentials have locks; see `forks`."""
        self._lock, self._credentials = threading.Lock(), None

    def _assume(self) -> dict[str, str]:
        session = aws_session.open_session(self._profile, self._region)
        session.keys()  # checks them
        sts = session.client("sts", self._region)
        keys = sts.assume_role(RoleArn=self._arn, RoleSessionName="lambdiff")["Credentials"]
        return {
            "access_key": keys["AccessKeyId"],
            "secret_key": keys["SecretAccessKey"],
            "token": keys["SessionToken"],
            "expiry_time": keys["Expiration"].isoformat(),
        }


_ASK_FOR_ROLE: Final = "Ask for sts:AssumeRole, and to be added to the role's trust policy."


def _checked(keys: ReadOnlyCredentials, source: str) -> ReadOnlyCredentials:
    check_keys(keys.access_key, keys.secret_key, keys.token, names_from(source))
    return keys


def _read_only(access_key_id: str, secret_access_key: str, session_token: str | None = None) -> ReadOnlyCredentials:
    from botocore.credentials import ReadOnlyCredentials

    return ReadOnlyCredentials(access_key_id, secret_access_key, session_token)


def _freeze(credentials: Any) -> ReadOnlyCredentials:
    freeze: Callable[[], ReadOnlyCredentials] | None = getattr(credentials, "get_frozen_credentials", None)
    return freeze() if freeze else credentials


def _age(secret: GetSecretValueResponseTypeDef) -> float:
    """Return how many seconds ago a secret was written, by AWS's clock, because that of this machine may be wrong."""
    date = secret["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = email.utils.parsedate_to_datetime(date) if date else datetime.datetime.now(datetime.UTC)
    return (now - secret["CreatedDate"]).total_seconds()

"""What stands in AWS's variables and files is used or refused by name, without a secret (auth/aws_session.py).

Each case would otherwise end in one of botocore's many exceptions, or in a plain `ValueError`, `KeyError` or
`AttributeError` somewhere below.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import boto3
import pytest

from lambdiff.auth import aws_session
from lambdiff.auth.credential_errors import translated
from lambdiff.auth.credentials import CallerCredentials
from lambdiff.config import Deployment, Sourced
from lambdiff.errors import ConfigurationError, CredentialsError
from support.faulty_server import FaultyServer, reply

SECRET = "caller-secret/caller-secret/caller-secret"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIACALLER", "AWS_SECRET_ACCESS_KEY": SECRET}
PAIR = f"aws_access_key_id = AKIACALLER\naws_secret_access_key = {SECRET}\n"
ROLE = "role_arn = arn:aws:iam::123456789012:role/x\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of empty AWS files; nothing is reachable, so that no test leaves this machine."""
    for variable, name in (("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")):
        (tmp_path / name).touch()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return tmp_path


def sign_in(profile: str | None = None) -> str:
    """Find credentials as a call to an endpoint does, and return the id of the key."""
    chosen = aws_session.choose_profile(profile)
    return CallerCredentials(chosen, "us-east-1").get().access_key


def refusal(profile: str | None = None) -> str:
    """The message about credentials that cannot be used; it contains no secret."""
    with pytest.raises(ConfigurationError) as caught:
        sign_in(profile)
    text = str(caught.value)
    assert caught.value.exit_code == 3
    assert caught.value.fix
    assert "caller-secret" not in text
    assert "password" not in text
    return text


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("AWS_PROFILE", "ghost", "no AWS profile 'ghost'"),
        ("AWS_DEFAULT_PROFILE", "ghost", "no AWS profile 'ghost'"),
        ("AWS_PROFILE", "a\x01b", "control character"),
        ("AWS_CONFIG_FILE", "{folder}", "it is a folder"),
        ("AWS_SHARED_CREDENTIALS_FILE", "{folder}", "it is a folder"),
        ("AWS_ENDPOINT_URL", "localhost:4566", "must be a URL"),
        ("AWS_ENDPOINT_URL", "http://", "must be a URL"),
        ("AWS_ENDPOINT_URL", "http://host:99999/", "must be a URL"),
        ("AWS_ENDPOINT_URL", "http://user:password@host/", "must be a URL"),
        ("AWS_ENDPOINT_URL", "http://host/\r", "must be a URL"),
        ("AWS_ENDPOINT_URL_STS", "\u732b", "must be a URL"),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "ftp://host", "must be a URL"),
        ("AWS_MAX_ATTEMPTS", "abc", "a whole number"),
        ("AWS_MAX_ATTEMPTS", "", "a whole number"),
        ("AWS_MAX_ATTEMPTS", "0", "at least 1"),
        ("AWS_RETRY_MODE", "often", "legacy, standard or adaptive"),
        ("AWS_DEFAULTS_MODE", "x", "legacy, standard, in-region"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "x", "legacy or regional"),
        ("AWS_USE_FIPS_ENDPOINT", "yes", "true or false"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "1", "true or false"),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "x", "when_supported or when_required"),
        ("AWS_ACCOUNT_ID_ENDPOINT_MODE", "x", "preferred, disabled or required"),
        ("AWS_METADATA_SERVICE_TIMEOUT", "soon", "a whole number"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "x", "must be a URL"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv5", "ipv4 or ipv6"),
        ("AWS_CA_BUNDLE", "/no/such/file", "No such file"),
        ("AWS_CA_BUNDLE", "{folder}/config", "no certificate"),
        ("AWS_CA_BUNDLE", "/dev/zero", "not a file"),
        ("AWS_CONFIG_FILE", "/dev/zero", "not a regular file"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/dev/zero", "the path of a file"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "{folder}", "the path of a file"),
        ("HTTPS_PROXY", "http://user:password@host:99999", "not the address of a proxy"),
        ("AWS_ACCESS_KEY_ID", "AKIA CALLER", "contains a space"),
        ("AWS_ACCESS_KEY_ID", "AKIACALLER\r", "contains a space"),
        ("AWS_SECRET_ACCESS_KEY", f"{SECRET}\n", "contains a space"),
        ("AWS_SECRET_ACCESS_KEY", f"{SECRET}\u00e9", "contains a space"),
        ("AWS_SECRET_ACCESS_KEY", "", "missing: AWS_SECRET_ACCESS_KEY"),
        ("AWS_SESSION_TOKEN", f"{SECRET}\n", "contains a space"),
        ("AWS_SECURITY_TOKEN", f" {SECRET}", "contains a space"),
        ("AWS_CREDENTIAL_EXPIRATION", "tomorrow", "not a time"),
        ("AWS_CREDENTIAL_EXPIRATION", "2001-01-01T00:00:00Z", "have expired"),
    ],
)
def test_a_bad_variable_is_named(
    files: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    """The error names the variable and what it must be."""
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    monkeypatch.setenv(variable, value.format(folder=files))
    text = refusal()
    assert variable in text
    assert expected in text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_PROFILE", ""), ("AWS_PROFILE", " "), ("AWS_PROFILE", "work\r"), ("AWS_SESSION_TOKEN", ""),
        ("AWS_CONFIG_FILE", "/no/such/file"), ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_ENDPOINT_URL", ""), ("AWS_USE_FIPS_ENDPOINT", "TRUE"),
        ("AWS_CA_BUNDLE", ""), ("REQUESTS_CA_BUNDLE", " "), ("AWS_MAX_ATTEMPTS", " 3 "), ("NO_PROXY", "[::1,*,"),
        ("AWS_SDK_UA_APP_ID", "a\nb"), ("AWS_EXECUTION_ENV", "\u732b"), ("AWS_ENDPOINT_URL_S3", "garbage"),
        ("AWS_DEFAULT_REGION", "not a region"), ("AWS_STS_REGIONAL_ENDPOINTS", ""),
    ],
)  # fmt: skip
def test_what_does_no_harm_is_accepted(files: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """Blank variables count as not set, whitespace is dropped, and what lambdiff does not use may be anything."""
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    (files / "config").write_text("[profile work]\n")
    monkeypatch.setenv(variable, value)
    assert sign_in() == "AKIACALLER"


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("credential_process = echo hello", "credential_process of {place}: it is not JSON"),
        ("credential_process = /no/such/program", "credential_process of {place}: No such file or directory"),
        ("credential_process = 'unclosed", "credential_process of {place}"),
        ("credential_process = echo []", "credential_process of {place}"),
        ("credential_process =\n  a = b", "credential_process of {place}"),
        (f"credential_process = sh -c 'echo {SECRET}; echo Sign in. {SECRET} >&2; exit 1'", "Sign in. ***"),
        ("credential_process = sh -c 'head -c 100000 /dev/urandom >&2; exit 1'", "credential_process of {place}"),
        ("credential_process = head -c 10000 /dev/urandom", "credential_process of {place}"),
        ("credential_process = echo '{{\"Version\": 2}}'", "Unsupported version '2'"),
        ("credential_process = echo '{{\"Version\": 1}}'", "Missing required key"),
        ('credential_process = echo \'{{"Version": 1, "AccessKeyId": 1, "SecretAccessKey": null}}\'', "not text"),
        ('credential_process = echo \'{{"Version": 1, "AccessKeyId": "", "SecretAccessKey": ""}}\'', "is empty"),
        (
            f'credential_process = echo \'{{{{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "{SECRET} "}}}}\'',
            "secret key of profile {profile}",
        ),
        (
            'credential_process = echo \'{{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "B", '
            '"SessionToken": "C", "Expiration": "2001-01-01T00:00:00Z"}}\'',
            "credential_process of {place}: the credentials have expired",
        ),
        ("sso_session = none\nsso_account_id = 1\nsso_role_name = x", "The specified sso-session does not exist"),
        (
            "sso_start_url = https://x/\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = x",
            "SSO session of {place}",
        ),
        (f"{ROLE}source_profile = {{profile}}", "role_arn of {place}: Infinite loop"),
        (f"{ROLE}source_profile = b\n[profile b]\n{ROLE}source_profile = {{profile}}", "Infinite loop"),
        (ROLE, "missing: source_profile or credential_source"),
        (f"{ROLE}source_profile = ghost", 'source_profile "ghost"'),
        (f"{ROLE}source_profile =\n  a = b", "role_arn of {place}"),
        (f"{ROLE}credential_source = Garbage", 'credential source "Garbage"'),
        (f"{ROLE}source_profile = b\n[profile b]\ncredential_process = echo hello", "profile b in "),
        (f"{ROLE}source_profile = b\n[profile b]\n{PAIR}", "Check the network and AWS_ENDPOINT_URL"),
        (f"{ROLE}web_identity_token_file = /no/such/file", "role_arn of {place}: No such file or directory"),
        ("login_session = nobody", "the login session of {place}"),
        ("aws_access_key_id = AKIACALLER", "{place}: Partial credentials found"),
        (f"aws_access_key_id =\n  a = b\naws_secret_access_key = {SECRET}", "aws_access_key_id of {place} is not text"),
        (f"aws_access_key_id = A\naws_secret_access_key = {SECRET} x", "aws_secret_access_key of {place} contains"),
        (
            f"{PAIR}services = x\n[services x]\nsts =\n  endpoint_url = localhost:4566",
            "sts in services x must be a URL",
        ),
        (f"{PAIR}services = x\n[services x]\nsts = abc", "sts in services x"),
        (f"{PAIR}retry_mode = often", "retry_mode of {place} must be legacy"),
        (f"{PAIR}retry_mode =\n  a = b", "retry_mode of {place} must be a single line"),
        (f"{PAIR}region =\n  a = b", "region of {place} must be a single line"),
        (f"{PAIR}ca_bundle = /no/such/file", "ca_bundle of {place}"),
    ],
)
@pytest.mark.parametrize("profile", ["default", "work"])
def test_a_bad_profile_is_named_with_its_file(
    files: Path, monkeypatch: pytest.MonkeyPatch, profile: str, section: str, expected: str
) -> None:
    """The error names the setting, the profile and the file, or repeats botocore's own reason."""
    monkeypatch.delenv("AWS_REGION")
    title = "default" if profile == "default" else f"profile {profile}"
    (files / "config").write_text(f"[{title}]\n{section.format(profile=profile)}\n")
    text = refusal(None if profile == "default" else profile)
    assert expected.format(profile=profile, place=f"profile {profile} in {files / 'config'}") in text


@pytest.mark.parametrize("file", ["config", "credentials"])
@pytest.mark.parametrize(
    "content",
    [
        f"aws_secret_access_key = {SECRET}".encode(),
        f"[default]\n{SECRET}\n".encode(),
        b"[default]\n[default]\n",
        b"[default]\nregion = a\nregion = b\n",
        b"\xef\xbb\xbf[default]\n",
        "[default]\n".encode("utf-16"),
        b"[default]\nregion = caf\xe9\n",
        bytes(range(256)),
        b"[default]\ns3 =\n  abc\n",
    ],
)
def test_a_damaged_file_is_named_and_not_quoted(files: Path, file: str, content: bytes) -> None:
    """The error names the file, and the line if it is known, but a line may contain a key."""
    (files / file).write_bytes(content)
    assert f"The AWS configuration cannot be read: {files / file}" in refusal()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIA"}, "missing: AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SECRET_ACCESS_KEY": SECRET}, "AWS_ACCESS_KEY_ID is not set"),
        ({"AWS_SESSION_TOKEN": SECRET}, "AWS_ACCESS_KEY_ID is not set"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/no/such/file"}, "AWS_WEB_IDENTITY_TOKEN_FILE"),
        (
            {"AWS_WEB_IDENTITY_TOKEN_FILE": "/no/such/file", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x"},
            "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN: No such file or directory: /no/such/file",
        ),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "x"}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": ""}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/"}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://[::1"}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:99999/"}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        (
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": f"{SECRET}\n",
            },
            "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        ),
        (
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/no/such/file",
            },
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ),
    ],
)
def test_a_source_that_fails_is_named(
    files: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    """Credentials are named as the cause, with the variables that they come from."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert expected in refusal()


def test_the_address_of_a_container_is_shown_without_its_password(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore repeats the whole URL in its message, after three attempts."""
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://user:password@127.0.0.1:9/")
    assert "http://***@127.0.0.1:9/" in refusal()


@pytest.mark.linux
def test_a_file_without_permission_explains_what_is_missing(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore treats a file that it may not read as missing."""
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != files / "credentials")
    assert "AWS_SHARED_CREDENTIALS_FILE names a file that cannot be read: permission denied" in refusal()
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE")
    monkeypatch.setenv("HOME", str(files))
    (files / ".aws").mkdir()
    (files / ".aws" / "credentials").write_text(f"[default]\n{PAIR}")
    assert sign_in() == "AKIACALLER"
    (files / ".aws" / "credentials").write_text("")
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != files / ".aws" / "credentials")
    text = refusal()
    assert text.startswith("There are no AWS credentials to sign with.")
    assert f"{files}/.aws/credentials may not be read." in text


def test_keys_in_the_environment_and_a_profile_without_any(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says why the keys in the environment do not help; it does not claim that they are incomplete."""
    (files / "config").write_text("[profile work]\nregion = us-east-1\n")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    text = refusal("work")
    assert "keys in the environment are not used if a profile is chosen" in text
    assert "another part" not in text
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "AWS_ACCESS_KEY_ID is not set, but another part of the key is." in refusal("work")


def test_an_unknown_profile_lists_the_known_ones(files: Path) -> None:
    """The error names the source of the name, and the fix the profiles of both files."""
    (files / "config").write_text("[profile work]\n")
    (files / "credentials").write_text(f"[home]\n{PAIR}")
    text = refusal("wrok")
    assert text == "There is no AWS profile 'wrok' (`profile=`).\nChoose one of: home, work."
    assert sign_in("home") == "AKIACALLER"


def test_one_rule_for_the_profile(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument beats the environment, which beats the deployment; the environment's is left to botocore."""
    saved = Deployment(name="prod", url="https://x/", region="us-east-1", profile="saved")
    assert aws_session.choose_profile(None) is None
    assert aws_session.choose_profile(None, saved) == Sourced("saved", "deployment prod")
    assert aws_session.choose_profile(" mine\r", saved) == Sourced("mine", "`profile=`")
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "x")
            assert aws_session.choose_profile(None, saved) is None


def test_keys_in_the_environment_beat_aws_profile(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in botocore: AWS_PROFILE only names the profile, while an argument takes precedence over keys."""
    (files / "credentials").write_text(f"[work]\n{PAIR.replace('AKIACALLER', 'AKIAWORK')}")
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert sign_in() == "AKIAWORK"
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    assert sign_in() == "AKIACALLER"
    assert sign_in("work") == "AKIAWORK"


def test_the_chosen_region_is_that_of_botocores_own_calls(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile with a role needs no region of its own: the region of the endpoint is used to assume the role."""
    monkeypatch.delenv("AWS_REGION")
    (files / "config").write_text(f"[default]\n{ROLE}source_profile = b\n[profile b]\n{PAIR}")
    text = refusal()
    assert re.search("127.0.0.1:9", text)  # the call was made; without a region, botocore would raise NoRegionError


def test_an_error_of_our_own_is_not_taken_for_boto3s(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in lambdiff stays visible: only exceptions that come out of boto3 are translated."""

    def bug(*_: Any) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError), translated("Your AWS identity"):
        bug()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost")
    with pytest.raises(CredentialsError), translated("Your AWS identity"):
        boto3.client("sts", "us-east-1")


def test_calls_to_this_machine_do_not_go_through_a_proxy(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator of AWS on this machine is called directly, whatever the proxy variables say."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with FaultyServer(reply(403, b"{}")) as emulator, FaultyServer(reply(502)) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL", emulator.url)
        with pytest.raises(CredentialsError), translated("The secret"):
            aws_session.open_session().client("secretsmanager", "us-east-1").get_secret_value(SecretId="x")
        assert emulator.heads
        assert not proxy.heads


WRONG_CLOCK = (
    b'{"__type": "InvalidSignatureException", "message": "Signature expired: 20261201T000000Z is now earlier than"}',
    b"<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code>"
    b"<Message>Signature not yet current: 20261201T000000Z is still later than</Message></Error></ErrorResponse>",
)
"""The replies of Secrets Manager and of STS."""


@pytest.mark.parametrize("role", ["", ROLE + "source_profile = keys\n[profile keys]\n"])
def test_a_wrong_clock_is_named_whoever_signs(files: Path, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """The advice is to set the clock, not to correct the profile with whose keys the call was signed."""
    (files / "config").write_text(f"[profile work]\n{role}{PAIR}")
    with FaultyServer(reply(403, WRONG_CLOCK[bool(role)])) as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL", emulator.url)
        session = aws_session.open_session(Sourced("work", "profile="), "us-east-1")
        with pytest.raises(CredentialsError) as caught, translated("The secret"):
            session.client("secretsmanager", "us-east-1").get_secret_value(SecretId="x")
        assert len(emulator.heads) == 1
    assert "clock" in caught.value.fix

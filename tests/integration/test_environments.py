"""Whatever stands in a variable, a command ends with an exit code of the table, a clear message and no secret."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lambdiff.cli import cli
from lambdiff.errors import ConfigurationError, LambdiffError

pytestmark = pytest.mark.slow

SECRET: Final = "caller-secret/hunter2/caller-secret+hunter2"
BASE: Final = {
    "AWS_ACCESS_KEY_ID": "AKIAHUNTER2EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_SESSION_TOKEN": f"token/{SECRET}",
    "AWS_REGION": "us-east-1",
    # Nothing listens on this port, so nothing leaves this machine.
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_MAX_ATTEMPTS": "1",
}
PATHS: Final = ("LAMBDIFF_HOME", "HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
"""Variables with the folder of files that commands write. A test writes nothing outside its own folder."""
SAVED: Final = """{"default": "prod", "deployments": {"prod": {"name": "prod", "url": "http://127.0.0.1:9/",
  "region": "us-east-1", "stack": "lambdiff", "function_name": "f"}}}"""
COMMANDS: Final = (
    ("status",),
    ("generate", "a cat", "-o", "cat.png"),
    ("generate", "a cat", "-o", "cat.png", "--url", "http://127.0.0.1:9"),
    ("endpoints", "list", "--json"),
    ("configure", "--name", "new", "--url", "http://127.0.0.1:9/", "--no-check"),
    ("warm", "--json"),
    ("logs",),
    ("destroy", "--yes"),
)
VARIABLES: Final = (
    "LAMBDIFF_URL", "LAMBDIFF_DEPLOYMENT", "LAMBDIFF_REGION", "LAMBDIFF_HOME", "LAMBDIFF_MODEL_DIR",
    "HOME", "XDG_CONFIG_HOME", "TMPDIR",
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_REGION",
    "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION", "AWS_ACCOUNT_ID", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_SESSION_NAME", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "SSL_CERT_FILE", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_LAMBDA", "AWS_RETRY_MODE", "AWS_DEFAULTS_MODE",
    "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_ACCOUNT_ID_ENDPOINT_MODE",
    "AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "AWS_SDK_UA_APP_ID", "AWS_DATA_PATH", "AWS_EXECUTION_ENV",
    "AWS_CSM_ENABLED", "AWS_CSM_PORT", "AWS_SIGV4A_SIGNING_REGION_SET", "AWS_AUTH_SCHEME_PREFERENCE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "no_proxy",
)  # fmt: skip
"""Those that lambdiff, botocore and requests read; without AWS_MAX_ATTEMPTS, with which a call may take minutes, and
AWS_IGNORE_CONFIGURED_ENDPOINT_URLS, with which it would leave this machine."""
GARBAGE: Final = (
    "", " ", "\r", "x\r", "a b", "a\nb", "\x1b[2J", "\x7f", "caf\u00e9", "\u732b", "\udce9", "-", "0", "-1", "1e9", "~",
    "~nobody-here/x", ".", "/", "/dev/null", "/no/such/file", "/etc/passwd", "[", "{}", "null", "true", "%s", "$HOME",
    "://", "http://", "http://user:hunter2@127.0.0.1:9/", "http://127.0.0.1:99999/", "http://[::1", "http://127.0.0.1:9/\r",
    "file:///etc/passwd", "https://user:hunter2@127.0.0.1:9/?token=hunter2", "a" * 300, "a" * 70_000, "../x", "prod",
)  # fmt: skip
VALUES: Final = st.one_of(
    st.sampled_from(GARBAGE),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30),
)
KEYS: Final = (
    "region", "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "ca_bundle", "max_attempts",
    "retry_mode", "endpoint_url", "services", "sso_session", "sso_start_url", "sso_region", "sso_account_id",
    "sso_role_name", "login_session", "role_arn", "source_profile", "credential_source", "duration_seconds",
    "external_id", "web_identity_token_file", "defaults_mode", "use_fips_endpoint", "sts_regional_endpoints",
    "s3", "aws_account_id", "output",
)  # fmt: skip
"""Settings of a profile; `credential_process` would run whatever program is generated."""
CASES: Final = st.dictionaries(st.sampled_from(VARIABLES), VALUES, min_size=1, max_size=2)
COUNT: Final = int(os.environ.get("ENVIRONMENTS", "80"))
"""How many environments are tried; the time is proportional to it."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the deployments file, in a folder for images."""
    folder = tmp_path_factory.mktemp("environments") / "home"
    folder.mkdir(mode=0o700)
    return folder


def run(home: Path, variables: dict[str, str], command: tuple[str, ...], names: Iterable[str] | None = None) -> None:
    """Run a command with variables; anything but a clear end, or an error without one of the names, fails the test."""
    saved = home / "deployments.json"
    saved.write_text(SAVED)
    saved.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home.parent)
        # A connection that is refused is not tried again, which takes seconds.
        patch.setattr("lambdiff.client.function_url.ATTEMPTS", 1)
        for name in PATHS:
            patch.setenv(name, str(home))
        for name, value in {**BASE, **variables}.items():
            patch.setenv(name, f"{home.parent}{value}" if name in PATHS and value[:1] == "/" else value)
        result = CliRunner().invoke(cli, command, standalone_mode=False)
    error = result.exception
    if error is not None and not isinstance(error, LambdiffError | click.ClickException):
        pytest.fail("".join(traceback.format_exception(error)))
    assert "hunter2" not in result.output + str(error or "")
    if isinstance(error, LambdiffError):
        assert error.exit_code in {2, 3, 4, 5, 6, 7}
        assert not any(each < " " and each != "\n" for each in str(error))
    if isinstance(error, ConfigurationError) and not error.message.startswith("No deployment is "):
        assert any(name in str(error) for name in names or variables), str(error)
        assert error.fix


@settings(
    max_examples=COUNT, deadline=None, print_blob=False, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(variables=CASES, command=st.sampled_from(COMMANDS))
@example({"AWS_ENDPOINT_URL_STS": "localhost:4566"}, ("status",))
@example({"LAMBDIFF_REGION": "us-east-1\r"}, ("generate", "a cat", "-o", "cat.png"))
@example({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": ""}, ("status",))
@example({"HTTP_PROXY": "."}, ("generate", "a cat", "-o", "cat.png"))
@example({"AWS_PROFILE": "http://user:hunter2@127.0.0.1:9/"}, ("status",))
@example({"LAMBDIFF_DEPLOYMENT": "https://user:hunter2@127.0.0.1:9/"}, ("endpoints", "list", "--json"))
def test_no_environment_ends_in_a_traceback(home: Path, variables: dict[str, str], command: tuple[str, ...]) -> None:
    """A bad value is used, ignored, or refused by the name of its variable, whatever it is and whatever the command."""
    run(home, variables, command)


@settings(max_examples=COUNT // 2, deadline=None, print_blob=False)
@given(
    section=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=4),
    separator=st.sampled_from((" = ", " =\n  a = ", ":", " ")),
    command=st.sampled_from((("status",), ("generate", "a cat", "--url", "http://127.0.0.1:9"))),
)
@example({"role_arn": "x", "source_profile": "default"}, " = ", ("status",))
@example({"source_profile": "x", "role_arn": "x"}, " =\n  a = ", ("status",))
def test_no_profile_ends_in_a_traceback(
    home: Path, section: dict[str, str], separator: str, command: tuple[str, ...]
) -> None:
    """A bad setting of a profile is used, ignored, or refused; the error names the profile or its file."""
    file = home / "aws-config"
    lines = [f"{key}{separator}{value}\n" for key, value in section.items()]
    file.write_text(f"[profile work]\n{''.join(lines)}", encoding="utf-8", errors="surrogateescape")
    run(home, {"AWS_CONFIG_FILE": str(file), "AWS_REGION": ""}, (*command, "--profile", "work"), names=("work", "AWS"))

"""Check the settings that botocore reads by itself, from variables and from the profile.

botocore reports a bad value with one of many exceptions, often a plain `ValueError`, and does not say where the value
came from; some bad values it ignores. The rules here are botocore's own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from lambdiff.auth import aws_files
from lambdiff.config import Sourced
from lambdiff.environment import is_host
from lambdiff.errors import ConfigurationError

Rule = Callable[[str], str | None]
"""Returns what a value must be, such as "a whole number"; None if it is."""


class _Setting(NamedTuple):
    variable: str
    key: str
    """Its name in a profile."""
    rule: Rule


def check(profile: str, config: Mapping[str, Any]) -> None:
    """Check the settings in the environment and in a profile.

    Args:
        profile: the name of the profile.
        config: what botocore has read from the files (`full_config` of its session).

    Raises:
        ConfigurationError: a value is not one that botocore accepts.
    """
    for found, rule in _found(profile, config):
        # A value of several indented lines is a mapping.
        required = rule(found.value) if isinstance(found.value, str) else "a single line"
        if required:
            raise ConfigurationError(
                f"{found.source} must be {required}.", fix="Correct it, or remove it to use the default."
            )


def ca_bundle(profile: str, config: Mapping[str, Any]) -> Sourced[str] | None:
    """Return `ca_bundle` of a profile."""
    value = config["profiles"].get(profile, {}).get("ca_bundle")
    return Sourced(value, f"ca_bundle of {aws_files.describe(profile)}") if isinstance(value, str) else None


def that_redirect() -> list[str]:
    """Return the variables that are set and lead to another endpoint or to a proxy: why AWS may be unreachable."""
    prefixes = ("AWS_ENDPOINT_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return sorted(name for name, value in os.environ.items() if value.strip() and name.upper().startswith(prefixes))


def _found(profile: str, config: Mapping[str, Any]) -> Iterator[tuple[Sourced[Any], Rule]]:
    """The settings that are present. A variable takes precedence over the profile, as in botocore."""
    section = config["profiles"].get(profile, {})
    for setting in _SETTINGS:
        if setting.variable in os.environ:
            yield Sourced(os.environ[setting.variable], setting.variable), setting.rule
        elif setting.key in section:
            place = f"{setting.key} of {aws_files.describe(profile)}"
            yield Sourced(section[setting.key], place), setting.rule
    services = config.get("services", {}).get(str(section.get("services")), {})
    for service in _SERVICES:
        if isinstance(settings := services.get(service, {}), str):
            yield Sourced(settings, f"{service} in services {section['services']}"), lambda _: "several indented lines"
        elif "endpoint_url" in settings:
            yield Sourced(settings["endpoint_url"], f"{service} in services {section['services']}"), _url


def _integer(smallest: int) -> Rule:
    def rule(value: str) -> str | None:
        try:
            return None if int(value) >= smallest else f"at least {smallest}"
        except ValueError:
            return "a whole number"

    return rule


def _one_of(*values: str, case_sensitive: bool = False) -> Rule:
    def rule(value: str) -> str | None:
        known = value if case_sensitive else value.lower()
        shown = [each for each in values if each]
        return None if known in values else f"{', '.join(shown[:-1])} or {shown[-1]}"

    return rule


def _url(value: str) -> str | None:
    """Refuse user names and passwords as well: botocore would not use them, but show them in its messages."""
    wanted = "a URL such as https://example.org:8443, without a user name"
    if not value:
        return None  # as if it was not set
    try:
        parts = urlsplit(value)
        valid = (
            parts.scheme in ("http", "https")
            and is_host(parts.hostname or "")
            and parts.port != 0
            and "@" not in parts.netloc
        )
        return None if valid and value.isascii() and value.isprintable() and " " not in value else wanted
    except ValueError:
        return wanted


def _file(value: str) -> str | None:
    """Refuse folders, and devices, which may never end. A missing file is reported when it is read."""
    try:
        mode = os.stat(value).st_mode
    except OSError:
        return None
    return "the path of a file" if stat.S_ISDIR(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else None


def _any_line(value: str) -> None:
    """Accept any text: `lambdiff.auth.region` checks it if it is used."""


_BOOLEAN: Final = _one_of("true", "false", "")  # botocore takes anything else, even 1, for false
_CHECKSUMS: Final = _one_of("when_supported", "when_required")
_SERVICES: Final = (
    "cloudformation", "cloudwatch_logs", "ecr", "iam", "lambda", "secrets_manager", "ssm", "sso", "sso_oidc", "sts",
)  # fmt: skip
"""The services that lambdiff calls, as in the names of variables."""
_SETTINGS: Final = (
    _Setting("AWS_DEFAULT_REGION", "region", _any_line),
    _Setting("AWS_MAX_ATTEMPTS", "max_attempts", _integer(1)),
    _Setting("AWS_RETRY_MODE", "retry_mode", _one_of("legacy", "standard", "adaptive", case_sensitive=True)),
    _Setting(
        "AWS_DEFAULTS_MODE", "defaults_mode",
        _one_of("legacy", "standard", "in-region", "cross-region", "mobile", "auto"),
    ),
    _Setting(
        "AWS_STS_REGIONAL_ENDPOINTS", "sts_regional_endpoints", _one_of("legacy", "regional", "", case_sensitive=True)
    ),
    _Setting("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint", _BOOLEAN),
    _Setting("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint", _BOOLEAN),
    _Setting("AWS_REQUEST_CHECKSUM_CALCULATION", "request_checksum_calculation", _CHECKSUMS),
    _Setting("AWS_RESPONSE_CHECKSUM_VALIDATION", "response_checksum_validation", _CHECKSUMS),
    _Setting("AWS_ACCOUNT_ID_ENDPOINT_MODE", "account_id_endpoint_mode", _one_of("preferred", "disabled", "required")),
    _Setting("AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES", "request_min_compression_size_bytes", _integer(0)),
    _Setting("AWS_METADATA_SERVICE_TIMEOUT", "metadata_service_timeout", _integer(1)),
    _Setting("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "metadata_service_num_attempts", _integer(0)),
    _Setting("AWS_EC2_METADATA_SERVICE_ENDPOINT", "ec2_metadata_service_endpoint", _url),
    _Setting(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ec2_metadata_service_endpoint_mode", _one_of("ipv4", "ipv6")
    ),
    _Setting("AWS_WEB_IDENTITY_TOKEN_FILE", "web_identity_token_file", _file),
    _Setting("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "", _file),
    _Setting("AWS_ENDPOINT_URL", "endpoint_url", _url),
    *(_Setting(f"AWS_ENDPOINT_URL_{service.upper()}", "", _url) for service in _SERVICES),
)  # fmt: skip

"""Which endpoint a call goes to, who signs it and with which region, each with its source.

A flag (or argument) beats the environment, the environment beats the file of deployments, and with none of them
the built-in model draws on this machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from lambdiff import config
from lambdiff.auth.region import choose_region
from lambdiff.config import Deployment, Sourced
from lambdiff.errors import ConfigurationError

if TYPE_CHECKING:
    from lambdiff.auth.credentials import Signer
    from lambdiff.client.transport import Transport

DEFAULT_TIMEOUT: Final = 600.0
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class Endpoint:
    """An endpoint, chosen but not called yet. `url` is None where this machine draws."""

    url: Sourced[str] | None
    region: Sourced[str] | None = None
    signer: Signer | None = field(default=None, repr=False)
    timeout_s: float = DEFAULT_TIMEOUT
    deployment: Deployment | None = None
    model_dir: Path | None = None
    reason: str = ""

    @property
    def local(self) -> bool:
        """Whether this machine draws."""
        return self.url is None

    def open(self) -> Transport:
        """The endpoint itself; loads what it needs of the network or the engine, connects to nothing yet."""
        if self.url is None:
            from lambdiff.local.in_process import InProcessTransport

            return InProcessTransport(self.model_dir)
        from lambdiff.client.transport import FunctionUrlTransport

        assert self.region is not None  # noqa: S101 (target() sets all three together)
        assert self.signer is not None  # noqa: S101
        return FunctionUrlTransport(self.url.value, self.region.value, self.signer, self.timeout_s)

    def price(self, seconds: float) -> float | None:
        """Dollars for a request that takes the function so many seconds; None where that is not known."""
        if self.deployment is None or self.deployment.memory_mb is None:
            return None
        from lambdiff import pricing

        architecture = self.deployment.architecture or "x86_64"
        return pricing.invocation(self.deployment.memory_mb, seconds, architecture=architecture)

    def describe(self) -> dict[str, str]:
        """Each setting and its source, for `--json` and `status`."""
        if self.url is None:
            return {"endpoint": f"this machine ({self.reason})"}
        return {
            "endpoint": str(self.url),
            "region": str(self.region),
            "credentials": self.signer.source if self.signer else "",
        }

    def __str__(self) -> str:
        return self.describe()["endpoint"]


def resolve(
    *,
    url: str | None = None,
    region: str | None = None,
    credentials: Any = None,
    deployment: str | None = None,
    profile: str | None = None,
    local: bool = False,
    model_dir: str | Path | None = None,
    timeout_s: float | None = None,
) -> Endpoint:
    """Choose the endpoint; the arguments are `Client`'s.

    Raises:
        ConfigurationError: the arguments contradict each other, no such deployment, no region, a bad URL.
    """
    if local and (url or deployment):
        raise ConfigurationError(
            "This machine cannot be combined with a URL or a deployment.",
            fix="Give either --local, or --url/--deployment.",
        )
    if url and deployment:
        raise ConfigurationError("A URL and a deployment are given.", fix="Give one of --url and --deployment.")
    if model_dir and not local:
        raise ConfigurationError("A model folder is for this machine only.", fix="Add --local (local=True).")
    if local:
        return Endpoint(url=None, model_dir=Path(model_dir) if model_dir else None, reason="--local")
    chosen = None
    if url:
        where = Sourced(url, "--url")
    elif not deployment and (from_environment := os.environ.get("LAMBDIFF_URL")):
        where = Sourced(from_environment, "LAMBDIFF_URL")
    elif known := config.choose_deployment(deployment):
        chosen = known.value
        where = Sourced(chosen.url, f"deployment {chosen.name}")
    else:
        return Endpoint(url=None, reason="no deployment is configured")
    where = Sourced(_checked_url(where), where.source)
    if not (profile or any(os.environ.get(name) for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID"))):
        profile = chosen.profile if chosen else None
    found = choose_region(region, url=where.value, deployment=chosen, profile=profile)
    return Endpoint(
        url=where,
        region=found,
        signer=_signer(credentials, chosen, found.value, profile),
        timeout_s=timeout_s or (chosen.timeout_s if chosen else DEFAULT_TIMEOUT),
        deployment=chosen,
    )


def key(**arguments: Any) -> tuple[tuple[str, Any], ...]:
    """What the shared client of `lambdiff.generate` depends on: arguments, environment and the file of deployments."""
    try:
        changed = config.path().stat().st_mtime_ns
    except OSError:
        changed = 0
    environment = [(name, os.environ.get(name)) for name in _ENVIRONMENT]
    return (*sorted(arguments.items()), *environment, ("deployments", changed))


_ENVIRONMENT = (
    "LAMBDIFF_HOME", "LAMBDIFF_URL", "LAMBDIFF_DEPLOYMENT", "LAMBDIFF_REGION", "LAMBDIFF_MODEL_DIR",
    "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID",
)  # fmt: skip


def _checked_url(where: Sourced[str]) -> str:
    fix = "It looks like https://abc123.lambda-url.eu-central-1.on.aws/ (output LambdaUrl of the stack)."
    try:
        parts = urlsplit(where.value.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{where} is not a URL.", fix=fix) from None
    if parts.scheme not in {"http", "https"} or not host or parts.username:
        raise ConfigurationError(f"{where} is not the URL of an endpoint.", fix=fix)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigurationError(f"{where} has a path or a query; an endpoint has none.", fix=fix)
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise ConfigurationError(
            f"{where} is not encrypted: prompts and pictures could be read on the way.", fix="Use https://."
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}/"


def _signer(given: Any, chosen: Deployment | None, region: str, profile: str | None) -> Signer:
    from lambdiff.auth import credentials

    if given is not None:
        return credentials.GivenKeys(given)
    if chosen and chosen.auth == "key-pair" and chosen.secret_arn:
        return credentials.SecretKeys(chosen.secret_arn, region, profile)
    if chosen and chosen.auth == "role" and chosen.role_arn:
        return credentials.RoleKeys(chosen.role_arn, region, profile)
    return credentials.CallerKeys(profile)

"""Choose the endpoint of a request: where it goes, which credentials sign it, and for which region.

Arguments take precedence over the environment, and the environment over saved deployments. If none names an endpoint,
the built-in model generates on this machine. Each setting keeps its source, for messages and `lambdiff status`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

from msgspec import Meta

from lambdiff import config, environment, forks
from lambdiff.auth import aws_session
from lambdiff.auth.ca_bundle import choose_ca_bundle
from lambdiff.auth.region import choose_region
from lambdiff.config import Deployment, Sourced
from lambdiff.errors import ConfigurationError
from lambdiff.loopback import is_this_machine
from lambdiff.protocol.validation import checked, raise_for

if TYPE_CHECKING:
    from lambdiff.auth.credentials import CredentialSource
    from lambdiff.client.transport import Transport

DEFAULT_TIMEOUT_S: Final = 600.0
TimeoutS = Annotated[float, Meta(gt=0, le=86_400)]
"""Lambda allows 900 seconds; servers with the same interface may allow more."""
_SECRET_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):secretsmanager:(?P<region>[a-z0-9-]+):\d{12}:secret:[\w/+=.@-]+", re.ASCII
)
_ROLE_ARN: Final = re.compile(r"arn:(?P<partition>aws[a-z-]*):iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)


@dataclass(frozen=True)
class Endpoint:
    """Where the requests of a client go.

    Attributes:
        url: the address and its source; None for this machine.
        region: the function's region and its source; None for this machine and for a custom transport.
        credentials: what signs the requests; None in the same cases.
        timeout_s: the function's own timeout in seconds.
        deployment: the saved deployment that was chosen, if one was.
        model_dir: the baked model folder, if one was chosen for this machine.
        reason: why images are generated on this machine.
        ca_bundle: the certificates that the endpoint's is verified with; None for those that come with requests.
    """

    url: Sourced[str] | None
    region: Sourced[str] | None = None
    credentials: CredentialSource | None = field(default=None, repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S
    deployment: Deployment | None = None
    model_dir: Path | None = None
    reason: str = ""
    ca_bundle: str | None = None

    @classmethod
    def of_transport(cls, transport: Transport) -> Endpoint:
        """The endpoint behind a caller's own transport. Its region, credentials and price are unknown."""
        return cls(url=Sourced(transport.url, "custom transport"))

    @property
    def local(self) -> bool:
        """Whether images are generated on this machine."""
        return self.url is None

    def open(self, *, load: bool = False) -> Transport:
        """Open a transport to it. This imports what requests need, but does not connect yet.

        Args:
            load: on this machine, begin to load the model.

        Raises:
            MissingExtra: images are generated on this machine, and the `local` extra is not installed.
            ModelError: with `load`, the model folder is unusable.
        """
        with forks.postponed():
            return self._open_local(load=load) if self.url is None else self._open_remote()

    def _open_local(self, *, load: bool) -> Transport:
        from lambdiff.local.in_process import InProcessTransport

        transport = InProcessTransport(self.model_dir)
        if load:
            transport.load_ahead()
        from lambdiff.client import preload  # noqa: F401 (while the model is loaded)

        return transport

    def _open_remote(self) -> Transport:
        from lambdiff.client import preload_remote  # noqa: F401
        from lambdiff.client.function_url import FunctionUrlTransport

        assert self.url is not None  # noqa: S101 (resolve() sets all three)
        assert self.region is not None  # noqa: S101
        assert self.credentials is not None  # noqa: S101
        return FunctionUrlTransport(
            self.url.value, self.region.value, self.credentials, self.timeout_s, ca_bundle=self.ca_bundle
        )

    def price(self, seconds: float) -> float | None:
        """The price in dollars of a request that runs for `seconds`; None if the function's memory size is unknown."""
        if self.deployment is None or self.deployment.memory_mb is None:
            return None
        from lambdiff import pricing

        architecture = self.deployment.architecture or "x86_64"
        return pricing.invocation(self.deployment.memory_mb, seconds, architecture=architecture)

    def describe(self) -> dict[str, str]:
        """Each setting with its source, for reports and messages."""
        settings = {"endpoint": str(self.url) if self.url else f"this machine ({self.reason})"}
        if self.region:
            settings["region"] = str(self.region)
        if self.credentials:
            settings["credentials"] = self.credentials.source
        return settings

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
    """Choose the endpoint; the arguments are those of `Client`.

    Raises:
        ConfigurationError: arguments contradict each other or are empty, there is no such deployment, the region is
            unknown, or the URL is invalid.
        InvalidRequest: `timeout_s` is not a possible duration.
    """
    for name, given in (("url", url), ("model_dir", None if model_dir is None else str(model_dir))):
        environment.argument(given, f"`{name}=`")
    _refuse_contradictions(url=url, deployment=deployment, local=local, model_dir=model_dir)
    if timeout_s is not None:
        timeout_s = checked("timeout_s", timeout_s, TimeoutS)
    address, saved = (None, None) if local or model_dir else _choose_address(url, deployment)
    if address is None:
        _refuse_unused(region=region, profile=profile, credentials=credentials, timeout_s=timeout_s)
        reason = "`local=True`" if local else "`model_dir=`" if model_dir else "no deployment is configured"
        return Endpoint(url=None, model_dir=Path(model_dir).expanduser() if model_dir else None, reason=reason)
    return _remote(address, saved, region=region, credentials=credentials, profile=profile, timeout_s=timeout_s)


def of_deployment(deployment: Deployment, timeout_s: float | None = None) -> Endpoint:
    """Return the endpoint of a deployment, which need not be saved.

    Args:
        deployment: where requests go.
        timeout_s: takes precedence over the deployment's timeout.

    Raises:
        ConfigurationError: the region or the profile is not valid.
    """
    return _remote(Sourced(deployment.url, f"deployment {deployment.name}"), deployment, timeout_s=timeout_s)


def _remote(
    address: Sourced[str],
    saved: Deployment | None,
    *,
    region: str | None = None,
    credentials: Any = None,
    profile: str | None = None,
    timeout_s: float | None = None,
) -> Endpoint:
    address = Sourced(_checked_url(address), address.source)
    chosen_profile = aws_session.choose_profile(profile, saved)
    chosen_region = choose_region(region, url=address.value, deployment=saved, profile=chosen_profile)
    ca_bundle = None
    if address.value.startswith("https:"):
        environment.check_connections()
        # Given credentials have no profile.
        ca_bundle = aws_session.ca_bundle(chosen_profile) if credentials is None else choose_ca_bundle()
    return Endpoint(
        url=address,
        region=chosen_region,
        credentials=_credentials(credentials, saved, chosen_region.value, chosen_profile),
        timeout_s=timeout_s or (saved.timeout_s if saved else DEFAULT_TIMEOUT_S),
        deployment=saved,
        ca_bundle=ca_bundle,
    )


def from_url(
    url: str,
    *,
    name: str,
    region: str | None = None,
    profile: str | None = None,
    secret_arn: str | None = None,
    role_arn: str | None = None,
) -> Deployment:
    """Return the deployment for a URL that exists, not yet saved.

    Args:
        url: the Function URL.
        name: the name to save the deployment under.
        region: the function's region; by default as in `choose_region`.
        profile: the AWS profile to save with the deployment.
        secret_arn: the secret with the key pair that signs requests.
        role_arn: the role to assume for each request. Without both, the caller's own credentials sign it.

    Raises:
        InvalidRequest: the name, the region or an ARN is not valid, or both ARNs are given.
        ConfigurationError: the URL is invalid, or the region is unknown.

    Example:
        >>> from_url("https://abc123.lambda-url.eu-west-1.on.aws", name="prod").region
        'eu-west-1'
    """
    config.check_name(name)
    address = _checked_url(Sourced(url, "`url=`"))
    chosen_profile = aws_session.choose_profile(profile)
    where = choose_region(region, url=address, profile=chosen_profile)
    _check_arns(where, secret_arn, role_arn)
    return Deployment(
        name=name,
        url=address,
        region=where.value,
        auth="key-pair" if secret_arn else "role" if role_arn else "caller",
        secret_arn=secret_arn,
        role_arn=role_arn,
        profile=chosen_profile.value if chosen_profile else None,
    )


def _check_arns(region: Sourced[str], secret_arn: str | None, role_arn: str | None) -> None:
    from lambdiff.auth import partitions

    partition = partitions.require_region(region).id
    problems = []
    if secret_arn and role_arn:
        problems.append(("role_arn", "cannot be combined with `secret_arn=`"))
    for name, arn, pattern, example in (
        (
            "secret_arn",
            secret_arn,
            _SECRET_ARN,
            f"arn:{partition}:secretsmanager:{region.value}:123456789012:secret:NAME",
        ),
        ("role_arn", role_arn, _ROLE_ARN, f"arn:{partition}:iam::123456789012:role/NAME"),
    ):
        match = pattern.fullmatch(arn) if arn else None
        if arn and (match is None or match["partition"] != partition):
            problems.append((name, f"must look like {example}"))
        elif match and match.groupdict().get("region", region.value) != region.value:
            problems.append((name, f"is in {match['region']}, but the endpoint is in {region}"))
    raise_for(problems)


def _refuse_contradictions(
    *, url: str | None, deployment: str | None, local: bool, model_dir: str | Path | None
) -> None:
    if (local or model_dir) and (url or deployment):
        raise ConfigurationError(
            f"`{'local=True' if local else 'model_dir='}` cannot be combined with a URL or a deployment.",
            fix="Pass only one of `local=True`, `model_dir=`, `url=` and `deployment=`.",
        )
    if url and deployment:
        raise ConfigurationError(
            "A URL and a deployment cannot be combined.", fix="Pass either `url=` or `deployment=`."
        )


def _refuse_unused(**settings: object) -> None:
    """Refuse settings of a remote endpoint if there is none, rather than ignore them."""
    if given := [f"`{name}=`" for name, value in settings.items() if value is not None]:
        raise ConfigurationError(
            f"Images would be generated on this machine, where {' and '.join(given)} would have no effect.",
            fix="Choose an endpoint with `url=` or `deployment=`, or create one with `lambdiff deploy`.",
        )


def _choose_address(url: str | None, deployment: str | None) -> tuple[Sourced[str] | None, Deployment | None]:
    """The address and the saved deployment that it comes from; (None, None) if nothing names an endpoint."""
    if url:
        return Sourced(url, "`url=`"), None
    if not deployment and (from_environment := environment.read("LAMBDIFF_URL")):
        return Sourced(from_environment, "LAMBDIFF_URL"), None
    if chosen := config.choose_deployment(deployment):
        saved = chosen.value
        return Sourced(saved.url, f"deployment {saved.name}"), saved
    return None, None


def _checked_url(address: Sourced[str]) -> str:
    """The URL in its shortest form. No message shows a password, which a URL with a user name may contain."""
    fix = "It looks like https://abc123.lambda-url.eu-central-1.on.aws/ (the stack's output LambdaUrl)."
    text = environment.one_line(address.value, address.source)
    if text is None:
        raise ConfigurationError(f"{address.source} is empty.", fix=fix)
    shown = Sourced(environment.redacted(text), address.source)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigurationError(f"{shown} is not a URL.", fix=fix) from None
    if parts.scheme not in {"http", "https"} or not environment.is_host(host) or port == 0:
        raise ConfigurationError(f"{shown} is not the URL of an endpoint.", fix=fix)
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"{shown} has a user name or a password, but requests are signed with AWS credentials.", fix=fix
        )
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigurationError(f"{shown} has a path or a query, but the URL of an endpoint has neither.", fix=fix)
    if parts.scheme == "http" and not is_this_machine(host):
        raise ConfigurationError(
            f"{shown} is not encrypted: others could read prompts and images in transit.", fix="Use https://."
        )
    netloc = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{netloc}{f':{port}' if port else ''}/"


def _credentials(given: Any, saved: Deployment | None, region: str, profile: Sourced[str] | None) -> CredentialSource:
    from lambdiff.auth import credentials as sources

    if given is not None:
        return sources.GivenCredentials(given)
    if saved and saved.auth == "key-pair" and saved.secret_arn:
        return sources.SecretCredentials(saved.secret_arn, region, profile)
    if saved and saved.auth == "role" and saved.role_arn:
        return sources.RoleCredentials(saved.role_arn, region, profile)
    return sources.CallerCredentials(profile, region)

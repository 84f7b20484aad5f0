"""Asks a container registry for the digest of a tag, with the OCI distribution API.

    HEAD /v2/NAME/manifests/TAG -> 401 with the address of a token service -> token -> Docker-Content-Digest

https://github.com/opencontainers/distribution-spec/blob/main/spec.md, and
https://distribution.github.io/distribution/spec/auth/token for the tokens. Only public images are read: there is no
login, so a private registry answers that it needs one.
"""

from __future__ import annotations

import hashlib
import re
import time
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lambdiff.errors import NOT_JSON, ConfigurationError, DeployError

if TYPE_CHECKING:
    import requests

_REFERENCE: Final = re.compile(
    r"(?:(?P<registry>[a-zA-Z0-9][a-zA-Z0-9.-]*(?::\d{1,5})?)/)?"
    r"(?P<repository>[a-z0-9]+(?:(?:\.|_|__|-+|/)[a-z0-9]+)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_MANIFESTS: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_TIMEOUT: Final = (5.0, 15.0)
_MAX_BODY: Final = 4 * 1024 * 1024
"""The largest manifest that registries have to accept."""
_ATTEMPTS: Final = 3
_WAIT: Final = 0.5
"""Seconds before the second attempt; twice as long before the third."""


class RegistryError(DeployError):
    """A registry does not tell the digest of an image."""


@dataclass(frozen=True)
class ImageReference:
    """The name of an image as container engines understand it.

    Example:
        >>> ImageReference.parse("public.ecr.aws/lambda/python:3.12").name
        'public.ecr.aws/lambda/python'
        >>> ImageReference.parse("python").repository, str(ImageReference.parse("python"))
        ('library/python', 'docker.io/library/python:latest')
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Parse `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`.

        Raises:
            ConfigurationError: it is not the name of an image.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise ConfigurationError(
                f"{text!r} is not the name of an image.", fix="Pass `base_image=` as NAME:TAG or NAME@sha256:DIGEST."
            )
        registry, repository = match["registry"] or "", match["repository"]
        # As docker does: the first part is a registry if it looks like a host.
        if registry and registry != "localhost" and not set(registry) & set(".:"):
            registry, repository = "", f"{registry}/{repository}"
        if not registry:
            registry = "docker.io"
            repository = repository if "/" in repository else f"library/{repository}"
        digest = match["digest"] or ""
        return cls(registry, repository, match["tag"] or ("" if digest else "latest"), digest)

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def digest(image: ImageReference) -> str:
    """Return the digest that a tag has in its registry: for an image of several architectures, that of their index.

    Raises:
        RegistryError: the registry cannot be reached, needs a login, does not have the tag, or failed.
    """
    import requests
    import tenacity

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_TemporaryFailure),
        wait=tenacity.wait_exponential(multiplier=_WAIT),
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        reraise=True,
    )
    with requests.Session() as session:
        session.auth = lambda request: request  # else requests replaces the token by a password from ~/.netrc
        session.headers["Accept-Encoding"] = "identity"
        try:
            return retrying(_Query(session, image).digest)
        except OSError as error:  # requests' exceptions, and a bundle of certificates that cannot be read
            raise RegistryError(f"The registry {image.registry} cannot be reached: {_reason(error)}.") from None
        except _TemporaryFailure as error:
            raise RegistryError(str(error)) from None


class _TemporaryFailure(Exception):
    """A reply that the next attempt may not get."""


class _Query:
    """One question to a registry, with the token that its replies asked for."""

    def __init__(self, session: requests.Session, image: ImageReference) -> None:
        host = "registry-1.docker.io" if image.registry == "docker.io" else image.registry
        # Like container engines, which take a registry on the loopback interface to have no certificate.
        scheme = "http" if re.match(r"(localhost|127\.\d+\.\d+\.\d+)(:|$)", host) else "https"
        self._session = session
        self._image = image
        self._url = f"{scheme}://{host}/v2/{image.repository}/manifests/{image.tag}"
        self._headers = {"Accept": ", ".join(_MANIFESTS)}

    def digest(self) -> str:
        """Return the digest from the header of a HEAD request; some registries only answer GET."""
        reply = self._request("HEAD")
        found = reply.headers.get("Docker-Content-Digest", "")
        if reply.status_code == 200 and self._is_manifest(reply) and _DIGEST.fullmatch(found):
            return found
        if reply.status_code in (401, 403, 404):
            raise self._refusal(reply.status_code)
        reply = self._request("GET")
        if reply.status_code != 200:
            raise self._refusal(reply.status_code)
        if not self._is_manifest(reply):
            kind = reply.headers.get("Content-Type", "no media type")
            raise RegistryError(f"The reply of {self._image.registry} is {kind}, not the manifest of an image.")
        body = self._read(reply)
        computed = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if reply.headers.get("Docker-Content-Digest", computed) != computed:
            raise RegistryError(f"The manifest of {self._image} does not have the digest that its registry gives.")
        return computed

    def _request(self, method: str) -> requests.Response:
        reply = self._send(method, self._url, self._headers)
        if reply.status_code == 401 and "Authorization" not in self._headers:
            token = self._token(reply.headers.get("WWW-Authenticate", ""))
            if token:
                self._headers["Authorization"] = f"Bearer {token}"
                reply = self._send(method, self._url, self._headers)
        return reply

    def _token(self, challenge: str) -> str:
        """Return a token for anonymous callers from the service that a challenge names; empty if it names none."""
        scheme, _, rest = challenge.partition(" ")
        parameters = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = urllib.parse.urlsplit(parameters.pop("realm", ""))
        if scheme.lower() != "bearer" or realm.scheme not in ("https", urllib.parse.urlsplit(self._url).scheme):
            return ""
        query = urllib.parse.urlencode({name: parameters[name] for name in ("service", "scope") if name in parameters})
        reply = self._send("GET", realm._replace(query="&".join(filter(None, (realm.query, query)))).geturl(), {})
        try:
            document: Any = msgspec.json.decode(self._read(reply)) if reply.status_code == 200 else {}
        except NOT_JSON:
            return ""
        token = (document.get("token") or document.get("access_token")) if isinstance(document, dict) else None
        return token if isinstance(token, str) and re.fullmatch(r"[!-~]+", token) else ""

    def _send(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        reply = self._session.request(method, url, headers=headers, timeout=_TIMEOUT, stream=True, allow_redirects=True)
        if reply.status_code == 429 or reply.status_code >= 500:
            reply.close()
            raise _TemporaryFailure(
                f"The registry {self._image.registry} does not answer for the moment (HTTP {reply.status_code})."
            )
        return reply

    def _read(self, reply: requests.Response) -> bytes:
        body, deadline = b"", time.monotonic() + _TIMEOUT[1]
        while chunk := reply.raw.read1(65_536):
            body += chunk
            if len(body) > _MAX_BODY or time.monotonic() > deadline:
                raise RegistryError(f"The reply of the registry {self._image.registry} is too long or too slow.")
        return body

    def _is_manifest(self, reply: requests.Response) -> bool:
        return reply.headers.get("Content-Type", "").partition(";")[0].strip() in _MANIFESTS

    def _refusal(self, status: int) -> RegistryError:
        if status in (401, 403):
            return RegistryError(f"The registry {self._image.registry} needs a login for {self._image.repository}.")
        if status == 404:
            return RegistryError(f"There is no image {self._image}.")
        return RegistryError(
            f"The registry {self._image.registry} refused to say what {self._image} is (HTTP {status})."
        )


def _reason(error: Exception) -> str:
    """Return the cause of a failure of requests without the objects that it is wrapped in."""
    import requests

    if isinstance(error, requests.Timeout):
        return "it did not answer in time"
    text = str(error)
    match = re.search(r"(\[Errno [-\d]+\] [^'\")\]]+|certificate verify failed[^(')]*)", text)
    return (match[1] if match else text).strip().rstrip(".")[:200]

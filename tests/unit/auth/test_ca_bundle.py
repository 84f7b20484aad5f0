"""Which certificates are trusted, by one rule for the Function URL and for AWS (auth/ca_bundle.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lambdiff import Client
from lambdiff.auth.ca_bundle import choose_ca_bundle
from lambdiff.auth.credentials import Keys
from lambdiff.client import endpoint
from lambdiff.config import Sourced
from lambdiff.errors import ConfigurationError, EndpointUnreachable
from lambdiff.handler.app import App
from lambdiff.protocol.http import HttpRequest
from support.stub_engine import StubEngine
from support.tls import https_server, write_certificate

VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.fixture(autouse=True)
def no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of this machine takes part."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that is in no store."""
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def url(certificate: tuple[Path, Path]) -> Iterator[str]:
    """An endpoint with that certificate; it answers every GET with its health."""
    health = App(StubEngine).handle(HttpRequest(method="GET", headers={}, body=b"")).body
    with https_server(*certificate, health) as address:
        yield address


def ask(url: str, **arguments: object) -> str:
    """Ask the endpoint for its model."""
    with Client(url, region="us-east-1", **arguments) as client:
        return client.health().model.name


def test_without_a_bundle_an_unknown_certificate_is_not_trusted(url: str) -> None:
    """The fix names the variable."""
    with pytest.raises(EndpointUnreachable, match="is not trusted") as caught:
        ask(url, credentials=Keys("AKID", "secret"))
    assert "AWS_CA_BUNDLE" in caught.value.fix


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_variable_is_used_for_the_function_url(
    variable: str, url: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the certificate in the bundle, the endpoint is trusted."""
    monkeypatch.setenv(variable, str(certificate[0]))
    assert ask(url, credentials=Keys("AKID", "secret")) == "stub"


def test_the_bundle_of_the_profile_is_used(
    url: str, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ca_bundle` applies to the Function URL as to AWS; credentials without a profile have none."""
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = AKID\naws_secret_access_key = secret\n")
    (tmp_path / "config").write_text(f"[profile work]\nca_bundle = {certificate[0]}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert ask(url, profile="work") == "stub"
    with pytest.raises(EndpointUnreachable, match="is not trusted"):
        ask(url, profile="work", credentials=Keys("AKID", "secret"))


def test_the_order_of_the_sources(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_CA_BUNDLE, the profile, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_FILE; blank ones do not count."""
    folder = certificate[0].parent
    bundles = {}
    for name in (*VARIABLES, "profile"):
        bundles[name] = folder / f"{name}.pem"
        bundles[name].write_bytes(certificate[0].read_bytes())
    for name in VARIABLES:
        monkeypatch.setenv(name, str(bundles[name]))
    profile = Sourced(str(bundles["profile"]), "ca_bundle of profile work")
    assert choose_ca_bundle(profile) == str(bundles["AWS_CA_BUNDLE"])
    monkeypatch.setenv("AWS_CA_BUNDLE", " ")
    assert choose_ca_bundle(profile) == str(bundles["profile"])
    for name in VARIABLES[1:]:
        assert choose_ca_bundle() == str(bundles[name])
        monkeypatch.setenv(name, "")
    assert choose_ca_bundle() is None


@pytest.mark.parametrize("content", [None, b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nx\n"])
@pytest.mark.parametrize("variable", VARIABLES)
def test_an_unusable_bundle_is_named(
    variable: str, content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file or one without a certificate is reported before anything is sent, with its source."""
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    monkeypatch.setenv(variable, str(bundle))
    with pytest.raises(ConfigurationError, match=f"The CA bundle in {variable} cannot be used") as caught:
        ask("https://127.0.0.1:9", credentials=Keys("AKID", "secret"))
    assert str(bundle) in caught.value.message
    with pytest.raises(ConfigurationError, match=variable):
        ask("https://127.0.0.1:9")


def test_a_loopback_endpoint_needs_no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS there is nothing to verify."""
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    assert endpoint.resolve(url="http://127.0.0.1:9", region="us-east-1").ca_bundle is None

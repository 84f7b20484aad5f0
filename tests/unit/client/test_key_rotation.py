"""What a client notices of a key rotation (auth/credentials.py, client/function_url.py): nothing but a short wait."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lambdiff.auth.credentials import SecretCredentials
from lambdiff.client import function_url
from lambdiff.client.client import Client
from lambdiff.client.function_url import FunctionUrlTransport
from lambdiff.errors import AccessDenied
from support.aws_resources import REGION
from support.rotating_cloud import Endpoint, RotatingCloud


@pytest.fixture
def endpoint(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """An endpoint that needs three requests to know of a new key."""
    monkeypatch.setattr(function_url, "NEW_KEY_S", 0.01)
    with Endpoint(spread=3) as running:
        yield running


@pytest.fixture
def cloud(endpoint: Endpoint) -> RotatingCloud:
    """The account of the endpoint."""
    return RotatingCloud(endpoint)


def client_of(cloud: RotatingCloud, margin_s: float = 30.0) -> Client:
    """Return a client that signs with the key pair in the secret."""
    source = SecretCredentials(cloud.secret, REGION)
    return Client(transport=FunctionUrlTransport(cloud.endpoint.url, REGION, source, read_margin_s=margin_s))


def test_a_client_survives_the_time_that_a_new_key_needs(cloud: RotatingCloud, endpoint: Endpoint) -> None:
    """The old key is refused, the secret is read again, and the new key is tried until it is accepted."""
    old = cloud.keys.access_key_id
    with client_of(cloud) as client:
        client.health()
        cloud.rotate()
        client.health()
        new = cloud.keys.access_key_id
        client.health()
    assert endpoint.answers == [(old, 200), (old, 403), *[(new, 403)] * 3, (new, 200), (new, 200)]


def test_a_client_that_starts_after_a_rotation_waits_as_well(cloud: RotatingCloud, endpoint: Endpoint) -> None:
    """The new key may be the first one that it reads."""
    cloud.rotate()
    with client_of(cloud) as client:
        client.health()
    assert [status for _, status in endpoint.answers] == [403, 403, 403, 200]


def test_a_key_that_is_not_new_is_not_waited_for(
    cloud: RotatingCloud, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 403 for another reason is reported at once, after reading the secret again."""
    monkeypatch.setattr("lambdiff.auth.credentials.KEY_SPREAD_S", 0.0)
    endpoint.status = 403
    with client_of(cloud) as client, pytest.raises(AccessDenied):
        client.health()
    assert len(endpoint.answers) == 2


def test_the_wait_for_a_new_key_is_bounded(cloud: RotatingCloud, endpoint: Endpoint) -> None:
    """A new key that is never accepted is reported, too."""
    endpoint.status = 403
    with client_of(cloud, margin_s=-9.8) as client, pytest.raises(AccessDenied):
        client.health()
    assert len(endpoint.answers) < 60

"""What the guard refuses, on every route."""

from __future__ import annotations

import pytest

from unit.gateway.test_openai_images import BASE, GENERATIONS, browser

BODY = {"prompt": "a cat"}


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:9100", "10.0.0.1"]
)
@pytest.mark.parametrize("path", [GENERATIONS, "/health", "/v1/models", "/nothing"])
def test_other_names_are_refused(host, path):
    """A page that has bound its own name to this machine's address gets no answer (DNS rebinding)."""
    reply = browser().get(path, headers={"host": host})
    assert reply.status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:9100", "localhost", "LOCALHOST:1", "[::1]:9100", "127.0.0.2"])
def test_names_of_this_machine_are_answered(host):
    """All names of loopback are this machine."""
    assert browser().get("/health", headers={"host": host}).status_code == 200


def test_trusted_names_are_answered():
    """A gateway behind a proxy may have other names."""
    page = browser(trusted_hosts=frozenset({"images.example"}))
    assert page.get("/health", headers={"host": "images.example"}).status_code == 200
    assert page.get("/health", headers={"host": "other.example"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "https://127.0.0.1:9100"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_web_pages_are_refused(headers):
    """A page of another origin, which includes another port, may not call."""
    reply = browser().post(GENERATIONS, json=BODY, headers=headers)
    assert reply.status_code == 403
    assert "access-control-allow-origin" not in reply.headers


def test_its_own_page_and_programs_may_call():
    """A request of the gateway's own origin, or of no page at all, is answered."""
    page = browser()
    assert (
        page.post(GENERATIONS, json=BODY, headers={"origin": BASE, "sec-fetch-site": "same-origin"}).status_code == 200
    )
    assert page.post(GENERATIONS, json=BODY).status_code == 200


def test_an_allowed_origin_gets_its_headers():
    """With `--cors`, browsers let pages of that origin read replies, and only that."""
    page = browser(origins=frozenset({"https://app.example"}))
    headers = {"origin": "https://app.example"}
    reply = page.options(GENERATIONS, headers={**headers, "access-control-request-method": "POST"})
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (204, "https://app.example")
    assert (
        page.post(GENERATIONS, json=BODY, headers=headers).headers["access-control-allow-origin"]
        == "https://app.example"
    )
    assert page.post(GENERATIONS, json=BODY, headers={"origin": "https://other.example"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "secret-key"},
        {"authorization": "Basic secret-key"},
        {"authorization": "Bearer"},
    ],
)
@pytest.mark.parametrize("path", [GENERATIONS, "/health", "/v1/models", "/nothing"])
def test_a_key_is_demanded_on_every_route(headers, path):
    """Without the key nothing is answered, not even whether a route exists."""
    reply = browser(api_key="secret-key").get(path, headers=headers)
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")


def test_the_key_is_accepted_and_never_shown():
    """The right key opens the gateway; settings do not show it."""
    from lambdiff.gateway.settings import Settings

    page = browser(api_key="secret-key")
    assert page.get("/health", headers={"authorization": "bearer secret-key"}).status_code == 200
    assert "secret-key" not in repr(Settings(api_key="secret-key"))


@pytest.mark.parametrize("length", ["99999999999999999999999", "-1", "1e3"])
def test_impossible_lengths_are_refused(length):
    """A length that is too large or no number is refused before anything is read."""
    assert browser().post(GENERATIONS, content=b"", headers={"content-length": length}).status_code == 413


def test_replies_cannot_be_framed_or_sniffed():
    """Every reply tells browsers not to guess its type or to show it in a frame."""
    reply = browser().get("/health")
    assert (reply.headers["x-content-type-options"], reply.headers["x-frame-options"]) == ("nosniff", "DENY")

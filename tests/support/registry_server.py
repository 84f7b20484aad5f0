"""A container registry: tags, manifests and anonymous tokens, as in the OCI distribution API, and its faults."""

from __future__ import annotations

import hashlib
import json
import secrets
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
REPOSITORY = "lambda/python"

Fault = Literal["busy", "broken", "login", "no-head", "no-digest", "page", "wrong-digest", "no-realm", "token-refused"]


class RegistryServer:
    """Serves the manifests in `tags` to those who have fetched a token, as a context manager.

    Args:
        address: where to listen.
        port: any free one by default.
        tls: certificate and key; plain HTTP by default.

    Attributes:
        tags: media type and manifest by tag; `push` changes them.
        faults: what the registry does wrong: `busy` and `broken` answer 429 and 503 as often as they are listed.
        requests: method and path of each request.
    """

    def __init__(self, address: str = "127.0.0.1", port: int = 0, tls: tuple[str, str] | None = None) -> None:
        self.tags: dict[str, tuple[str, bytes]] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self._tokens: set[str] = set()
        self._server = ThreadingHTTPServer((address, port), self._handler())
        self._server.daemon_threads = True
        self.host = f"{address}:{self._server.server_port}"
        self._scheme = "https" if tls else "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> RegistryServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def image(self) -> str:
        """The name of the base image in this registry."""
        return f"{self.host}/{REPOSITORY}:3.12"

    def push(self, manifest: bytes | str, tag: str = "3.12", kind: str = INDEX) -> str:
        """Give a tag another manifest, and return its digest."""
        content = manifest.encode() if isinstance(manifest, str) else manifest
        self.tags[tag] = (kind, content)
        return f"sha256:{hashlib.sha256(content).hexdigest()}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer()

            def do_GET(self) -> None:
                self.answer()

            def answer(self) -> None:
                registry.requests.append(f"{self.command} {self.path}")
                status, headers, body = registry.reply(self.command, self.path, self.headers)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def reply(self, method: str, path: str, headers: Any) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for a request."""
        for fault, status in (("busy", 429), ("broken", 503)):
            if fault in self.faults:
                self.faults.remove(fault)  # type: ignore[arg-type]
                return status, {}, b""
        url, host = urlsplit(path), headers["Host"]
        if url.path == "/token":
            return self._token(host, parse_qs(url.query))
        scheme, _, token = (headers.get("Authorization") or "").partition(" ")
        if "login" in self.faults or scheme != "Bearer" or token not in self._tokens:
            realm = "" if "no-realm" in self.faults else f'realm="{self._scheme}://{host}/token",'
            challenge = f'Bearer {realm}service="{host}",scope="repository:{REPOSITORY}:pull"'
            return 401, {"WWW-Authenticate": challenge}, b'{"errors":[{"code":"UNAUTHORIZED"}]}'
        return self._manifest(method, url.path, headers)

    def _token(self, host: str, query: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes]:
        if "token-refused" in self.faults:
            return 403, {}, b"{}"
        assert query == {"service": [host], "scope": [f"repository:{REPOSITORY}:pull"]}
        token = secrets.token_urlsafe()
        self._tokens.add(token)
        return 200, {"Content-Type": "application/json"}, json.dumps({"token": token}).encode()

    def _manifest(self, method: str, path: str, headers: Any) -> tuple[int, dict[str, str], bytes]:
        if "page" in self.faults:
            return 200, {"Content-Type": "text/html; charset=utf-8"}, b"<h1>Sign in to the airport's network</h1>"
        if method == "HEAD" and "no-head" in self.faults:
            return 405, {}, b""
        prefix = f"/v2/{REPOSITORY}/manifests/"
        known = self.tags.get(path.removeprefix(prefix)) if path.startswith(prefix) else None
        if known is None:
            return 404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'
        kind, content = known
        assert kind in headers.get("Accept", ""), "a registry converts to another format if this one is not accepted"
        found = f"sha256:{hashlib.sha256(content).hexdigest()}"
        reply = {"Content-Type": kind}
        if "no-digest" not in self.faults:
            reply["Docker-Content-Digest"] = "sha256:" + "0" * 64 if "wrong-digest" in self.faults else found
        return 200, reply, content

"""A model hub on loopback that serves one folder and supports only the requests of `snapshot_download`.

https://huggingface.co/docs/hub/api: a model's info lists its files and its commit. The client sends HEAD for each
file (commit, ETag and length are in the headers), then GET.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit


class FakeHub:
    """A hub with one model at one commit.

    Args:
        hub_id: owner/name of the model.
        revision: its commit.
        folder: its files.

    Attributes:
        requests: method and path of every request.
    """

    def __init__(self, hub_id: str, revision: str, folder: Path) -> None:
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            files: ClassVar[dict[str, Path]] = {
                path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
            }

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.requests.append(f"{self.command} {path}")
                if path == f"/api/models/{hub_id}/revision/{revision}":
                    siblings = [{"rfilename": name} for name in self.files]
                    self.reply(json.dumps({"id": hub_id, "sha": revision, "siblings": siblings}).encode())
                elif path == f"/api/models/{hub_id}/tree/{revision}":
                    tree = [
                        {"type": "file", "path": name, "size": file.stat().st_size, "oid": "0" * 40}
                        for name, file in self.files.items()
                    ]
                    self.reply(json.dumps(tree).encode())
                elif (name := path.removeprefix(f"/{hub_id}/resolve/{revision}/")) in self.files:
                    self.reply(self.files[name].read_bytes())
                else:
                    self.reply(b'{"error": "not found"}', 404)

            def reply(self, content: bytes, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("X-Repo-Commit", revision)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Do not log requests."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

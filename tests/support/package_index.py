"""A package index on the loopback interface (PEP 503), whose wheels are not what their hashes promise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


@contextmanager
def package_index(project: str, wheels: dict[str, str]) -> Iterator[str]:
    """Serve the links to the wheels of one project.

    Args:
        project: its name.
        wheels: the SHA-256 that the index gives for each file name.

    Yields:
        The URL of the index.
    """
    links = "".join(f'<a href="/{name}#sha256={digest}">{name}</a>\n' for name, digest in wheels.items())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path)
            known = path in (f"/simple/{project}/", *(f"/{name}" for name in wheels))
            body = links.encode() if self.path.endswith("/") else b"not the wheel"
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

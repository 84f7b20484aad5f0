"""Lambda functions in separate processes, under AWS's runtime client.

`Function` serves the Runtime API (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html) on loopback.
`EmulatedFunction` runs AWS's Runtime Interface Emulator, whose binary ships in the wheel of `aws-sam-cli`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import platformdirs

ROOT = "/2018-06-01/runtime"
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:stub"


class FunctionError(Exception):
    """The function reported an error."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        super().__init__(f"{report.get('errorType')}: {report.get('errorMessage')}")
        self.type = str(report.get("errorType"))


class FunctionTimeout(Exception):
    """The function ran into its timeout and was killed."""


class Function:
    """One execution environment. The process starts at construction and handles one event at a time.

    Args:
        handler: `module.function`.
        timeout: seconds after which the process is killed if it has not answered an event.
        snapshot: start with SnapStart; the runtime client's `/restore/next` waits for `restore`.
        environment: variables in addition to this process's.

    Attributes:
        calls: what the runtime client has called, in order: `/invocation/next`, `/init/error` and so on.
        error_type: the type of the last error, as the runtime client reported it.
    """

    def __init__(self, handler: str, *, timeout: float = 30, snapshot: bool = False, **environment: str) -> None:
        self.timeout = timeout
        self.calls: list[str] = []
        self.error_type = ""
        self._restored = threading.Event()
        if snapshot:
            environment["AWS_LAMBDA_INITIALIZATION_TYPE"] = "snap-start"
        self._events: queue.Queue[tuple[str, bytes, float]] = queue.Queue()
        self._answers: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", handler],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(AWS_LAMBDA_RUNTIME_API=f"127.0.0.1:{self._server.server_port}", **environment),
        )
        self._log = _drain(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._restored.set()
        self._kill()
        self._process.wait()
        self._log.join()
        self._server.shutdown()
        self._server.server_close()

    @property
    def log(self) -> str:
        """The output of the process so far."""
        return b"".join(self._log.lines).decode()

    def invoke(self, event: object) -> dict[str, Any]:
        """Send an event and return the reply.

        Raises:
            FunctionError: the function failed, at its start or while it handled the event.
            FunctionTimeout: it took too long and was killed.
        """
        self._events.put((str(uuid.uuid4()), json.dumps(event).encode(), time.time() + self.timeout))
        try:
            kind, body = self._answers.get(timeout=self.timeout)
        except queue.Empty:
            self._kill()
            raise FunctionTimeout from None
        content: dict[str, Any] = json.loads(body)
        if kind == "response":
            return content
        raise FunctionError(content)

    def wait_for(self, call: str, count: int = 1) -> None:
        """Wait until the runtime client has made a call `count` times."""
        deadline = time.monotonic() + self.timeout
        while self.calls.count(call) < count:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError(f"no {call}; log of the function: {self.log}")
            time.sleep(0.02)

    def restore(self) -> None:
        """Let the function continue after its snapshot."""
        self._restored.set()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, function: Function) -> None:
        self.function = function
        super().__init__(("127.0.0.1", 0), _Api)

    def handle_error(self, *_: object) -> None:
        """Ignore the broken connection of a function that was killed."""


class _Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet, because a second packet would wait for the acknowledgement
    server: _Server

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        function = self.server.function
        kind = self.path.removeprefix(ROOT)
        function.calls.append(kind)
        if kind == "/restore/next":
            function._restored.wait()
            self._reply(200, b"")
            return
        request_id, event, deadline = function._events.get()
        self._reply(
            200,
            event,
            **{
                "Lambda-Runtime-Aws-Request-Id": request_id,
                "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": ARN,
            },
        )

    def do_POST(self) -> None:
        length = self.headers["Content-Length"]
        body = self.rfile.read(int(length)) if length else self._chunks()
        _, subject, *_, kind = self.path.removeprefix(ROOT).split("/")
        function = self.server.function
        function.calls.append(f"/{subject}/{kind}")
        function.error_type = self.headers.get("Lambda-Runtime-Function-Error-Type", function.error_type)
        self._reply(202, b"{}")
        function._answers.put((kind, body))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class EmulatedFunction:
    """A function under AWS's Runtime Interface Emulator, which starts its process at the first request.

    Args:
        handler: `module.function`.
        timeout: seconds for one event.
        launch: the command line that starts the emulator; by default the binary of `emulator()`.
        client: the command line that starts the runtime client; by default with this interpreter.
        environment: variables in addition to this process's.
    """

    def __init__(
        self,
        handler: str,
        *,
        timeout: int = 30,
        launch: Sequence[str] = (),
        client: Sequence[str] = (sys.executable, "-m", "awslambdaric"),
        **environment: str,
    ) -> None:
        ports = _free_ports(2)
        self._url = f"http://127.0.0.1:{ports[0]}/2015-03-31/functions/function/invocations"
        command = [*(launch or [str(emulator())]), "--log-level", "info"]
        command += ["--runtime-interface-emulator-address", f"127.0.0.1:{ports[0]}"]
        command += ["--runtime-api-address", f"127.0.0.1:{ports[1]}"]
        command += [*client, handler]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(AWS_LAMBDA_FUNCTION_TIMEOUT=str(timeout), **environment),
        )
        self._log = _drain(self._process)
        _wait_for(ports[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.killpg(self._process.pid, 9)
        self._process.wait()

    @property
    def log(self) -> str:
        """The output of emulator and function so far."""
        return b"".join(self._log.lines).decode()

    def invoke(self, event: object) -> Any:
        """Send an event and return the reply: decoded if it is JSON, else as text."""
        request = urllib.request.Request(self._url, data=json.dumps(event).encode())
        with urllib.request.urlopen(request, timeout=120) as reply:
            body = reply.read()
        try:
            return json.loads(body)
        except json.JSONDecodeError:
            return body.decode()


def emulator() -> Path:
    """Return the emulator's binary for this machine, from a cache that is filled from the wheel of `aws-sam-cli`."""
    name = f"aws-lambda-rie-{'arm64' if platform.machine() in ('arm64', 'aarch64') else 'x86_64'}"
    binary = platformdirs.user_cache_path("lambdiff-tests", ensure_exists=True) / name
    if not binary.exists():
        with tempfile.TemporaryDirectory() as folder:
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
            subprocess.run([*download, "aws-sam-cli"], check=True)
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                content = archive.read(f"samcli/local/rapid/{name}")
        part = binary.with_suffix(f".{os.getpid()}")
        part.write_bytes(content)
        part.chmod(0o755)
        part.rename(binary)
    return binary


class _Drain(threading.Thread):
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self.lines: list[bytes] = []
        self._process = process

    def run(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            self.lines.extend(stream)


def _drain(process: subprocess.Popen[bytes]) -> _Drain:
    thread = _Drain(process)
    thread.start()
    return thread


def _environment(**changes: str) -> dict[str, str]:
    here = str(Path(__file__).parents[1])
    return {
        **os.environ,
        "PYTHONPATH": here,
        "LAMBDA_TASK_ROOT": here,
        "AWS_LAMBDA_FUNCTION_NAME": "stub",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
        **changes,
    }


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return

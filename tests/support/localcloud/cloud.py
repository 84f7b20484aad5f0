"""Starts and stops the local cloud, and runs commands that believe in it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from . import places
from .resolver import ADDRESS, Resolver

ROOT_KEY = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


class Cloud:
    """Everything that runs; a context manager. `environment` is what a client of it needs."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._network = Network()
        self._resolver = Resolver(f".lambda-url.{places.REGION}.on.aws")
        self._resolv_conf = places.RUN / "resolv.conf"
        self._resolv_conf.write_text(f"nameserver {ADDRESS}\n")
        self.environment = {
            "AWS_ENDPOINT_URL": f"https://localhost:{places.PORT}",
            "AWS_ENDPOINT_URL_S3": f"https://localhost:{places.PORT}",
            "AWS_REGION": places.REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_CA_BUNDLE": str(places.BUNDLE),
            "REQUESTS_CA_BUNDLE": str(places.BUNDLE),
            "NODE_EXTRA_CA_CERTS": str(places.BUNDLE),
            "CDK_DOCKER": str(places.SHIM),
            "LOCALCLOUD_CERTIFICATES": str(places.TLS / "registry"),
            "LOCALCLOUD_REGISTRY": f"127.0.0.1:{places.PORT}",
            **ROOT_KEY,
            **places.containers_environment(),
        }

    def __enter__(self) -> Cloud:
        try:
            self._start_podman()
            self._start_emulator()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, *command: str | Path, timeout: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to which Function URLs resolve: in a mount namespace with our resolver."""
        return subprocess.run(
            self.command(*command), env=self.env(**environment), capture_output=True, text=True, timeout=timeout,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def command(self, *command: str | Path) -> list[str]:
        """The command line that puts a command into the namespace."""
        mount = f'mount --bind {self._resolv_conf} /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", mount, "sh", *(str(part) for part in command)]

    def env(self, **environment: str) -> dict[str, str]:
        """Our environment without anybody's AWS settings, with the cloud's, and with the given changes."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SSL_CERT"))}
        return {**inherited, **self.environment, **environment}

    def client(self, service: str) -> Any:
        """A boto3 client with the account's root key."""
        import boto3

        return boto3.client(
            service,
            region_name=places.REGION,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=ROOT_KEY["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ROOT_KEY["AWS_SECRET_ACCESS_KEY"],
            verify=str(places.BUNDLE),
        )

    def close(self) -> None:
        """Stop both servers, remove every container, and the bridge and firewall chains that were not there before."""
        self._resolver.close()
        for process in reversed(self._processes):
            stop(process)
        places.podman("rm", "--force", "--time=0", "--all", check=False)
        self._network.restore()

    def _start_podman(self) -> None:
        places.SOCKET.unlink(missing_ok=True)
        service = ["podman", "system", "service", "--time=0", f"unix://{places.SOCKET}"]
        self._spawn("podman", service, {**os.environ, **places.containers_environment()})
        wait_for(places.SOCKET.exists, "podman")

    def _start_emulator(self) -> None:
        places.MEMORY_CAP.unlink(missing_ok=True)
        command = [str(places.EMULATOR_PYTHON), str(places.FILES / "emulator.py")]
        end_leftover(places.RUN / "emulator.pid", command)
        if not free(places.PORT) or not free(443):
            raise RuntimeError(f"ports {places.PORT} and 443 of 127.0.0.1 must be free for the local cloud")
        settings = {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(places.PORT),
            "AUTH": "true",  # without it any signature passes
            "MINISTACK_ACCOUNT_ID": places.ACCOUNT,
            "MINISTACK_REGION": places.REGION,
            "AWS_DEFAULT_REGION": places.REGION,
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(places.TLS / "server.pem"),
            "MINISTACK_SSL_KEY": str(places.TLS / "server.key"),
            "DOCKER_HOST": f"unix://{places.SOCKET}",
            "AWS_ENDPOINT_URL": self.environment["AWS_ENDPOINT_URL"],
            "S3_DATA_DIR": str(places.TMP / "s3"),
            "STATE_DIR": str(places.TMP / "state"),
            "TMPDIR": str(places.TMP),
            "LOCALCLOUD_MEMORY_CAP": str(places.MEMORY_CAP),
            **ROOT_KEY,
        }
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SSL_CERT_FILE"))
        }
        self._spawn("emulator", command, inherited | settings)
        context = ssl.create_default_context(cafile=str(places.BUNDLE))
        health = f"https://localhost:{places.PORT}/_ministack/health"

        def healthy() -> bool:
            with contextlib.suppress(OSError):
                return urllib.request.urlopen(health, timeout=2, context=context).status == 200
            return False

        wait_for(healthy, "emulator", self._processes[-1])

    def _spawn(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        record = places.RUN / f"{name}.pid"
        end_leftover(record, command)
        with (places.LOGS / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        record.write_text(str(process.pid))
        self._processes.append(process)


def wait_for(condition: Any, name: str, process: subprocess.Popen[bytes] | None = None, seconds: float = 60) -> None:
    """Wait until something has started; otherwise show the end of its log."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up or (process is not None and process.poll() is not None):
            tail = (places.LOGS / f"{name}.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{name} did not start:\n{tail}")
        time.sleep(0.1)


def stop(process: subprocess.Popen[bytes] | None) -> None:
    """End a process that we started."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_leftover(record: Path, command: list[str]) -> None:
    """End the server of an earlier run that was killed before it could clean up: the recorded process, if it is it."""
    try:
        number = int(record.read_text())
        running = Path(f"/proc/{number}/cmdline").read_bytes().decode().split("\0")[:-1]
    except (OSError, ValueError):
        return
    if running != command:
        return
    os.kill(number, signal.SIGTERM)
    give_up = time.monotonic() + 10
    while Path(f"/proc/{number}").exists():
        if time.monotonic() > give_up:
            os.kill(number, signal.SIGKILL)
        time.sleep(0.1)


def free(port: int) -> bool:
    """Whether nothing listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class Network:
    """The bridges, firewall chains and forwarding of before, to which `restore` goes back."""

    def __init__(self) -> None:
        self.bridges, self.chains, self.forwarding = bridges(), chains(), forwarding()

    def restore(self) -> None:
        """Remove what podman's network added."""
        added = [chain for chain in chains() if chain not in self.chains]
        for table, chain in added:
            for rule in output("iptables", "-w", "-t", table, "-S").splitlines():
                if f" -j {chain}" in f"{rule} ":
                    output("sh", "-c", f"iptables -w -t {table} {rule.replace('-A', '-D', 1)}")
        for action in ("-F", "-X"):
            for table, chain in added:
                output("iptables", "-w", "-t", table, action, chain)
        for bridge in bridges() - self.bridges:
            output("ip", "link", "delete", bridge)
        if forwarding() != self.forwarding:
            output("sysctl", "-q", f"net.ipv4.ip_forward={self.forwarding}")


def output(*command: str) -> str:
    """What a command prints; nothing if it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def bridges() -> set[str]:
    """podman's bridges."""
    return {line.split()[0] for line in output("ip", "-br", "link").splitlines() if line.startswith("podman")}


def chains() -> list[tuple[str, str]]:
    """podman's firewall chains, with their tables."""
    return [
        (table, line.split()[1])
        for table in ("filter", "nat")
        for line in output("iptables", "-w", "-t", table, "-S").splitlines()
        if line.startswith(("-N NETAVARK", "-N CNI"))
    ]


def forwarding() -> str:
    """Whether the kernel forwards packets."""
    return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()

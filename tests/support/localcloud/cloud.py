"""Start and stop the local cloud, and run commands against it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from support.registry_server import MANIFEST, RegistryServer

from . import settings
from .forwarder import Forwarder
from .resolver import ADDRESS, Resolver

ROOT_KEY = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


class Cloud:
    """The running cloud, as a context manager.

    Attributes:
        environment: the environment variables that a client needs.
    """

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._network = Network()
        self._registry: RegistryServer | None = None
        self._forwarder = Forwarder((settings.BRIDGE_ADDRESS, settings.PORT), ("127.0.0.1", settings.PORT))
        self._resolver = Resolver(
            {
                f".lambda-url.{settings.REGION}.on.aws": "127.0.0.1",
                settings.BASE_REGISTRY: settings.BASE_REGISTRY_ADDRESS,
            }
        )
        self._resolv_conf = settings.RUN / "resolv.conf"
        self._resolv_conf.write_text(f"nameserver {ADDRESS}\n")
        self.environment = {
            "AWS_ENDPOINT_URL": f"https://localhost:{settings.PORT}",
            "AWS_ENDPOINT_URL_S3": f"https://localhost:{settings.PORT}",
            "AWS_REGION": settings.REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_CA_BUNDLE": str(settings.BUNDLE),
            "REQUESTS_CA_BUNDLE": str(settings.BUNDLE),
            "NODE_EXTRA_CA_CERTS": str(settings.BUNDLE),
            "CDK_DOCKER": str(settings.SHIM),
            "LOCALCLOUD_CERTIFICATES": str(settings.TLS / "registry"),
            "LOCALCLOUD_REGISTRY": f"127.0.0.1:{settings.PORT}",
            **ROOT_KEY,
            **settings.containers_environment(),
        }

    def __enter__(self) -> Cloud:
        try:
            self._start_podman()
            self._start_registry()
            self._start_emulator()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, *command: str | Path, timeout: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a mount namespace in which Function URLs resolve to this machine."""
        return subprocess.run(
            self.command(*command), env=self.env(**environment), capture_output=True, text=True, timeout=timeout,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def command(self, *command: str | Path) -> list[str]:
        """Return the command line that runs a command in the namespace, with the usual signal handlers."""
        usual = ["env", "--default-signal=INT,TERM,HUP"]  # these tests may have been started with some ignored
        mount = f'mount --bind {self._resolv_conf} /etc/resolv.conf && exec "$@"'
        return [*usual, "unshare", "--mount", "sh", "-c", mount, "sh", *(str(part) for part in command)]

    def env(self, **environment: str) -> dict[str, str]:
        """Return this process's environment with the cloud's AWS settings instead of its own, and the given changes."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SSL_CERT"))}
        return {**inherited, **self.environment, **environment}

    def client(self, service: str) -> Any:
        """Return a boto3 client with the account's root key."""
        import boto3

        return boto3.client(
            service,
            region_name=settings.REGION,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=ROOT_KEY["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ROOT_KEY["AWS_SECRET_ACCESS_KEY"],
            verify=str(settings.BUNDLE),
        )

    def close(self) -> None:
        """Stop both servers; remove all containers, and the bridges and firewall chains that podman has added."""
        self._resolver.close()
        self._forwarder.close()
        if self._registry is not None:
            self._registry.__exit__()
        for process in reversed(self._processes):
            stop(process)
        settings.podman("rm", "--force", "--time=0", "--all", check=False)
        self._network.restore()

    def _start_podman(self) -> None:
        settings.SOCKET.unlink(missing_ok=True)
        service = ["podman", "system", "service", "--time=0", f"unix://{settings.SOCKET}"]
        self._spawn("podman", service, {**os.environ, **settings.containers_environment()})
        wait_for(settings.SOCKET.exists, "podman")

    def _start_registry(self) -> None:
        tls = str(settings.TLS / "server.pem"), str(settings.TLS / "server.key")
        self._registry = RegistryServer(settings.BASE_REGISTRY_ADDRESS, 443, tls).__enter__()
        self.publish_base_image(settings.BASE_IMAGE)

    def publish_base_image(self, image: str) -> str:
        """Let the public registry have an image of podman's store as AWS's base image, and return its digest.

        The registry serves the manifest alone: podman finds the layers in its store, by the digest.
        """
        assert self._registry is not None
        id_ = settings.podman("image", "inspect", "--format={{.Id}}", image).stdout.strip()
        manifest = (settings.CONTAINERS / "graph" / "overlay-images" / id_ / "manifest").read_bytes()
        return self._registry.push(manifest, kind=json.loads(manifest).get("mediaType", MANIFEST))

    def patch_base_image(self) -> str:
        """Publish a newer version of the base image, as AWS does, and return its digest."""
        patched = f"{settings.BASE_IMAGE}-patched"
        (settings.TMP / "Patch").write_text(f"FROM {settings.BASE_IMAGE}\nLABEL patched=yes\n")
        settings.podman("build", "--tag", patched, "--file", str(settings.TMP / "Patch"), str(settings.RUN))
        return self.publish_base_image(patched)

    def stored_image(self, address: str) -> str:
        """Return the name in podman's store of an image in ECR that is named by its digest."""
        name, _, digest = address.partition("@")
        images = self.client("ecr").describe_images(repositoryName=name.partition("/")[2])["imageDetails"]
        return next(f"{name}:{each['imageTags'][0]}" for each in images if each["imageDigest"] == digest)

    def _start_emulator(self) -> None:
        for file in (
            settings.MEMORY_CAP,
            settings.STACK_DELAY,
            settings.BUILD_FAULTS,
            settings.CONCURRENCY,
            settings.THROTTLED,
        ):
            file.unlink(missing_ok=True)
        command = [str(settings.EMULATOR_PYTHON), str(settings.FILES / "emulator.py")]
        end_leftover(settings.RUN / "emulator.pid", command)
        if not free(settings.PORT) or not free(443):
            raise RuntimeError(f"ports {settings.PORT} and 443 of 127.0.0.1 must be free for the local cloud")
        variables = {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(settings.PORT),
            "AUTH": "true",  # otherwise any signature passes
            "MINISTACK_ACCOUNT_ID": settings.ACCOUNT,
            "MINISTACK_REGION": settings.REGION,
            "AWS_DEFAULT_REGION": settings.REGION,
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(settings.TLS / "server.pem"),
            "MINISTACK_SSL_KEY": str(settings.TLS / "server.key"),
            "DOCKER_HOST": f"unix://{settings.SOCKET}",
            "AWS_ENDPOINT_URL": self.environment["AWS_ENDPOINT_URL"],
            "S3_DATA_DIR": str(settings.TMP / "s3"),
            "STATE_DIR": str(settings.TMP / "state"),
            "TMPDIR": str(settings.TMP),
            "LOCALCLOUD_MEMORY_CAP": str(settings.MEMORY_CAP),
            "LOCALCLOUD_STACK_DELAY": str(settings.STACK_DELAY),
            "LOCALCLOUD_BUILD_FAULTS": str(settings.BUILD_FAULTS),
            "LOCALCLOUD_CONCURRENCY": str(settings.CONCURRENCY),
            "LOCALCLOUD_THROTTLED": str(settings.THROTTLED),
            "LAMBDA_DOCKER_FLAGS": f"--add-host host.docker.internal:{settings.BRIDGE_ADDRESS} "
            f"--env AWS_CA_BUNDLE={settings.CA_IN_IMAGE}",
            "SFN_WAIT_SCALE": "0.1",
            "LOCALCLOUD_BUNDLE": str(settings.BUNDLE),
            "LOCALCLOUD_SHIM": str(settings.SHIM),
            "LOCALCLOUD_CERTIFICATES": self.environment["LOCALCLOUD_CERTIFICATES"],
            "LOCALCLOUD_REGISTRY": self.environment["LOCALCLOUD_REGISTRY"],
            **settings.containers_environment(),
            **ROOT_KEY,
        }
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SSL_CERT_FILE"))
        }
        self._spawn("emulator", command, inherited | variables)
        context = ssl.create_default_context(cafile=str(settings.BUNDLE))
        health = f"https://localhost:{settings.PORT}/_ministack/health"

        def healthy() -> bool:
            with contextlib.suppress(OSError):
                return urllib.request.urlopen(health, timeout=2, context=context).status == 200
            return False

        wait_for(healthy, "emulator", self._processes[-1])

    def _spawn(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        record = settings.RUN / f"{name}.pid"
        end_leftover(record, command)
        with (settings.LOGS / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        record.write_text(str(process.pid))
        self._processes.append(process)


def wait_for(condition: Any, name: str, process: subprocess.Popen[bytes] | None = None, seconds: float = 60) -> None:
    """Wait until a server has started.

    Raises:
        RuntimeError: it has ended, or the time is up; the message has the end of its log.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            tail = (settings.LOGS / f"{name}.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{name} did not start:\n{tail}")
        time.sleep(0.1)


def stop(process: subprocess.Popen[bytes] | None) -> None:
    """End a process that this module started."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_leftover(record: Path, command: list[str]) -> None:
    """End the server that a killed run has left behind, if the recorded process is still that server."""
    try:
        number = int(record.read_text())
        running = Path(f"/proc/{number}/cmdline").read_bytes().decode().split("\0")[:-1]
    except (OSError, ValueError):
        return
    if running != command:
        return
    os.kill(number, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{number}").exists():
        if time.monotonic() > deadline:
            os.kill(number, signal.SIGKILL)
        time.sleep(0.1)


def free(port: int) -> bool:
    """Whether nothing listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class Network:
    """The bridges, the firewall chains and the forwarding setting at construction, for `restore`."""

    def __init__(self) -> None:
        self.bridges, self.chains, self.forwarding = bridges(), chains(), forwarding()

    def restore(self) -> None:
        """Remove what podman's network has added."""
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
    """Return what a command prints; empty if it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def bridges() -> set[str]:
    """Return the names of podman's bridges."""
    return {line.split()[0] for line in output("ip", "-br", "link").splitlines() if line.startswith("podman")}


def chains() -> list[tuple[str, str]]:
    """Return podman's firewall chains as (table, chain)."""
    return [
        (table, line.split()[1])
        for table in ("filter", "nat")
        for line in output("iptables", "-w", "-t", table, "-S").splitlines()
        if line.startswith(("-N NETAVARK", "-N CNI"))
    ]


def forwarding() -> str:
    """Return the kernel's setting for forwarding packets, 0 or 1."""
    return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()

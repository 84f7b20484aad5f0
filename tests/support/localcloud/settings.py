"""Paths of the local cloud, its addresses, and the versions it is tested with."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

HOME = Path(os.environ.get("LOCALCLOUD_HOME") or Path(tempfile.gettempdir()) / "lambdiff-localcloud")
FILES = Path(__file__).parent
LOGS, RUN, STAMPS, TMP = (HOME / name for name in ("logs", "run", "stamps", "tmp"))
CONTAINERS, TLS, ROOTFS = HOME / "containers", HOME / "tls", HOME / "rootfs"
BUNDLE = TLS / "bundle.pem"
CA_IN_IMAGE = "/etc/ssl/certs/localcloud.pem"
EMULATOR_PYTHON = HOME / "emulator" / "bin" / "python"
RIE = HOME / "aws-lambda-rie"
SHIM = HOME / "container-engine"
SOCKET = RUN / "podman.sock"
MEMORY_CAP = RUN / "memory-cap"
BUILD_FAULTS = RUN / "build-faults.json"
"""What goes wrong in CodeBuild's builds: the variables FAULT and HOLD of container-engine.sh."""
STACK_DELAY = RUN / "stack-delay"
CONCURRENCY = RUN / "concurrency"
"""The account's limit of concurrent calls by state machines, while the file exists; see map_runs.py."""

PORT = 4566
REGION = "us-east-1"
ACCOUNT = "123456789012"
THROTTLED = RUN / "throttled"
"""How many calls have been refused because of that limit."""
BRIDGE_ADDRESS = "10.88.0.1"
"""Of podman's default bridge: where containers reach this machine."""
BASE_REGISTRY, BASE_REGISTRY_ADDRESS = "public.ecr.aws", "127.0.0.78"
BASE_IMAGE = f"{BASE_REGISTRY}/lambda/python:3.12"

EMULATOR = "ministack==1.5.33"  # pinned: emulator.py patches private names
SAM_CLI = "aws-sam-cli==1.170.0"  # its wheel contains the Runtime Interface Emulator
RUNTIME_CLIENT = "awslambdaric==4.2.2"
DEBIAN = "bookworm"


def containers_environment() -> dict[str, str]:
    """Return variables that make podman keep everything in HOME and build on the host's network."""
    return {
        "CONTAINERS_STORAGE_CONF": str(CONTAINERS / "storage.conf"),
        "CONTAINERS_CONF": str(CONTAINERS / "containers.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(CONTAINERS / "registries.conf"),
        "BUILDAH_ISOLATION": "chroot",
        "TMPDIR": str(TMP),
    }


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run podman on the local cloud's own store.

    Raises:
        RuntimeError: it failed and `check` is true.
    """
    answer = subprocess.run(
        ["podman", *arguments],
        env={**os.environ, **containers_environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    if check and answer.returncode != 0:
        raise RuntimeError(f"podman {arguments[0]}: {answer.stderr.strip()[-2000:]}")
    return answer

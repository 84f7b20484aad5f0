"""Where the digest of the base image comes from (infra/base_image.py): registry, container engine, last deployment."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lambdiff.errors import ConfigurationError, ToolchainError
from lambdiff.infra import base_image, registry
from lambdiff.infra.registry import ImageReference, RegistryError
from lambdiff.infra.toolchain import Tool
from support.registry_server import RegistryServer

OLD, NEW = "sha256:" + "0" * 64, "sha256:" + "1" * 64


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryServer]:
    """A registry with one image."""
    monkeypatch.setattr(registry, "_WAIT", 0.01)
    with RegistryServer() as running:
        running.push("image")
        yield running


EngineProgram = Callable[..., Callable[[], Tool]]


@pytest.fixture
def engine(tmp_path: Path) -> EngineProgram:
    """A function that makes a program in place of the container engine: it knows one image, or pulls it first."""

    def make(image: str, *, pulls: bool, digests: list[str] | None) -> Callable[[], Tool]:
        answer = json.dumps({"digests": digests, "id": NEW})
        program = (
            f"#!{sys.executable}\nimport sys\ncommand = sys.argv[1:]\n"
            f"open({str(tmp_path / 'commands')!r}, 'a').write(' '.join(command) + '\\n')\n"
            f"if command[0] == 'pull': sys.exit({0 if pulls else 1})\n"
            f"assert command[:3] == ['image', 'inspect', '--format'] and command[-1] == {image!r}, command\n"
            f"print({answer!r})\n"
        )
        path = tmp_path / "engine"
        path.write_text(program)
        path.chmod(0o755)
        return lambda: Tool((str(path),), "1", "test")

    return make


def test_the_registry_knows_the_digest(server: RegistryServer) -> None:
    """The Dockerfile gets name and digest; the output of the stack has the tag as well. There is nothing to note."""
    pinned = base_image.pin(server.image)
    digest = server.push("image")
    assert pinned.address == f"{server.host}/lambda/python@{digest}"
    assert str(pinned.image) == f"{server.image}@{digest}"
    assert pinned.note == ""


def test_a_given_digest_is_taken_as_it_is(server: RegistryServer) -> None:
    """The registry is not asked."""
    pinned = base_image.pin(f"{server.host}/lambda/python@{OLD}")
    assert pinned.address == str(pinned.image) == f"{server.host}/lambda/python@{OLD}"
    assert server.requests == []
    with pytest.raises(ConfigurationError):
        base_image.pin("not an image")


@pytest.mark.parametrize(("pulls", "words"), [(True, "pulled by the container engine"), (False, "engine's copy")])
def test_the_container_engine_may_know_more(
    server: RegistryServer, engine: EngineProgram, tmp_path: Path, pulls: bool, words: str
) -> None:
    """It may be logged in to a private registry, or have a copy; the note has the registry's reason."""
    server.faults = ["login"]
    others = [f"elsewhere.example/lambda/python@{OLD}", "?"]
    tool = engine(server.image, pulls=pulls, digests=[*others, f"{server.host}/lambda/python@{NEW}"])
    pinned = base_image.pin(server.image, engine=tool, platform="linux/arm64", recorded=f"{server.image}@{OLD}")
    assert pinned.address == f"{server.host}/lambda/python@{NEW}"
    assert "needs a login" in pinned.note
    assert words in pinned.note
    assert f"pull --quiet --platform linux/arm64 {server.image}\n" in (tmp_path / "commands").read_text()


@pytest.mark.parametrize("digests", [[], None])
def test_an_image_that_was_only_built_here_has_its_id(
    server: RegistryServer, engine: EngineProgram, digests: list[str] | None
) -> None:
    """It has no digest, so the Dockerfile names its tag, and its id stands for its content."""
    name = f"{server.host}/mine:1"
    pinned = base_image.pin(name, engine=engine(name, pulls=False, digests=digests))
    assert (pinned.address, str(pinned.image)) == (name, f"{name}@{NEW}")


def missing_engine() -> Tool:
    """Stand for a machine without a container engine."""
    raise ToolchainError("none")


@pytest.mark.parametrize("tool", [None, missing_engine])
def test_otherwise_the_last_deployment_stays(server: RegistryServer, tool: Callable[[], Tool] | None) -> None:
    """Without registry and engine, nothing changes, and the note says so."""
    server.faults = ["login"]
    pinned = base_image.pin(server.image, engine=tool, recorded=f"{server.image}@{OLD}")
    assert pinned.address == f"{server.host}/lambda/python@{OLD}"
    assert "needs a login" in pinned.note
    assert "stays that of the last deployment" in pinned.note


@pytest.mark.parametrize("recorded", [None, "", "unknown", f"elsewhere.example/x:1@{OLD}", f"x@{OLD}"])
def test_without_any_source_it_is_an_error(server: RegistryServer, recorded: str | None) -> None:
    """The error has the registry's reason and the way around it; another base image's digest is not taken."""
    server.faults = ["login"]
    with pytest.raises(RegistryError, match="needs a login") as caught:
        base_image.pin(server.image, recorded=recorded)
    assert f"`base_image={server.host}/lambda/python@sha256:...`" in caught.value.fix


def test_a_newer_image_is_found(server: RegistryServer) -> None:
    """It is the digest that the tag has now; None if it is the same."""
    pinned = base_image.pin(server.image).image
    assert base_image.update_of(pinned) is None
    newer = server.push("patched")
    assert base_image.update_of(pinned) == newer


def test_a_replaced_image_has_the_same_tag_and_another_digest() -> None:
    """Another tag, another name or no tag is not a newer version of the same image."""
    recorded = f"public.ecr.aws/lambda/python:3.12@{OLD}"
    for text, expected in (
        (f"public.ecr.aws/lambda/python:3.12@{NEW}", True),
        (recorded, False),
        (f"public.ecr.aws/lambda/python:3.13@{NEW}", False),
        (f"public.ecr.aws/lambda/python@{NEW}", False),
    ):
        assert base_image.replaces(ImageReference.parse(text), recorded) is expected

"""The Model Context Protocol, with the SDK's own client."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading

import numpy as np
import pytest
from mcp import Client as McpClient
from mcp.shared.exceptions import MCPError
from PIL import Image

from lambdiff.client.client import Client
from lambdiff.errors import EndpointFailed
from lambdiff.gateway.generator import Budget
from lambdiff.gateway.mcp_server import ImageTools
from support.stub_engine import StubEngine, pattern
from support.stub_transport import StubTransport


def tools(engine=None, folder=None, **options):
    """Return the tools of a server in front of an engine."""
    return ImageTools(Client(transport=StubTransport(engine or StubEngine())), folder, **options)


def call(server, arguments, **options):
    """Call the tool once."""

    async def main():
        async with McpClient(server.server) as client:
            return await client.call_tool("generate_image", arguments, **options)

    return asyncio.run(main())


def test_the_tool_has_the_contracts_parameters():
    """The schema has the parameters of a request with their limits, and a file name only where files are saved."""

    async def schema(server):
        async with McpClient(server.server) as client:
            (tool,) = (await client.list_tools()).tools
            return tool.input_schema

    plain = asyncio.run(schema(tools()))
    assert plain["required"] == ["prompt"]
    assert plain["properties"]["num_inference_steps"]["maximum"] == 100
    assert {"image", "mask", "image_format", "file_name"}.isdisjoint(plain["properties"])
    assert "file_name" in asyncio.run(schema(tools(folder="x")))["properties"]


def test_an_image_comes_back_with_its_seed_and_progress():
    """The content is the image and a report; each step is a progress notification."""
    steps = []

    async def on_progress(done, total, message):
        steps.append((done, total))

    result = call(tools(), {"prompt": "a cat", "seed": 7, "num_inference_steps": 3}, progress_callback=on_progress)
    image, report = result.content
    assert not result.is_error
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image.data))))
    assert (image.mime_type, (pixels == pattern(7, 64, 64)).all()) == ("image/png", True)
    assert json.loads(report.text) == result.structured_content
    assert result.structured_content["seed"] == 7
    assert steps == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "num_inference_steps": 0}, "num_inference_steps"),
        ({"prompt": "a", "steps": 3}, "did you mean num_inference_steps"),
        ({"prompt": "a", "image": "aGk="}, "is not offered here"),
        ({"prompt": "a", "file_name": "cat.png"}, "saves no files"),
    ],
)
def test_bad_arguments_are_errors_of_the_tool(arguments, message):
    """A language model gets the reason, with the fix, and nothing is generated."""
    engine = StubEngine()
    result = call(tools(engine), arguments)
    assert result.is_error
    assert message in result.content[0].text
    assert engine.calls == 0


def test_a_failure_is_an_error_of_the_tool():
    """What the endpoint says reaches the caller."""
    result = call(tools(StubEngine(error=EndpointFailed("It failed.", fix="Try again."))), {"prompt": "a cat"})
    assert (result.is_error, result.content[0].text) == (True, "It failed. Try again.")


def test_files_are_saved_in_the_folder_only(tmp_path):
    """A plain name becomes a file of its format; existing files and other places are refused."""
    server = tools(folder=tmp_path)
    saved = call(server, {"prompt": "a cat", "file_name": "cat.webp"}).structured_content["file"]
    assert Image.open(saved).format == "WEBP"
    assert "already exists" in call(server, {"prompt": "a dog", "file_name": "cat.webp"}).content[0].text
    for name in ("../cat.png", "/cat.png", "a/b.png", "..", ".cat.png", "cat", "cat.gif", "a\\b.png", 5, "a\0.png"):
        assert call(server, {"prompt": "a cat", "file_name": name}).is_error, name
    assert [path.name for path in tmp_path.iterdir()] == ["cat.webp"]


def test_what_was_made_is_a_resource():
    """Images are listed and can be read again; others do not exist."""
    server = tools()

    async def main():
        async with McpClient(server.server) as client:
            made = await client.call_tool("generate_image", {"prompt": "a cat", "seed": 7})
            (resource,) = (await client.list_resources()).resources
            (content,) = (await client.read_resource(resource.uri)).contents
            with pytest.raises(MCPError, match="no such image"):
                await client.read_resource("lambdiff://images/99")
            return made, resource, content

    made, resource, content = asyncio.run(main())
    assert str(resource.uri) == made.structured_content["resource"]
    assert content.blob == made.content[0].data


def test_an_unknown_tool_is_an_error_of_the_protocol():
    """There is one tool."""

    async def main():
        async with McpClient(tools().server) as client:
            with pytest.raises(MCPError, match="no tool 'other'"):
                await client.call_tool("other", {})

    asyncio.run(main())


def test_images_are_limited():
    """The limit of an hour is an error of the tool."""
    server = tools(budget=Budget(1))
    assert not call(server, {"prompt": "a cat"}).is_error
    refused = call(server, {"prompt": "a cat"})
    assert refused.is_error
    assert "at most 1 images an hour" in refused.content[0].text


def test_a_cancelled_call_stops_the_engine():
    """When the host cancels, the steps end."""
    begun = threading.Event()
    engine = StubEngine(step_seconds=0.02, before_step=begun.set)

    async def main():
        async with McpClient(tools(engine).server) as client:
            arguments = {"prompt": "a cat", "num_inference_steps": 100}
            task = asyncio.ensure_future(client.call_tool("generate_image", arguments))
            while not begun.is_set():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.2)

    asyncio.run(main())
    assert engine.steps < 100

"""The gateway as a process: OpenAI's own SDK, many callers, callers that go away, and how it starts and ends."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import openai
import pytest
import uvicorn
from mcp import Client as McpClient
from mcp import StdioServerParameters
from PIL import Image

from lambdiff.auth.credentials import Keys
from lambdiff.client.client import Client
from lambdiff.gateway.app import make_app
from lambdiff.gateway.settings import Settings
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from support.stub_engine import StubEngine, pattern
from support.stub_transport import StubTransport

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


@contextmanager
def serving(client: Client, **settings) -> Iterator[str]:
    """Run a gateway in this process, and yield its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    configuration = uvicorn.Config(make_app(client, Settings(**settings)), log_level="warning", lifespan="on")
    server = uvicorn.Server(configuration)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def command(*arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Run `lambdiff gateway`, and yield the process and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lambdiff", "gateway", "--port", "0", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables},
    )  # fmt: skip
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def pixels(text: str) -> np.ndarray:
    """Return the pixels of an image in base64."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


@pytest.mark.engine
@pytest.mark.linux
def test_openais_sdk_generates_with_the_built_in_model() -> None:
    """The SDK, sync and async, gets images, links, streams and errors from a gateway process; SIGTERM ends it."""
    with command("--local", LAMBDIFF_GATEWAY_KEY="sk-local-key") as (process, url):
        sdk = openai.OpenAI(base_url=f"{url}v1", api_key="sk-local-key", max_retries=0)
        ours = {"seed": 7, "num_inference_steps": 1}
        reply = sdk.images.generate(prompt="a cat in a top hat", n=2, size="128x128", extra_body=ours)
        assert len(reply.data) == 2
        with Client(local=True) as client:
            alone = client.generate("a cat in a top hat", width=128, height=128, **ours)
        assert base64.b64decode(reply.data[0].b64_json) == alone.content
        with sdk.images.generate(prompt="a cat", stream=True, extra_body=ours) as events:
            assert [event.type for event in events] == ["image_generation.completed"]
        with sdk.images.generate(prompt="a cat", stream=True, partial_images=2, extra_body={"seed": 7}) as events:
            previews = list(events)
        assert [event.type for event in previews] == [
            *["image_generation.partial_image"] * 2,
            "image_generation.completed",
        ]
        first, second, final = (pixels(event.b64_json).astype(float) for event in previews)
        assert np.abs(second - final).mean() < np.abs(first - final).mean() < 40
        assert [model.id for model in sdk.models.list()] == ["lambdiff-emoji"]
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.images.generate(prompt="a cat", n=11)
        assert refused.value.param == "n"
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{url}v1", api_key="wrong", max_retries=0).models.list()

        async def edit() -> openai.types.ImagesResponse:
            async with openai.AsyncOpenAI(base_url=f"{url}v1", api_key="sk-local-key", max_retries=0) as sdk:
                return await sdk.images.generate(prompt="a dog", response_format="url", extra_body=ours)

        link = asyncio.run(edit()).data[0].url
        connection = http.client.HTTPConnection(link.split("/")[2])
        connection.request("GET", urlsplit(link).path)
        assert connection.getresponse().read().startswith(b"\x89PNG")
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        _, messages = process.communicate(timeout=20)
        assert time.monotonic() - began < 10
        assert "Traceback" not in messages
        assert "cat" not in messages.replace('"a cat in a top hat"', "")  # the example


@pytest.mark.slow
def test_many_callers_of_a_busy_endpoint_get_their_own_images() -> None:
    """Sixty-four callers get the image of their own seed, through a gateway before a Function URL."""
    wrong: list[object] = []
    with (
        FunctionUrlServer(App(StubEngine), KEYS, "us-east-1", concurrency=64) as function,
        serving(Client(url=function.url, region="us-east-1", credentials=KEYS), workers=64) as url,
    ):

        def call(seed: int) -> None:
            try:
                with openai.OpenAI(base_url=f"{url}v1", api_key="none", max_retries=0) as sdk:
                    reply = sdk.images.generate(prompt="a cat", extra_body={"seed": seed})
                    if not (pixels(reply.data[0].b64_json) == pattern(seed, 64, 64)).all():
                        wrong.append(seed)
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=call, args=(seed,)) for seed in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.slow
def test_a_caller_that_goes_away_stops_what_this_machine_generates() -> None:
    """When the connection is closed, the engine does not finish the steps."""
    begun = threading.Event()
    engine = StubEngine(step_seconds=0.05, before_step=begun.set)
    with serving(Client(transport=StubTransport(engine))) as url:
        connection = http.client.HTTPConnection(url.split("/")[2])
        body = json.dumps({"prompt": "a cat", "num_inference_steps": 100})
        connection.request("POST", "/v1/images/generations", body, {"content-type": "application/json"})
        assert begun.wait(10)
        connection.close()
        until = time.monotonic() + 10
        steps = -1
        while engine.steps != steps and time.monotonic() < until:
            steps = engine.steps
            time.sleep(0.5)
        assert engine.steps < 100


@pytest.mark.slow
def test_the_event_loop_stays_free_while_images_are_generated() -> None:
    """While an image takes long, other requests are answered."""
    begun, release = threading.Event(), threading.Event()
    engine = StubEngine(before_step=lambda: (begun.set(), release.wait(20)))
    with serving(Client(transport=StubTransport(engine))) as url:
        sdk = openai.OpenAI(base_url=f"{url}v1", api_key="none", max_retries=0)
        slow = threading.Thread(target=sdk.images.generate, kwargs={"prompt": "a cat"})
        slow.start()
        assert begun.wait(10)
        connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        release.set()
        slow.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--host", "0.0.0.0"], 2, "add --api-key KEY"),  # noqa: S104
        (["--api-key", "short"], 2, "at least 8"),
        (["--host", "192.0.2.1"], 6, "cannot listen on 192.0.2.1"),
    ],
)
def test_a_gateway_that_must_not_or_cannot_start(arguments: list[str], code: int, message: str) -> None:
    """Without a key, no other machine may reach it; an address that is not ours is named."""
    command = [sys.executable, "-m", "lambdiff", "gateway", "--local", "--port", "0", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == code
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.engine
@pytest.mark.linux
def test_mcp_over_stdio_and_over_http(tmp_path) -> None:
    """The SDK's own client gets the same image from `lambdiff mcp` and from the gateway's /mcp."""
    variables = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "HOME")}
    command_line = [sys.executable, "-m", "lambdiff", "mcp", "--local", "--output-dir", str(tmp_path)]
    arguments = {"prompt": "a cat in a top hat", "seed": 7, "num_inference_steps": 1}

    async def over_stdio():
        server = StdioServerParameters(command=command_line[0], args=command_line[1:], env=variables)
        async with McpClient(server) as client:
            return await client.call_tool("generate_image", {**arguments, "file_name": "cat.png"})

    async def over_http(url: str):
        async with McpClient(f"{url}mcp") as client:
            return await client.call_tool("generate_image", arguments)

    saved = asyncio.run(over_stdio())
    with command("--local") as (_, url):
        sent = asyncio.run(over_http(url))
    assert saved.content[0].data == sent.content[0].data
    assert (tmp_path / "cat.png").read_bytes() == base64.b64decode(sent.content[0].data)


@pytest.mark.slow
def test_mcp_is_behind_the_guard() -> None:
    """Requests of foreign pages and without the key do not reach /mcp."""
    with serving(Client(transport=StubTransport(StubEngine())), api_key="secret-key") as url:
        for headers in ({}, {"authorization": "Bearer secret-key", "origin": "https://evil.example"}):
            connection = http.client.HTTPConnection(url.split("/")[2])
            connection.request("POST", "/mcp", "{}", {"content-type": "application/json", **headers})
            assert connection.getresponse().status in (401, 403)

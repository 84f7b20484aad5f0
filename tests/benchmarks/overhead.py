"""Measure the overhead of lambdiff's client over a script as in tutorials: botocore's SigV4Auth and requests.

    python tests/benchmarks/overhead.py [--rounds 300]

Both call the same Function URL server on loopback, in turn, with an engine that takes no time, and decode the image.
A gateway in front of the same server is called, too, as programs with OpenAI's API call it. Prints a table in Markdown.
The results are the ratio of the medians, and the milliseconds that the gateway adds to the client.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests
import uvicorn
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from lambdiff import Client
from lambdiff.auth.credentials import Keys
from lambdiff.gateway.app import make_app
from lambdiff.gateway.settings import Settings
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from support.stub_engine import StubEngine

KEYS = Keys("AKIDEXAMPLE", "benchmark-secret")
LIMIT = 1.3
GATEWAY_LIMIT_MS = 10.0
GATEWAY = "through the gateway"


def tutorial(url: str, session: requests.Session | None = None) -> Image.Image:
    """Send a request as in tutorials, over a new connection or that of a session."""
    body = '{"prompt": "a cat in a top hat", "seed": 7}'
    request = AWSRequest("POST", url, data=body, headers={"Content-Type": "application/json"})
    SigV4Auth(Credentials(KEYS.access_key_id, KEYS.secret_access_key), "lambda", "us-east-1").add_auth(request)
    reply = (session or requests).post(url, data=body, headers=dict(request.headers), timeout=60)
    reply.raise_for_status()
    image = Image.open(io.BytesIO(reply.content))
    image.load()
    return image


@contextlib.contextmanager
def gateway(client: Client) -> Iterator[str]:
    """Run a gateway in front of a client, and yield its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as `lambdiff gateway` does
    server = uvicorn.Server(uvicorn.Config(make_app(client, Settings()), log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join()


def through_gateway(url: str, session: requests.Session) -> Image.Image:
    """Send a request as a program with OpenAI's API does."""
    fields = {"prompt": "a cat in a top hat", "seed": 7}
    reply = session.post(f"{url}v1/images/generations", json=fields, timeout=60)
    reply.raise_for_status()
    image = Image.open(io.BytesIO(base64.b64decode(reply.json()["data"][0]["b64_json"])))
    image.load()
    return image


def seconds(call: Callable[[], object]) -> float:
    """Return the wall-clock time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the times of each contender; the contenders take turns."""
    with contextlib.ExitStack() as running:
        function = running.enter_context(FunctionUrlServer(App(StubEngine), KEYS, "us-east-1", concurrency=4))
        client = Client(function.url, region="us-east-1", credentials=KEYS)
        url = running.enter_context(gateway(Client(function.url, region="us-east-1", credentials=KEYS)))
        to_gateway = requests.Session()
        session = requests.Session()
        contenders: dict[str, Callable[[], object]] = {
            "tutorial, a new connection each time": lambda: tutorial(function.url),
            "tutorial, with a session": lambda: tutorial(function.url, session),
            "lambdiff": lambda: client.generate("a cat in a top hat", seed=7),
            GATEWAY: lambda: through_gateway(url, to_gateway),
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(rounds + 20):
            for name, call in contenders.items():
                taken = seconds(call)
                if turn >= 20:
                    times[name].append(taken)
    return times


def main() -> int:
    """Run the command line; the exit code is 1 if an overhead is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    times = measure(parser.parse_args().rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = medians["tutorial, a new connection each time"]
    print("| client | median ms | ratio |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median * 1000:.2f} | {median / base:.2f} |")
    added = 1000 * (medians[GATEWAY] - medians["lambdiff"])
    print(f"\nThe gateway adds {added:.1f} ms to the client.")
    return int(medians["lambdiff"] / base > LIMIT or added > GATEWAY_LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())

"""Measure the overhead of lambdiff's client over a script as in tutorials: botocore's SigV4Auth and requests.

    python tests/benchmarks/overhead.py [--rounds 300]

Both call the same Function URL server on loopback, in turn, with an engine that takes no time, and decode the image.
Prints a table in Markdown. The result is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from lambdiff import Client
from lambdiff.auth.credentials import Keys
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from support.stub_engine import StubEngine

KEYS = Keys("AKIDEXAMPLE", "benchmark-secret")
LIMIT = 1.3


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


def seconds(call: Callable[[], object]) -> float:
    """Return the wall-clock time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the times of each contender; the contenders take turns."""
    with FunctionUrlServer(App(StubEngine), KEYS, "us-east-1", concurrency=4) as function:
        client = Client(function.url, region="us-east-1", credentials=KEYS)
        session = requests.Session()
        contenders: dict[str, Callable[[], object]] = {
            "tutorial, a new connection each time": lambda: tutorial(function.url),
            "tutorial, with a session": lambda: tutorial(function.url, session),
            "lambdiff": lambda: client.generate("a cat in a top hat", seed=7),
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(rounds + 20):
            for name, call in contenders.items():
                taken = seconds(call)
                if turn >= 20:
                    times[name].append(taken)
    return times


def main() -> int:
    """Run the command line; the exit code is 1 if the overhead is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    times = measure(parser.parse_args().rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = medians["tutorial, a new connection each time"]
    print("| client | median ms | ratio |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median * 1000:.2f} | {median / base:.2f} |")
    return int(medians["lambdiff"] / base > LIMIT)


if __name__ == "__main__":
    sys.exit(main())

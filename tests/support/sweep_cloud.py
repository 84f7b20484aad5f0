"""A simulated deployment for `bench --memory`: a function in moto whose clock depends on its memory."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import boto3

from lambdiff.bench.memory_sweep import MemorySweep
from lambdiff.handler.app import App
from lambdiff.protocol import headers
from lambdiff.protocol.contract import OnStep
from lambdiff.protocol.http import HttpRequest, HttpResponse
from lambdiff.stages import Stages
from support.aws_resources import OUTPUTS, REGION
from support.stub_engine import StubEngine

MakeSweep = Callable[..., MemorySweep]

FUNCTION, GROUP = OUTPUTS["FunctionName"], OUTPUTS["LogGroup"]
BILLED = {2048: 2.5, 3008: 2.0, 10_240: 1.0}
"""Billed seconds of an image at each memory size: 5, 5.875 and 10 GB-seconds."""
HANDLER_SECONDS = 0.75
"""The sum of the phases in the handler's timings."""
NETWORK, COLD = 0.1, 4.0
"""Seconds that a caller waits in addition: for each image, and for the first one of an environment."""
CAP = "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 3008"
COMMAND = f"aws lambda update-function-configuration --function-name {FUNCTION} --memory-size 3008 --region {REGION}"


@functools.cache
def aws_client(service: str) -> Any:
    """Return a cached client that is not subject to the faults in `Cloud`."""
    return boto3.client(service, REGION, aws_access_key_id="FOOBARKEY", aws_secret_access_key="FOOBARSECRET")


@dataclass
class Cloud:
    """A simulated deployment that records what happens and whose attributes decide what goes wrong.

    Attributes:
        now: the caller's clock in seconds.
        updates: every memory size that was requested, in order.
        images: the memory size that generated each image, in order.
        refuse: called with (size, number of the update); returns (code, HTTP status) of AWS's refusal, or None.
        configuration: overrides the function's configuration; moto supports no SnapStart and is never busy.
        before_image: called with (size, number of the image at this size) before an image is generated.
        reported: whether Lambda writes REPORT lines to the log.
        reported_memory: called with the size; returns the size in the REPORT line.
    """

    now: float = 0.0
    updates: list[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    refuse: Callable[[int, int], tuple[str, int] | None] = lambda *_: None
    before_image: Callable[[int, int], None] = lambda *_: None
    configuration: dict[str, Any] = field(default_factory=dict)
    reported: bool = True
    reported_memory: Callable[[int], int] = lambda size: size

    @property
    def memory(self) -> int:
        """The function's memory in MB."""
        return int(aws_client("lambda").get_function_configuration(FunctionName=FUNCTION)["MemorySize"])

    def after_reading(self, parsed: dict[str, Any], **_: Any) -> None:
        """Handle botocore's event for a reply."""
        parsed["Configuration"].update(self.configuration)

    def before_update(self, params: dict[str, Any], **_: Any) -> Any:
        """Handle botocore's event before a request is sent; a returned reply replaces AWS's."""
        size = json.loads(params["body"])["MemorySize"]
        self.updates.append(size)
        refusal = self.refuse(size, len(self.updates))
        if refusal is None:
            return None
        code, status = refusal
        error = {"Code": code, "Message": CAP if code == "ValidationException" else "not now"}
        return SimpleNamespace(status_code=status), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}


class Environment:
    """A transport to moto's function, with a new environment for each memory size."""

    url = OUTPUTS["LambdaUrl"]

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self._apps: dict[int, App] = {}

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        size = self.cloud.memory
        if size not in self._apps:
            self._apps = {size: App(StubEngine, write_log=self.write)}
        if method == "POST":
            self.cloud.images.append(size)
            self.cloud.before_image(size, self.cloud.images.count(size))
        request = HttpRequest(
            method, headers={"content-type": "application/json"}, body=body, request_id=os.urandom(8).hex()
        )
        reply = self._apps[size].handle(request, on_step)
        if method == "POST":
            cold = "load" in headers.decode_timings(reply.headers[headers.TIMING_HEADER])
            self.cloud.now += BILLED[size] + NETWORK + (COLD if cold else 0)
            timings = headers.encode_timings({"denoise": HANDLER_SECONDS, **({"load": COLD} if cold else {})})
            reply = dataclasses.replace(reply, headers={**reply.headers, headers.TIMING_HEADER: timings})
            if self.cloud.reported:
                billed, memory = BILLED[size] * 1000, self.cloud.reported_memory(size)
                put(f"REPORT RequestId: {request.request_id}\tBilled Duration: {billed} ms\tMemory Size: {memory} MB")
        return reply

    def write(self, entry: dict[str, Any]) -> None:
        """Write a line of the handler to the log."""
        put(json.dumps(entry))

    def close(self) -> None:
        """Nothing to release."""


def put(message: str) -> None:
    """Write a line to the function's log."""
    event = {"timestamp": int(time.time() * 1000), "message": message}
    aws_client("logs").put_log_events(logGroupName=GROUP, logStreamName="one", logEvents=[event])


def interrupt(size: int, number: int) -> None:
    """Simulate Ctrl-C during the second image at 2,048 MB."""
    if (size, number) == (2048, 2):
        raise KeyboardInterrupt


def quiet() -> Stages:
    """Return stages on a stream that nothing reads."""
    return Stages(io.StringIO())


def yes(_: str) -> bool:
    """Answer yes."""
    return True

"""Step Functions for unit tests: executions that really call the batch function's worker, beside moto's buckets.

Calls go through boto3 with all its checks of parameters; the replies come from here. The items are read from the bucket
and handled one after the other by a `BatchWorker` with a stub engine, whenever a test says so.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from obstore.exceptions import AlreadyExistsError, PreconditionError

from lambdiff.aws.account import Account
from lambdiff.aws.function import Function
from lambdiff.handler.app import App
from lambdiff.handler.batch_worker import BatchWorker
from lambdiff.protocol.batch_layout import BatchItem
from lambdiff.protocol.contract import GenerateRequest
from lambdiff.protocol.request_key import request_key
from support.aws_resources import REGION, make_stack
from support.stub_engine import MANIFEST, StubEngine

BUCKET = "lambdiff-batchbucket"
FUNCTION = "lambdiff-BatchFunction"
MACHINE = f"arn:aws:states:{REGION}:123456789012:stateMachine:Batch"
START = datetime.datetime(2026, 12, 1, 12, tzinfo=datetime.UTC)


class BucketStore:
    """What the worker uses of obstore, on a bucket of moto's."""

    def put(self, name: str, content: bytes, *, mode: Any = None, attributes: Any = None, **_: Any) -> dict[str, str]:
        client = boto3.client("s3", REGION)
        if mode == "create" and self._tag(name) is not None:
            raise AlreadyExistsError(name)
        if isinstance(mode, dict) and self._tag(name) != mode["e_tag"]:
            raise PreconditionError(name)
        return {"e_tag": client.put_object(Bucket=BUCKET, Key=name, Body=content)["ETag"]}

    def get(self, name: str) -> Any:
        if self._tag(name) is None:
            raise FileNotFoundError(name)
        reply = boto3.client("s3", REGION).get_object(Bucket=BUCKET, Key=name)
        content = reply["Body"].read()
        return type("Result", (), {"bytes": lambda _: content, "meta": {"e_tag": reply["ETag"]}})()

    def head(self, name: str) -> None:
        if self._tag(name) is None:
            raise FileNotFoundError(name)

    def _tag(self, name: str) -> str | None:
        try:
            return str(boto3.client("s3", REGION).head_object(Bucket=BUCKET, Key=name)["ETag"])
        except ClientError:
            return None


@dataclass
class Run:
    """One execution: its input, its items, and its child executions by state."""

    given: dict[str, Any]
    items: list[dict[str, Any]]
    status: str = "RUNNING"
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class MapCloud:
    """A deployment with `batch` whose state machine is here.

    Attributes:
        engine: generates the images.
        killed: the numbers of the rows whose calls are killed before they report.
        eager: whether an execution is worked off as soon as it is started.
        runs: the executions by ARN.
    """

    engine: StubEngine = field(default_factory=StubEngine)
    killed: set[int] = field(default_factory=set)
    eager: bool = False
    runs: dict[str, Run] = field(default_factory=dict)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Create the stack's outputs and the bucket, and answer the calls of all accounts to Step Functions."""
        outputs = {"BatchBucketName": BUCKET, "BatchFunctionName": FUNCTION, "BatchStateMachineArn": MACHINE}
        make_stack(outputs=outputs)
        boto3.client("s3", REGION).create_bucket(Bucket=BUCKET)
        self._worker = BatchWorker(App(lambda: self.engine), BucketStore)
        original = Account.client

        def client(account: Account, service: str) -> Any:
            client: Any = original(account, service)  # type: ignore[call-overload]
            if service == "stepfunctions":
                client.meta.events.register("before-call.stepfunctions", self._answer)
            return client

        monkeypatch.setattr(Account, "client", client)

    def work(self, items: int = 1_000_000) -> None:
        """Handle some of the items of the running executions."""
        for run in self.runs.values():
            while run.status == "RUNNING" and run.items and items:
                items -= 1
                self._handle(run, run.items.pop(0))
            if run.status == "RUNNING" and not run.items:
                run.status = "SUCCEEDED"

    def _handle(self, run: Run, item: dict[str, Any]) -> None:
        given = {"run": run.given["run"], "item": {"key": item["key"], "request": item["request"]}}
        run.counts["pending"] -= 1
        try:
            if item["number"] in self.killed:
                raise TimeoutError("Task timed out")
            self._worker(given)
        except Exception as error:
            run.counts["failed"] += 1
            run.failures.append({"input": json.dumps(given), "error": type(error).__name__, "cause": str(error)})
        else:
            run.counts["succeeded"] += 1

    def _answer(self, model: Any, params: Any, context: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
        given = json.loads(params["body"])
        reply: dict[str, Any] = {"ResponseMetadata": {"HTTPStatusCode": 200}}
        return type("Response", (), {"status_code": 200})(), {**reply, **getattr(self, model.name)(given)}

    def StartExecution(self, given: dict[str, Any]) -> dict[str, Any]:
        arn = f"{MACHINE.replace('stateMachine', 'execution')}:{given['name']}"
        if arn in self.runs:
            raise refusal("ExecutionAlreadyExists", "StartExecution")
        run = json.loads(given["input"])
        client = boto3.client("s3", REGION)
        items = []
        for number in range(run["file"], run["files"] + 1):
            name = f"runs/{run['run']}/items-{number}.jsonl"
            items += client.get_object(Bucket=BUCKET, Key=name)["Body"].read().splitlines()
        counts = dict.fromkeys(("running", "succeeded", "failed", "timedOut", "aborted"), 0)
        self.runs[arn] = Run(run, [json.loads(item) for item in items], counts={**counts, "pending": len(items)})
        if self.eager:
            self.work()
        return {"executionArn": arn, "startDate": START}

    def DescribeExecution(self, given: dict[str, Any]) -> dict[str, Any]:
        arn = given["executionArn"]
        if arn.startswith("child-"):
            _, number, parent = arn.split("-", 2)
            return {"executionArn": arn, "status": "FAILED", **self.runs[parent].failures[int(number)]}
        if arn not in self.runs:
            raise refusal("ExecutionDoesNotExist", "DescribeExecution")
        run = self.runs[arn]
        stopped = {} if run.status == "RUNNING" else {"stopDate": START + datetime.timedelta(minutes=5)}
        return {"executionArn": arn, "status": run.status, "startDate": START, **stopped}

    def ListMapRuns(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"mapRuns": [{"mapRunArn": given["executionArn"]}]}

    def DescribeMapRun(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"itemCounts": self.runs[given["mapRunArn"]].counts}

    def ListExecutions(self, given: dict[str, Any]) -> dict[str, Any]:
        failures = self.runs[given["mapRunArn"]].failures
        return {"executions": [{"executionArn": f"child-{n}-{given['mapRunArn']}"} for n in range(len(failures))]}

    def StopExecution(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[given["executionArn"]]
        run.status = "ABORTED"
        run.counts["aborted"], run.counts["pending"] = run.counts["pending"], 0
        return {"stopDate": START}


def refusal(code: str, operation: str) -> ClientError:
    """Return an error of Step Functions."""
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}, operation)


def item(number: int, prompt: str | None = None, model: str = MANIFEST.digest) -> BatchItem:
    """Return the item of a row, with the key of a model."""
    generation = GenerateRequest(prompt=prompt or f"a secret cat {number}", seed=number).resolve(MANIFEST.defaults)
    fields = {name: getattr(generation, name) for name in generation.__struct_fields__}
    request = {name: value for name, value in fields.items() if value is not None}
    return BatchItem(
        key=request_key(generation, model), request=request, number=number, line=number + 1, extra={"id": number}
    )


def rows(count: int, *, wrong: Iterable[int] = ()) -> Callable[[], Iterable[BatchItem]]:
    """Return the items of rows from 1; the keys of wrong ones belong to another model."""
    made = [item(number, model="f" * 64 if number in wrong else MANIFEST.digest) for number in range(1, count + 1)]
    return lambda: iter(made)


def batch_function(*, name: str = FUNCTION, memory_mb: int = 10_240, timeout_s: int = 60) -> Function:
    """Return a batch function."""
    return Function(
        name=name, arn=f"arn:aws:lambda:us-east-1:123456789012:function:{name}", memory_mb=memory_mb, tmp_mb=512,
        timeout_s=timeout_s, architecture="x86_64", state="Active", updating=False, snapstart=False, log_group="",
        image_uri="",
    )  # fmt: skip

"""CodeBuild for unit tests: builds that go through scripted steps, beside moto's stacks, buckets, logs and images.

Calls go through boto3 with all its checks of parameters. The replies of CodeBuild come from here, because moto's builds
have no log and always succeed. `localcloud/codebuild_phases.py` runs build specifications for real.
"""

from __future__ import annotations

import datetime
import io
import json
import zipfile
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from lambdiff.aws.account import Account
from lambdiff.infra.settings import StackSettings, builder_stack_name
from support.aws_resources import REGION, make_stack, push_image

BUCKET, REPOSITORY, LOG_GROUP = "lambdiff-builder-context", "lambdiff-builder-images", "lambdiff-Builder-Logs"
START = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)


@dataclass
class Step:
    """What a build looks like at one time, with the lines that its log has got since the step before."""

    phase: str = "BUILD"
    status: str = "IN_PROGRESS"
    lines: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    pushes: bool = True


SUCCESS = [
    Step("PROVISIONING"),
    Step("BUILD", lines=("[Container] Running command docker build --tag x .", "#8 [packages 2/2] RUN sh install")),
    Step("BUILD", lines=("[Container] Running command docker push x",)),
    Step("COMPLETED", "SUCCEEDED"),
]


@dataclass
class BuildCloud:
    """The builds of one project.

    Attributes:
        steps: what the next build goes through.
        refusal: the error code with which AWS refuses to start one.
        started: the parameters of each StartBuild.
        archives: the names of the files in each source.
        stopped: the ids of the builds that were stopped.
        deployed: how often the builder stack was created or updated.
    """

    steps: list[Step] = field(default_factory=lambda: list(SUCCESS))
    refusal: str = ""
    started: list[dict[str, Any]] = field(default_factory=list)
    archives: list[list[str]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    deployed: int = 0
    _builds: dict[str, list[Step]] = field(default_factory=dict)
    _pushed: set[str] = field(default_factory=set)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Answer the calls of all accounts to CodeBuild."""
        original = Account.client

        def client(account: Account, service: str) -> Any:
            client: Any = original(account, service)  # type: ignore[call-overload]
            if service == "codebuild":
                client.meta.events.register("before-call.codebuild", self._answer)
            return client

        monkeypatch.setattr(Account, "client", client)

    def make_builder(self, settings: StackSettings, fingerprint: str) -> None:
        """Create the builder stack with its bucket, its repository and its log group, or update it."""
        self.deployed += 1
        repository = f"{settings.account}.dkr.ecr.{REGION}.amazonaws.com/{REPOSITORY}"
        name = builder_stack_name(settings.name)
        outputs = {"BuilderProject": name, "BuilderBucket": BUCKET, "BuilderRepository": repository}
        make_stack(name, {**outputs, "Fingerprint": fingerprint}, serial=None)
        if self.deployed == 1:
            boto3.client("s3", REGION).create_bucket(Bucket=BUCKET)
            boto3.client("ecr", REGION).create_repository(repositoryName=REPOSITORY)
            boto3.client("logs", REGION).create_log_group(logGroupName=LOG_GROUP)

    def start(self, variables: dict[str, str]) -> str:
        """Start a build as an earlier run would have, and return its id."""
        overrides = [{"name": name, "value": value} for name, value in variables.items()]
        return self._start({"environmentVariablesOverride": overrides})

    def _answer(self, model: Any, params: Any, context: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
        given = json.loads(params["body"])
        reply: dict[str, Any] = {"ResponseMetadata": {"HTTPStatusCode": 200}}
        match model.name:
            case "StartBuild":
                if self.refusal:
                    error = {"Code": self.refusal, "Message": "Cannot have more than 0 builds in queue for the account"}
                    raise ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}, model.name)
                bucket, _, key = given["sourceLocationOverride"].partition("/")
                archive = boto3.client("s3", REGION).get_object(Bucket=bucket, Key=key)["Body"].read()
                self.archives.append(zipfile.ZipFile(io.BytesIO(archive)).namelist())
                reply["build"] = {"id": self._start(given)}
            case "BatchGetBuilds":
                reply["builds"] = [self._advance(each) for each in given["ids"] if each in self._builds]
            case "ListBuildsForProject":
                reply["ids"] = list(reversed(self._builds))
            case "StopBuild":
                self.stopped.append(given["id"])
                self._builds[given["id"]] = [Step("COMPLETED", "STOPPED")]
            case _:
                raise NotImplementedError(model.name)
        return type("Response", (), {"status_code": 200})(), reply

    def _start(self, given: dict[str, Any]) -> str:
        self.started.append(given)
        build_id = f"lambdiff-Builder:{len(self.started)}"
        self._builds[build_id] = list(self.steps)
        boto3.client("logs", REGION).create_log_stream(logGroupName=LOG_GROUP, logStreamName=build_id.replace(":", "/"))
        return build_id

    def _advance(self, build_id: str) -> dict[str, Any]:
        steps = self._builds[build_id]
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        number = int(build_id.partition(":")[2])
        variables = self.started[number - 1]["environmentVariablesOverride"]
        if step.lines:
            events = [{"timestamp": int(START.timestamp() * 1000), "message": line} for line in step.lines]
            boto3.client("logs", REGION).put_log_events(
                logGroupName=LOG_GROUP, logStreamName=build_id.replace(":", "/"), logEvents=events
            )
        if step.status == "SUCCEEDED" and step.pushes and build_id not in self._pushed:
            self._pushed.add(build_id)
            tag = next(each["value"] for each in variables if each["name"] == "TAG")
            push_image(tag, content=str(number), repository=REPOSITORY)
        description = {
            "id": build_id,
            "buildStatus": step.status,
            "currentPhase": step.phase,
            "startTime": START,
            "logs": {"groupName": LOG_GROUP, "streamName": build_id.replace(":", "/")},
            "environment": {"environmentVariables": [*variables, {"name": "REPOSITORY", "value": "x"}]},
            "phases": [{"phaseStatus": "FAILED", "contexts": [{"message": each} for each in step.reasons]}],
        }
        return description if step.status == "IN_PROGRESS" else {**description, "endTime": START + BUILD_TIME}


BUILD_TIME = datetime.timedelta(seconds=200)

"""Building the image in CodeBuild, which `support/build_cloud.py` stands for (infra/builder.py)."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest

from lambdiff import config
from lambdiff.aws import logs, stacks
from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import PermissionDenied, Rejected
from lambdiff.errors import ConfigurationError, DeployError, ToolchainError
from lambdiff.infra import build_context, builder, toolchain
from lambdiff.infra.build_context import BuildContext
from lambdiff.infra.cdk_cli import Cdk
from lambdiff.infra.settings import BuilderName, StackSettings
from lambdiff.infra.toolchain import Tool
from lambdiff.stages import Stages
from support.aws_resources import REGION, make_stack, push_image, refusing, stack_states
from support.build_cloud import BUCKET, LOG_GROUP, REPOSITORY, BuildCloud, Step

DIGEST = "sha256:" + "a" * 64
SETTINGS = StackSettings(
    account="123456789012",
    region=REGION,
    context="x",
    base_image=f"public.ecr.aws/lambda/python@{DIGEST}",
    base_image_pin=f"public.ecr.aws/lambda/python:3.12@{DIGEST}",
)


class BuilderCdk(Cdk):
    """A CDK that creates builder stacks in moto."""

    cloud: BuildCloud

    def deploy_builder(self, settings: StackSettings, fingerprint: str) -> None:
        self.cloud.make_builder(settings, fingerprint)


@dataclasses.dataclass
class Machine:
    """A machine without a container engine, and what it shows."""

    account: Account
    cloud: BuildCloud
    cdk: Cdk
    context: BuildContext
    stages: Stages
    shown: io.StringIO

    def build(self, **changes: Any) -> str:
        """Build the image for some settings."""
        settings = msgspec.structs.replace(SETTINGS, **changes)
        return builder.build(self.account, self.cdk, settings, self.context, self.stages)

    def objects(self) -> list[str]:
        """Return the names of the objects in the bucket."""
        return [each["Key"] for each in boto3.client("s3", REGION).list_objects_v2(Bucket=BUCKET).get("Contents", [])]


@pytest.fixture
def machine(account: Account, model: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine that has not built anything in CodeBuild yet."""
    monkeypatch.setattr(builder, "_POLL_SECONDS", 0)
    monkeypatch.setattr(toolchain, "cdk", lambda: Tool(("cdk",), "0", "test"))
    cloud = BuildCloud()
    cloud.install(monkeypatch)
    shown = io.StringIO()
    stages = Stages(shown)
    cdk = type("TestCdk", (BuilderCdk,), {"cloud": cloud})(account, stages, log_name="deploy-lambdiff")
    (config.home() / "logs").mkdir(parents=True)
    return Machine(account, cloud, cdk, build_context.stage(model, "openvino"), stages, shown)


def test_the_image_is_built_from_the_staged_context(machine: Machine) -> None:
    """The address has the digest of the pushed image; the archive has the staged files and is deleted afterwards."""
    address = machine.build()
    (image,) = boto3.client("ecr", REGION).describe_images(repositoryName=REPOSITORY)["imageDetails"]
    assert address == f"123456789012.dkr.ecr.{REGION}.amazonaws.com/{REPOSITORY}@{image['imageDigest']}"
    folder = machine.context.folder
    staged = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert machine.cloud.archives == [staged]
    assert machine.objects() == []
    assert not list(build_context.contexts().glob(".archive-*"))
    (started,) = machine.cloud.started
    assert {each["name"]: each["value"] for each in started["environmentVariablesOverride"]} == {
        "BASE_IMAGE": SETTINGS.base_image,
        "BASE_DIGEST": DIGEST,
        "ENGINE": "openvino",
        "PLATFORM": "linux/amd64",
        "TAG": image["imageTags"][0],
    }


def test_the_stages_of_a_build_are_shown(machine: Machine) -> None:
    """Upload, queue, build and push are stages; the price of the minutes that were used is said; the log is kept."""
    machine.build()
    assert list(machine.stages.times) == [
        builder.PREPARING,
        builder.UPLOADING,
        builder.STARTING,
        "Building the image",
        "Pushing the image",
    ]
    assert "CodeBuild took 3.3 minutes, which cost at most $0.0200" in machine.shown.getvalue()
    assert "Running command docker build" in machine.cdk.log.read_text()
    assert machine.cdk.log.stat().st_mode & 0o777 == 0o600


def test_nothing_is_built_twice(machine: Machine) -> None:
    """The same content has the same image; another base image, engine or processor has another one."""
    first = machine.build()
    assert machine.build() == first
    assert (len(machine.cloud.started), machine.cloud.deployed) == (1, 1)
    assert builder.find_image(machine.account, SETTINGS, machine.context) == first
    other = "sha256:" + "b" * 64
    changed = machine.build(base_image=f"x@{other}", base_image_pin=f"x:1@{other}")
    assert changed != first
    assert machine.build(architecture="arm64") not in (first, changed)
    assert len(machine.cloud.started) == 3
    assert machine.cloud.deployed == 2  # the project has another image and another kind of machine for arm64


def test_a_build_that_an_earlier_run_started_is_continued(machine: Machine) -> None:
    """After a crash, nothing is uploaded or built again while the build goes on."""
    machine.cloud.make_builder(SETTINGS, builder.fingerprint(SETTINGS))
    tag = builder._tag(SETTINGS, machine.context)
    machine.cloud.start(builder._variables(SETTINGS, tag))
    machine.build()
    assert len(machine.cloud.started) == 1
    assert machine.cloud.archives == []
    assert "An earlier run has started this build" in machine.shown.getvalue()


def test_an_interrupted_build_is_stopped(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C stops the build in CodeBuild, so that it costs nothing more, and says so."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(logs, "tail", interrupt)
    with pytest.raises(KeyboardInterrupt):
        machine.build()
    assert machine.cloud.stopped == ["lambdiff-Builder:1"]
    assert "Stopping the build in CodeBuild" in machine.shown.getvalue()


@pytest.mark.parametrize(
    ("step", "words", "fix"),
    [
        (
            Step(
                "COMPLETED",
                "FAILED",
                (
                    "[Container] Running command docker build --tag x .",
                    "#9 4.1 ERROR: Could not find a version that satisfies the requirement numpy==0 (from versions: 1)",
                    "[Container] Phase complete: BUILD State: FAILED",
                ),
                ("Error while executing command: docker build --tag x . Reason: exit status 1",),
            ),
            r"packages could not be downloaded. The tool says: Could not find a version that satisfies",
            "package index",
        ),
        (
            Step(
                "COMPLETED",
                "FAILED",
                ("#9 ERROR: failed to solve: process did not complete: exit code: 3",),
                ("Error while executing command: docker build --tag x . Reason: exit status 1",),
            ),
            "could not be built. The tool says: failed to solve: process did not complete: exit code: 3",
            "deploy-lambdiff.log",
        ),
        (
            Step("COMPLETED", "FAILED", (), ("Error while executing command: docker push x. Reason: exit status 1",)),
            "could not be pushed to ECR. The tool says: Error while executing command: docker push x",
            "pushed layers are kept",
        ),
        (Step("COMPLETED", "TIMED_OUT"), "was ended after 60 minutes", "deploy again"),
        (Step("COMPLETED", "STOPPED"), "was stopped", "Deploy again"),
        (Step("COMPLETED", "FAULT", (), ("Internal service error",)), "Internal service error", "doctor"),
    ],
    ids=["packages", "build", "push", "time", "stopped", "fault"],
)
def test_a_failed_build_is_explained_in_its_own_words(machine: Machine, step: Step, words: str, fix: str) -> None:
    """The message has the cause from the log, the fix names the log, and the archive is deleted."""
    machine.cloud.steps = [Step("PROVISIONING"), step]
    with pytest.raises(DeployError, match=words) as caught:
        machine.build()
    assert fix in caught.value.fix
    assert machine.objects() == []


def test_a_build_that_pushes_nothing_is_an_error(machine: Machine) -> None:
    """CodeBuild's word alone is not enough."""
    machine.cloud.steps = [Step("COMPLETED", "SUCCEEDED", pushes=False)]
    with pytest.raises(DeployError, match="CodeBuild has not pushed"):
        machine.build()


def test_the_limit_of_new_accounts_is_explained(machine: Machine) -> None:
    """The fix names the quota, and the way without CodeBuild."""
    machine.cloud.refusal = "AccountLimitExceededException"
    with pytest.raises(Rejected, match="Cannot have more than 0 builds") as caught:
        machine.build()
    assert "Service Quotas" in caught.value.fix
    assert "`builder=local`" in caught.value.fix


def test_a_missing_permission_to_upload_is_named(machine: Machine) -> None:
    """S3's refusal is a missing permission, not a crash of the library that uploads in parts."""
    machine.account = refusing(machine.account, "PutObject", "AccessDenied")
    with pytest.raises(PermissionDenied, match=r"context\.zip, for the bucket lambdiff-builder-context, could not be"):
        machine.build()


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "CREATE_FAILED"])
def test_an_incomplete_builder_is_created_again(machine: Machine, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder stack that never came up is deleted first."""
    make_stack("lambdiff-Builder", serial=None)
    stack_states(monkeypatch, status, status, "", name="lambdiff-Builder")
    machine.build()
    assert machine.cloud.deployed == 1


@pytest.mark.parametrize(
    ("status", "words"), [("DELETE_FAILED", "delete-stack"), ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback")]
)
def test_a_broken_builder_is_reported(
    machine: Machine, status: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A builder stack that cannot be updated is an error that leaves the endpoint alone, before the CDK fails."""
    make_stack("lambdiff-Builder", serial=None)
    stack_states(monkeypatch, status, name="lambdiff-Builder")
    with pytest.raises(DeployError, match=f"stack lambdiff-Builder cannot be updated: {status}") as caught:
        machine.build()
    assert f"{words} --stack-name lambdiff-Builder" in caught.value.fix
    assert "`builder=local`" in caught.value.fix
    assert "destroy" not in caught.value.fix
    assert machine.cloud.deployed == 0


def test_somebody_elses_stack_is_not_touched(machine: Machine) -> None:
    """A stack with the builder's name that lambdiff did not create is an error."""
    template = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
    boto3.client("cloudformation", REGION).create_stack(StackName="lambdiff-Builder", TemplateBody=template)
    with pytest.raises(ConfigurationError, match="lambdiff-Builder was not created by lambdiff"):
        machine.build()


def no_engine() -> Tool:
    """Stand for a machine without a container engine."""
    raise ToolchainError("No container engine is installed.", fix="Install one.")


@pytest.mark.parametrize(
    ("wanted", "engine", "built_before", "answer", "expected"),
    [
        ("auto", True, False, None, "docker"),
        ("auto", False, False, True, None),
        ("auto", False, False, False, "Or let CodeBuild do it: `builder=codebuild`"),
        ("auto", True, True, None, None),
        ("local", True, True, None, "docker"),
        ("local", False, True, None, "Install one."),
        ("codebuild", True, False, None, None),
    ],
)
def test_what_builds_is_chosen(
    machine: Machine, wanted: BuilderName, engine: bool, built_before: bool, answer: bool | None,
    expected: str | None, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Without a wish it is what built the last image; a missing container engine is made up for after a question."""
    monkeypatch.setattr(
        toolchain, "container_engine", (lambda: Tool(("docker",), "0", "test")) if engine else no_engine
    )
    if built_before:
        machine.cloud.make_builder(SETTINGS, builder.fingerprint(SETTINGS))
    questions: list[str] = []

    def confirm(question: str) -> bool:
        questions.append(question)
        assert answer is not None
        return answer

    try:
        tool = builder.choose(wanted, machine.account, SETTINGS, confirm)
        assert (tool.command[0] if tool else None) == expected
    except ToolchainError as error:
        assert expected is not None
        assert expected in error.fix
    assert len(questions) == (answer is not None)
    assert all(
        "No container engine is installed." in each and "$0.005 a minute, at most $0.30" in each for each in questions
    )


def test_earlier_images_are_deleted(machine: Machine) -> None:
    """Once the endpoint has an image, the others cost money for nothing."""
    address = machine.build()
    push_image("earlier", content="c", repository=REPOSITORY)
    builder.prune(machine.account, address)
    (image,) = boto3.client("ecr", REGION).describe_images(repositoryName=REPOSITORY)["imageDetails"]
    assert address.endswith(image["imageDigest"])


def test_removing_the_builder_stops_its_builds(machine: Machine) -> None:
    """The bucket is emptied, which CloudFormation does not do, a build in progress is stopped, the stack is deleted."""
    machine.build()
    machine.cloud.start({"TAG": "x"})
    boto3.client("s3", REGION).put_object(Bucket=BUCKET, Key="left.zip", Body=b"x")
    builder.remove(machine.account, "lambdiff")
    assert machine.objects() == []
    assert machine.cloud.stopped == ["lambdiff-Builder:2"]
    assert stacks.read(machine.account, "lambdiff-Builder") is None
    builder.remove(machine.account, "lambdiff")
    assert LOG_GROUP  # deleted with the stack, see test_builder_stack.py

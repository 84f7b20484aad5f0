"""Deleting a deployment, with moto in place of AWS (infra/destroy.py)."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
from typing import Any

import boto3
import pytest

from lambdiff import config
from lambdiff.aws import stacks
from lambdiff.aws.account import Account
from lambdiff.aws.deployment import SelectedDeployment, select
from lambdiff.errors import Cancelled, ConfigurationError, CredentialsError, InvalidRequest
from lambdiff.infra import destroy
from lambdiff.infra.settings import StackSettings
from lambdiff.stages import Stages
from support.aws_resources import (
    OUTPUTS,
    REGION,
    REPOSITORY,
    image_address,
    image_tags,
    make_function,
    make_stack,
    push_image,
    refusing,
    save_deployment,
    stack_states,
)
from support.build_cloud import REPOSITORY as BUILDER_REPOSITORY
from support.build_cloud import BuildCloud

LOGS = OUTPUTS["LogGroup"]


def quiet() -> Stages:
    """Return stages on a stream that nothing reads."""
    return Stages(io.StringIO())


def test_stack_logs_and_saved_deployment_are_deleted(deployed: SelectedDeployment) -> None:
    """The stack and each resource that CloudFormation retains are deleted, after one question for each."""
    questions: list[str] = []

    def confirm(question: str) -> bool:
        questions.append(question)
        return True

    result = destroy.destroy(deployed, quiet(), confirm)
    assert result.removed == ["stack lambdiff", f"log group {LOGS}"]
    assert len(questions) == 2
    assert stacks.read(deployed.account, "lambdiff") is None
    assert boto3.client("logs", REGION).describe_log_groups()["logGroups"] == []
    assert config.load().deployments == {}


def test_the_caller_can_decline(deployed: SelectedDeployment) -> None:
    """Declining to delete the stack keeps everything; declining to delete the logs keeps only the logs."""
    with pytest.raises(Cancelled):
        destroy.destroy(deployed, quiet(), lambda _: False)
    assert config.load().deployments
    result = destroy.destroy(deployed, quiet(), lambda question: "stack" in question)
    assert result.kept == [f"log group {LOGS}"]


def refused(target: SelectedDeployment, operation: str) -> SelectedDeployment:
    """Return the same deployment in an account where AWS refuses an operation."""
    return dataclasses.replace(target, account=refusing(target.account, operation))


def test_the_next_run_continues_after_a_refusal(deployed: SelectedDeployment) -> None:
    """If AWS refuses to delete the logs, the deployment stays saved, and the next run deletes what is left."""
    with pytest.raises(CredentialsError, match=r"could not be deleted.*AWS's reason"):
        destroy.destroy(refused(deployed, "DeleteLogGroup"), quiet(), lambda _: True)
    assert stacks.read(deployed.account, "lambdiff") is None
    assert "lambdiff" in config.load().deployments
    result = destroy.destroy(select(), quiet(), lambda _: True)
    assert result.removed == ["stack lambdiff", f"log group {LOGS}"]
    assert config.load().deployments == {}
    assert not list((config.home() / "destroying").iterdir())


@pytest.mark.parametrize("operation", ["GetFunction", "DescribeLogGroups", "DeleteStack"])
def test_a_missing_permission_is_reported(deployed: SelectedDeployment, operation: str) -> None:
    """If a permission is missing, the error contains AWS's reason, and the deployment stays saved."""
    with pytest.raises(CredentialsError, match="AWS's reason"):
        destroy.destroy(refused(deployed, operation), quiet(), lambda _: True)
    assert "lambdiff" in config.load().deployments


CURRENT, EARLIER, OLDEST = (f"lambdiff-{letter * 64}" for letter in "abc")


def yes(_: str) -> bool:
    """Answer every question with yes."""
    return True


@pytest.fixture
def with_images(aws: None) -> SelectedDeployment:
    """A deployment of an image, for which two images were pushed before; another deployment has one of its own."""
    make_stack()
    image = push_image(CURRENT, content="a")
    push_image(EARLIER, content="b")
    push_image(OLDEST, content="c")
    push_image(f"lambdiff-tiny-{'d' * 64}", content="d")
    push_image("e" * 64, content="e")
    make_function(image=image)
    save_deployment()
    return select()


def test_the_image_and_earlier_ones_are_offered(with_images: SelectedDeployment) -> None:
    """The function's image and, in one question with their price, the earlier ones; those of others are not touched."""
    questions: list[str] = []

    def confirm(question: str) -> bool:
        questions.append(question)
        return True

    result = destroy.destroy(with_images, quiet(), confirm)
    assert questions[1:] == [
        f"Delete the image {REPOSITORY}:{CURRENT} as well?",
        "Delete the 2 earlier images of lambdiff in ECR ($0.0200 a month) as well?",
    ]
    assert len(result.removed) == 3
    assert image_tags() == {f"lambdiff-tiny-{'d' * 64}", "e" * 64}


def test_each_kind_of_image_can_be_kept(with_images: SelectedDeployment) -> None:
    """Who keeps the earlier images loses only the current one."""
    result = destroy.destroy(with_images, quiet(), lambda question: "earlier" not in question)
    assert result.kept == ["2 earlier images of lambdiff in ECR ($0.0200 a month)"]
    assert {EARLIER, OLDEST} < image_tags()
    assert CURRENT not in image_tags()


def test_an_image_that_another_function_uses_is_kept(with_images: SelectedDeployment) -> None:
    """Any function of the account counts, whatever its name, and so does a published version with an earlier image."""
    make_function("somebody-elses", image=image_address(CURRENT))
    make_function("versioned", image=image_address(EARLIER))
    client = boto3.client("lambda", REGION)
    client.publish_version(FunctionName="versioned")
    client.update_function_code(FunctionName="versioned", ImageUri=push_image("f" * 64, content="f"))
    result = destroy.destroy(with_images, quiet(), yes)
    assert result.kept == [
        f"image {REPOSITORY}:{CURRENT} (in use by somebody-elses)",
        f"image {REPOSITORY}:{EARLIER} (in use by versioned)",
    ]
    assert image_tags() >= {CURRENT, EARLIER}
    assert OLDEST not in image_tags()


def test_images_are_kept_if_their_users_are_unknown(with_images: SelectedDeployment) -> None:
    """Without permission to list functions, no image is deleted; the report has the command that deletes it."""
    result = destroy.destroy(refused(with_images, "ListFunctions"), quiet(), yes)
    assert len(result.kept) == 3
    assert "another function may use it" in result.kept[0]
    assert f"aws ecr batch-delete-image --region {REGION} --repository-name {REPOSITORY}" in result.kept[0]
    assert image_tags() >= {CURRENT, EARLIER, OLDEST}


def test_images_are_kept_if_functions_cannot_be_compared(
    with_images: SelectedDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the hash of the function's own code is not its image's digest, other functions cannot be told either."""
    original = Account.client

    def client(self: Account, service: Any) -> Any:
        opened = original(self, service)
        opened.meta.events.register(
            "after-call.lambda.GetFunction",
            lambda parsed, **_: parsed["Configuration"].update(CodeSha256="0" * 64),
        )
        return opened

    monkeypatch.setattr(Account, "client", client)
    result = destroy.destroy(with_images, quiet(), yes)
    assert len(result.kept) == 3
    assert image_tags() >= {CURRENT, EARLIER, OLDEST}


def test_images_that_may_not_be_read_are_reported(with_images: SelectedDeployment) -> None:
    """Without permission to read images, the deployment is still destroyed."""
    result = destroy.destroy(refused(with_images, "DescribeImages"), quiet(), yes)
    assert "images of lambdiff in ECR (" in result.kept[0]
    assert config.load().deployments == {}


def test_an_image_that_is_gone_is_no_error(aws: None) -> None:
    """What somebody deleted meanwhile is neither offered nor reported."""
    make_stack()
    image = push_image(CURRENT)
    make_function(image=image)
    save_deployment()
    boto3.client("ecr", REGION).batch_delete_image(repositoryName=REPOSITORY, imageIds=[{"imageTag": CURRENT}])
    result = destroy.destroy(select(), quiet(), yes)
    assert (result.removed, result.kept) == (["stack lambdiff"], [])


@pytest.mark.parametrize("status", ["CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "REVIEW_IN_PROGRESS"])
def test_a_stack_that_was_never_complete_is_found_by_name(
    aws: None, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """It was never saved on this machine; the name of the deployment leads to it, with its images."""
    make_stack("lambdiff-tiny", outputs={}, serial=None)
    push_image(f"lambdiff-tiny-{'d' * 64}", content="d")
    stack_states(monkeypatch, {"StackStatus": status, "Outputs": []}, name="lambdiff-tiny")
    target = destroy.select("tiny")
    result = destroy.destroy(target, quiet(), yes)
    assert result.removed[0] == "stack lambdiff-tiny"
    assert result.removed[1].startswith("1 earlier image of lambdiff-tiny")
    assert stacks.read(target.account, "lambdiff-tiny") is None
    assert image_tags() == set()


def test_images_in_the_repository_of_a_custom_bootstrap_are_found(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template of an incomplete stack names its bootstrap, and so the repository that its image was pushed to."""
    repository = REPOSITORY.replace("hnb659fds", "platform")
    make_stack("lambdiff-tiny", outputs={}, serial=None, qualifier="platform")
    push_image(f"lambdiff-tiny-{'d' * 64}", repository=repository)
    stack_states(monkeypatch, {"StackStatus": "ROLLBACK_COMPLETE", "Outputs": []}, name="lambdiff-tiny")
    result = destroy.destroy(destroy.select("tiny"), quiet(), yes)
    assert result.removed[1].startswith("1 earlier image of lambdiff-tiny")
    assert image_tags(repository) == set()


def test_the_region_of_an_unsaved_deployment_can_be_given(aws: None) -> None:
    """A deployment of the same name in another region is another one: the saved one stays."""
    save_deployment(region="eu-west-1", url="https://abc.lambda-url.eu-west-1.on.aws/")
    make_stack()
    assert destroy.select(region=REGION).deployment.value.region == REGION
    destroy.destroy(destroy.select(region=REGION), quiet(), yes)
    assert config.load().deployments["lambdiff"].region == "eu-west-1"


def test_a_missing_deployment_is_explained(aws: None) -> None:
    """The message says where was looked, and which deployments are saved."""
    save_deployment(name="other", stack="lambdiff-other")
    with pytest.raises(
        ConfigurationError, match=r"us-east-1 of account 123456789012 has no stack lambdiff-tiny"
    ) as caught:
        destroy.select("tiny")
    assert "Saved here: other." in caught.value.fix
    with pytest.raises(InvalidRequest, match="not a valid deployment name"):
        destroy.select("Not A Name")


def test_without_credentials_a_missing_deployment_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not saved here, and cannot be looked for in AWS, is reported as not saved."""
    monkeypatch.setenv("AWS_REGION", REGION)
    with pytest.raises(ConfigurationError, match="No deployment is saved on this machine"):
        destroy.select()
    save_deployment()
    with pytest.raises(ConfigurationError, match="no deployment 'tiny'"):
        destroy.select("tiny")


def test_a_foreign_stack_is_never_touched(deployed: SelectedDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack of the same name that lambdiff did not create is refused, without a question."""
    stack_states(monkeypatch, {"Tags": [], "Description": "Another application"})
    with pytest.raises(ConfigurationError, match="was not created by lambdiff"):
        destroy.destroy(deployed, quiet(), yes)
    assert stacks.read(deployed.account, "lambdiff") is not None


def test_termination_protection_is_respected(deployed: SelectedDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A protected stack is refused, without a question, with the command that ends the protection."""
    stack_states(monkeypatch, {"EnableTerminationProtection": True})
    with pytest.raises(ConfigurationError, match="termination protection") as caught:
        destroy.destroy(deployed, quiet(), yes)
    assert "update-termination-protection --no-enable-termination-protection --stack-name lambdiff" in caught.value.fix


def test_a_change_in_progress_is_waited_for(deployed: SelectedDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment that another process has begun is not deleted under its feet."""
    monkeypatch.setattr(stacks, "_POLL", 0.0)
    stack_states(monkeypatch, "UPDATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "")
    stages = quiet()
    destroy.destroy(deployed, stages, yes)
    assert "Waiting for an earlier change of the stack" in stages.times


@pytest.fixture
def built_by_codebuild(aws: None, monkeypatch: pytest.MonkeyPatch) -> BuildCloud:
    """An account with a builder stack and an image in its repository."""
    cloud = BuildCloud()
    cloud.install(monkeypatch)
    settings = StackSettings(account="123456789012", region=REGION, context="x")
    cloud.make_builder(settings, "0123")
    push_image("built", repository=BUILDER_REPOSITORY)
    return cloud


def test_what_codebuild_has_is_deleted_after_a_question(built_by_codebuild: BuildCloud) -> None:
    """The builder stack holds the function's image, so that one question is about both."""
    make_stack()
    digest = boto3.client("ecr", REGION).describe_images(repositoryName=BUILDER_REPOSITORY)["imageDetails"][0]
    address = image_address("built", BUILDER_REPOSITORY).replace(":built", f"@{digest['imageDigest']}")
    make_function(image=address)
    save_deployment()
    target = select()
    label = "CodeBuild project and images of lambdiff (lambdiff-Builder)"
    result = destroy.destroy(target, quiet(), lambda question: "CodeBuild" not in question)
    assert result.kept == [label]
    assert stacks.read(target.account, "lambdiff-Builder")
    save_deployment()
    result = destroy.destroy(select(), quiet(), lambda _: True)
    assert label in result.removed
    assert not [each for each in result.removed if each.startswith("image")]
    assert stacks.read(target.account, "lambdiff-Builder") is None


def test_a_builder_without_an_endpoint_can_be_destroyed(built_by_codebuild: BuildCloud) -> None:
    """If a deployment was interrupted between its two stacks, it was never saved, and its builder is found by name."""
    with pytest.raises(ConfigurationError):
        destroy.select("tiny", region=REGION)
    target = destroy.select("lambdiff", region=REGION)
    result = destroy.destroy(target, quiet(), lambda _: True)
    assert result.removed[-1] == "CodeBuild project and images of lambdiff (lambdiff-Builder)"
    assert stacks.read(target.account, "lambdiff-Builder") is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("operation", "words", "left"),
    [
        ("DescribeStacks", "nothing was deleted", True),
        ("DeleteStack", "CloudFormation goes on deleting the stack lambdiff by itself", True),
        ("DescribeLogGroups", "the stack lambdiff was deleted; images and logs may be left", False),
    ],
)
def test_an_interrupted_run_can_be_repeated(
    deployed: SelectedDeployment, default_signal_handlers: None, monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals, operation: str, words: str, left: bool,
) -> None:  # fmt: skip
    """Whenever it is interrupted, it says what AWS does, and the next run deletes what is left."""
    original = Account.client

    def client(self: Account, service: Any) -> Any:
        opened = original(self, service)
        opened.meta.events.register(f"before-call.*.{operation}", lambda **_: os.kill(os.getpid(), number))
        return opened

    with monkeypatch.context() as patch:
        patch.setattr(Account, "client", client)
        with pytest.raises(Cancelled, match=words) as caught:
            destroy.destroy(deployed, quiet(), yes)
    assert ("lambdiff destroy" in caught.value.fix) is (operation != "DescribeStacks")
    assert (stacks.read(deployed.account, "lambdiff") is not None) is left
    assert "lambdiff" in config.load().deployments
    assert destroy.destroy(select(), quiet(), yes).removed == ["stack lambdiff", f"log group {LOGS}"]
    assert config.load().deployments == {}


BUCKET = "lambdiff-batchbucket"


def make_bucket(images: int) -> None:
    """Create the bucket of a deployment with batch: some images, and what belongs to runs."""
    make_stack(outputs={"BatchBucketName": BUCKET, "BatchFunctionName": "lambdiff-BatchFunction"})
    client = boto3.client("s3", REGION)
    client.create_bucket(Bucket=BUCKET)
    for name in [f"images/{number}.png" for number in range(images)] + ["runs/a/items-1.jsonl", "claims/0"]:
        client.put_object(Bucket=BUCKET, Key=name, Body=b"12345")


def bucket_exists() -> bool:
    """Whether the bucket of batch runs exists."""
    return BUCKET in [each["Name"] for each in boto3.client("s3", REGION).list_buckets()["Buckets"]]


@pytest.mark.parametrize(("wanted", "answer"), [(None, True), (True, False), (None, False), (False, True)])
def test_images_of_batch_runs_are_deleted_only_if_wanted(
    deployed: SelectedDeployment, wanted: bool | None, answer: bool
) -> None:
    """The question says what the bucket holds and what that costs; with a choice, it is not asked."""
    make_bucket(images=3)
    asked: list[str] = []

    def confirm(question: str) -> bool:
        asked.append(question)
        return answer if BUCKET in question else True

    result = destroy.destroy(deployed, quiet(), confirm, delete_images=wanted)
    gone = answer if wanted is None else wanted
    assert bucket_exists() is not gone
    (line,) = (each for each in (result.removed if gone else result.kept) if BUCKET in each)
    assert "with 3 images of batch runs (0.00 GB, $" in line
    assert (f"aws s3 rb s3://{BUCKET} --force" in line) is not gone
    assert len([each for each in asked if BUCKET in each]) == (wanted is None)


def test_a_bucket_without_images_is_deleted_without_a_question(deployed: SelectedDeployment) -> None:
    """What runs left in it is of no use without the deployment."""
    make_bucket(images=0)
    asked: list[str] = []
    destroy.destroy(deployed, quiet(), lambda question: not asked.append(question))
    assert not bucket_exists()
    assert not [each for each in asked if BUCKET in each]


def test_an_interrupted_run_still_knows_the_bucket(
    deployed: SelectedDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the stack is gone, its outputs are gone as well; the next run still asks about the bucket."""
    make_bucket(images=1)

    def interrupted(*_: object) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(destroy.buckets, "measure", interrupted)
        with pytest.raises(Cancelled):
            destroy.destroy(deployed, quiet(), lambda question: True)
    result = destroy.destroy(select(None), quiet(), lambda question: True)
    assert not bucket_exists()
    assert BUCKET in " ".join(result.removed)

"""The synthesized template of the builder stack (infra/builder_stack.py)."""

from __future__ import annotations

import functools
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import cdk_nag
import pytest
import yaml
from aws_cdk.assertions import Match, Template

from lambdiff.infra import builder_stack
from lambdiff.infra.cdk_app import build, build_builder
from lambdiff.infra.settings import StackSettings

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {"account": "123456789012", "region": "us-east-1", "context": "x"}
IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/lambdiff-builder-images-x@sha256:{'a' * 64}"


@functools.lru_cache
def template(architecture: str = "x86_64") -> Template:
    """Return the template; each architecture is synthesized once."""
    app = build_builder(StackSettings(**SETTINGS, architecture=architecture), "0123", tempfile.mkdtemp())
    return Template.from_stack(app.node.find_child("lambdiff-Builder"))


def properties(kind: str) -> dict[str, Any]:
    """Return the properties of the only resource of a type."""
    (resource,) = template().find_resources(kind).values()
    return dict(resource["Properties"])


def test_the_bucket_is_private_encrypted_and_forgets() -> None:
    """Nobody else reads it, nothing is sent in the clear, and nothing stays longer than a day."""
    bucket = properties("AWS::S3::Bucket")
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"] == [
        {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    ]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    assert (rule["ExpirationInDays"], rule["AbortIncompleteMultipartUpload"]) == (1, {"DaysAfterInitiation": 1})
    (statement,) = properties("AWS::S3::BucketPolicy")["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_only_lambda_reads_the_images() -> None:
    """Tags are never moved, images are scanned, and functions of lambdiff in this account may have them."""
    repository = properties("AWS::ECR::Repository")
    assert repository["ImageTagMutability"] == "IMMUTABLE"
    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    (statement,) = repository["RepositoryPolicyText"]["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert set(statement["Action"]) == {"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"}
    assert "123456789012:function:lambdiff*" in json.dumps(statement["Condition"])


def test_everything_goes_with_the_stack() -> None:
    """No resource is retained, and the repository is deleted with its images."""
    for resource in template().to_json()["Resources"].values():
        assert resource.get("DeletionPolicy", "Delete") == "Delete"
    assert properties("AWS::ECR::Repository")["EmptyOnDelete"] is True


def test_the_project_may_do_no_more_than_build() -> None:
    """Read its bucket, push to its repository, write its own log; the one wildcard is AWS's."""
    statements = {
        tuple([each["Action"]] if isinstance(each["Action"], str) else each["Action"]): json.dumps(each["Resource"])
        for each in properties("AWS::IAM::Policy")["PolicyDocument"]["Statement"]
    }
    resources = {action: resource for actions, resource in statements.items() for action in actions}
    assert {action for action, resource in resources.items() if resource == '"*"'} == {"ecr:GetAuthorizationToken"}
    assert {action.partition(":")[0] for action in resources} == {"ecr", "logs", "s3"}
    assert not {action for action in resources if "*" in action or "Delete" in action or action == "s3:PutObject"}
    assert "Images" in resources["ecr:PutImage"]
    assert "Context" in resources["s3:GetObject"]
    assert "Logs" in resources["logs:PutLogEvents"]
    (trust,) = properties("AWS::IAM::Role")["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "codebuild.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


@pytest.mark.parametrize(
    ("architecture", "kind", "image"),
    [("x86_64", "LINUX_CONTAINER", "amazonlinux-x86_64"), ("arm64", "ARM_CONTAINER", "amazonlinux-aarch64")],
)
def test_the_project_builds_on_the_architecture_of_the_function(architecture: str, kind: str, image: str) -> None:
    """Nothing is emulated. Docker needs the privileged mode, and a build ends after an hour."""
    template(architecture).has_resource_properties(
        "AWS::CodeBuild::Project",
        {
            "Name": "lambdiff-Builder",
            "TimeoutInMinutes": 60,
            "Environment": {
                "Type": kind,
                "Image": Match.string_like_regexp(f"aws/codebuild/{image}-standard:.*"),
                "ComputeType": "BUILD_GENERAL1_SMALL",
                "PrivilegedMode": True,
            },
            "Artifacts": {"Type": "NO_ARTIFACTS"},
            "LogsConfig": {"CloudWatchLogs": {"Status": "ENABLED"}, "S3Logs": Match.absent()},
        },
    )


def test_an_organization_can_limit_the_role(tmp_path: Path) -> None:
    """The role gets the permissions boundary, and the stack uses the bootstrap with the qualifier."""
    settings = StackSettings(**SETTINGS, permissions_boundary="limits", qualifier="acme01")
    build_builder(settings, "0123", str(tmp_path)).synth()
    document = json.loads((tmp_path / "lambdiff-Builder.template.json").read_text())
    (role,) = (each for each in document["Resources"].values() if each["Type"] == "AWS::IAM::Role")
    assert json.dumps(role["Properties"]["PermissionsBoundary"]).endswith(':iam::123456789012:policy/limits"]]}')
    assert document["Parameters"]["BootstrapVersion"]["Default"] == "/cdk-bootstrap/acme01/version"


def test_the_build_specification_passes_what_the_dockerfile_takes() -> None:
    """Every argument of the Dockerfile is given, and no command prints a password."""
    specification = yaml.safe_load(properties("AWS::CodeBuild::Project")["Source"]["BuildSpec"])
    (login,) = specification["phases"]["pre_build"]["commands"]
    assert "get-login-password" in login
    assert login.endswith('--password-stdin "${REPOSITORY%%/*}"')
    build_, push = specification["phases"]["build"]["commands"]
    dockerfile = (Path(__file__).parents[3] / "docker" / "Dockerfile").read_text()
    arguments = {line.split()[1].partition("=")[0] for line in dockerfile.splitlines() if line.startswith("ARG ")}
    assert all(f'--build-arg "{name}=${name}"' in build_ for name in arguments)
    assert push == 'docker push "$REPOSITORY:$TAG"'


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_cdk_nag_finds_nothing_unacknowledged(architecture: str, tmp_path: Path) -> None:
    """The AwsSolutions checks report no violation."""
    app = build_builder(StackSettings(**SETTINGS, architecture=architecture), "0123", str(tmp_path))
    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app))
    app.synth()
    assert json.loads((tmp_path / "validation-report.json").read_text())["pluginReports"] == []


def test_cdk_nag_fails_without_the_acknowledgements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The violations that are acknowledged are these; the privileged mode (CB3) is a warning."""
    monkeypatch.setattr(builder_stack, "acknowledge", lambda *_: None)
    app = build_builder(StackSettings(**SETTINGS), "0123", str(tmp_path))
    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app))
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()
    report = (tmp_path / "validation-report.json").read_text()
    assert set(re.findall(r"AwsSolutions-(\w+)", report)) == {"CB4", "IAM5", "S1"}


def test_the_endpoint_uses_the_image_by_its_digest(image_context: Path, tmp_path: Path) -> None:
    """With an image from CodeBuild, CDK builds nothing, and everything else stays as it is."""
    settings = StackSettings(**{**SETTINGS, "context": str(image_context)})
    built = build(StackSettings(**SETTINGS, image=IMAGE).check(), str(tmp_path / "built"))
    local = build(settings, str(tmp_path / "local"))
    built.synth()
    local.synth()
    assets = json.loads((tmp_path / "built" / "lambdiff.assets.json").read_text())
    assert assets["dockerImages"] == {}
    templates = [json.loads((tmp_path / name / "lambdiff.template.json").read_text()) for name in ("built", "local")]
    codes = [each["Resources"]["Function76856677"]["Properties"].pop("Code") for each in templates]
    assert json.dumps(codes[0]).endswith(f'/lambdiff-builder-images-x@sha256:{"a" * 64}"]]}}}}')
    assert templates[0] == templates[1]

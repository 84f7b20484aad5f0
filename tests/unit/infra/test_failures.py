"""Translating the output of the CDK CLI and other tools into errors (infra/failures.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambdiff.errors import CredentialsError, DeployError, LambdiffError, ToolchainError
from lambdiff.infra import failures
from lambdiff.infra.failures import MemoryCapped

RECORDED = Path(__file__).parent / "recorded"
CREATE_FAILED = "lambdiff | 3/13 | 11:45:42 PM | CREATE_FAILED        | AWS::Lambda::Function | Function (F7) {}\n"

# Output of AWS, the CDK CLI and container engines; the first column is the entry of the table that must match.
MESSAGES = [
    (
        "memory-cap",
        CREATE_FAILED.format(
            "Resource handler returned message: \"'MemorySize' value failed to satisfy constraint: Member must have "
            'value less than or equal to 3008 (Service: Lambda, Status Code: 400, Request ID: 1)" (HandlerErrorCode: '
            "InvalidRequest)"
        ),
        MemoryCapped,
        "`memory_mb=3008`",
    ),
    (
        "concurrency",
        CREATE_FAILED.format(
            'Resource handler returned message: "Specified ReservedConcurrentExecutions for function decreases '
            "account's UnreservedConcurrentExecution below its minimum value of [100]. (Service: Lambda, Status Code: "
            '400)"'
        ),
        DeployError,
        "without `reserved_concurrency=`",
    ),
    (
        "expired-credentials",
        "❌ Deployment failed: ExpiredToken: The security token included in the request is expired\n",
        CredentialsError,
        "Sign in again",
    ),
    (
        "no-credentials",
        "Unable to resolve AWS account to use. It must be either configured when you define your CDK Stack, or through "
        "the environment\n",
        CredentialsError,
        "Sign in with",
    ),
    (
        "bootstrap-leftover",
        "CDKToolkit | 1/12 | 11:45:42 PM | CREATE_FAILED | AWS::S3::Bucket | StagingBucket "
        "cdk-hnb659fds-assets-123456789012-us-east-1 already exists\n",
        DeployError,
        "aws s3 rb",
    ),
    (
        "bootstrap-damaged",
        "lambdiff: fail: No bucket named 'cdk-hnb659fds-assets-123456789012-us-east-1'. Is account 123456789012 "
        "bootstrapped?\n",
        DeployError,
        "cdk bootstrap --force",
    ),
    (
        "bootstrap-damaged",
        "lambdiff: fail: docker push exited with error code 1: name unknown: The repository with name "
        "'cdk-hnb659fds-container-assets-123456789012-us-east-1' does not exist in the registry with id "
        "'123456789012'\n",
        DeployError,
        "cdk bootstrap --force",
    ),
    (
        "no-bootstrap",
        "❌  lambdiff failed: ToolkitError: lambdiff: SSM parameter /cdk-bootstrap/hnb659fds/version not found. Has "
        "the environment been bootstrapped? Please run 'cdk bootstrap'\n",
        DeployError,
        "cdk bootstrap",
    ),
    (
        "disk-full",
        "lambdiff: fail: docker build --tag cdkasset-1 . exited with error code 1: write /var/lib/docker/tmp/x: no "
        "space left on device\n",
        DeployError,
        "docker system prune",
    ),
    (
        "engine-stopped",
        "lambdiff: fail: docker build --tag cdkasset-1 . exited with error code 1: ERROR: Cannot connect to the Docker "
        "daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n",
        ToolchainError,
        "Start it",
    ),
    (
        "wrong-architecture",
        "lambdiff: fail: docker build --tag cdkasset-1 . exited with error code 1: exec /bin/sh: exec format error\n",
        DeployError,
        "emulation",
    ),
    (
        "old-base-image",
        "ImportError: /lib64/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by "
        "/packages/openvino/libs/libopenvino.so.2641)\n",
        DeployError,
        "with a newer one",
    ),
    (
        "hash-mismatch",
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\nlambdiff: fail: docker build . "
        "exited with error code 1: pip\n",
        DeployError,
        "Do not use this package index",
    ),
    (
        "media-type",
        CREATE_FAILED.format(
            "Resource handler returned message: \"The image manifest, config or layer media type for the source image "
            'is not supported. (Service: Lambda, Status Code: 400)"'
        ),
        DeployError,
        "BUILDX_NO_DEFAULT_ATTESTATIONS",
    ),
    (
        "push",
        "lambdiff: fail: docker push 123456789012.dkr.ecr.us-east-1.amazonaws.com/assets:1 exited with error code 1: "
        "denied: Your authorization token is wrong\nFailed to publish asset lambdiff image\n",
        DeployError,
        "pushed layers are kept",
    ),
    (
        "build",
        "lambdiff: fail: docker build --tag cdkasset-1 . exited with error code 1: error: something new\n"
        "Failed to publish asset lambdiff Template\n",
        DeployError,
        "See the end of The log",
    ),
    (
        "permission",
        "❌  lambdiff failed: AccessDenied: User: arn:aws:iam::123456789012:user/ann is not authorized to perform: "
        "cloudformation:CreateChangeSet on resource: arn:aws:cloudformation:us-east-1:123456789012:stack/lambdiff/*\n",
        CredentialsError,
        "policy for deploying",
    ),
    (
        "execution-role",
        CREATE_FAILED.format(
            'Resource handler returned message: "User: arn:aws:sts::123456789012:assumed-role/cdk-hnb659fds-cfn-exec-'
            "role-123456789012-us-east-1/AWSCloudFormation is not authorized to perform: iam:CreateRole on resource: "
            "arn:aws:iam::123456789012:role/lambdiff-FunctionRole because no identity-based policy allows the "
            'iam:CreateRole action (Service: Iam, Status Code: 403)" (HandlerErrorCode: AccessDenied)'
        ),
        CredentialsError,
        "`permissions_boundary=`",
    ),
    (
        "boundary",
        CREATE_FAILED.format(
            'Resource handler returned message: "Scope ARN: arn:aws:iam::123456789012:policy/Gone does not exist or is '
            'not attachable. (Service: Iam, Status Code: 404)" (HandlerErrorCode: NotFound)'
        ),
        DeployError,
        "`permissions_boundary=`",
    ),
    (
        "immutable-tag",
        "lambdiff: fail: docker push 123456789012.dkr.ecr.us-east-1.amazonaws.com/a:b exited with error code 1: tag "
        "invalid: The image tag 'b' already exists in the 'a' repository and cannot be overwritten because the tag is "
        "immutable.\n",
        DeployError,
        "run the same command again",
    ),
    (
        "principal",
        CREATE_FAILED.format(
            'Resource handler returned message: "Invalid principal in policy: "AWS":"arn:aws:iam::123456789012:role/X" '
            '(Service: Iam, Status Code: 400)" (HandlerErrorCode: InvalidRequest)'
        ),
        DeployError,
        "`principals=`",
    ),
    (
        "no-function-urls",
        "❌  lambdiff failed: ValidationError: Template error: Unrecognized resource types: [AWS::Lambda::Url]\n",
        DeployError,
        "another `region=`",
    ),
    (
        "control-policy",
        CREATE_FAILED.format(
            "User: arn:aws:sts::123456789012:assumed-role/cdk-hnb659fds-cfn-exec-role/AWSCloudFormation is not "
            "authorized to perform: iam:CreateUser on resource: arn:aws:iam::123456789012:user/x with an explicit deny "
            "in a service control policy"
        ),
        CredentialsError,
        "control policies",
    ),
    (
        "delete-failed",
        "❌  lambdiff failed: Failed deleting stack lambdiff that had previously failed creation (current state: "
        "DELETE_FAILED)\n",
        DeployError,
        "lambdiff destroy",
    ),
    (
        "key-limit",
        CREATE_FAILED.format("Cannot exceed quota for AccessKeysPerUser: 2 (Service: Iam, Status Code: 409)"),
        DeployError,
        "aws iam list-access-keys",
    ),
    (
        "busy",
        "❌  lambdiff failed: ValidationError: Stack:arn:aws:cloudformation:us-east-1:123456789012:stack/lambdiff/1 is "
        "in UPDATE_IN_PROGRESS state and can not be updated.\n",
        DeployError,
        "it waits until that change is complete",
    ),
    (
        "rollback-failed",
        "❌  lambdiff failed: The stack named lambdiff is in a failed state: UPDATE_ROLLBACK_FAILED\n",
        DeployError,
        "lambdiff destroy",
    ),
    (
        "quota",
        CREATE_FAILED.format("Cannot exceed quota for UsersPerAccount: 5000 (Service: Iam, Status Code: 409)"),
        DeployError,
        "Service Quotas",
    ),
    ("network", "❌  Deployment failed: getaddrinfo ENOTFOUND sts.us-east-1.amazonaws.com\n", DeployError, "network"),
    (
        "rolled-back",
        "❌  lambdiff failed: ToolkitError: The stack named lambdiff failed creation, it may need to be manually "
        "deleted from the AWS console: ROLLBACK_COMPLETE\n",
        DeployError,
        "run the same command again",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "output", "kind", "advice"), MESSAGES, ids=[row[0] for row in MESSAGES])
def test_every_entry_of_the_table(name: str, output: str, kind: type[LambdiffError], advice: str) -> None:
    """Each output gives an error with the class, the meaning and the fix of its entry in the table."""
    error = failures.explain(f"✨  Synthesis time: 3.2s\n\n{output}")
    entry = next(entry for entry in failures.TABLE if entry.name == name)
    assert type(error) is kind
    assert error.message.startswith(entry.meaning.split("{")[0])
    assert advice in error.fix


def test_every_entry_has_a_message() -> None:
    """Every entry of the table is tested, by a message in MESSAGES or by one of the tests below."""
    tested = {row[0] for row in MESSAGES} | {"packages", "base-image", "no-cdk-app"}
    assert {entry.name for entry in failures.TABLE} == tested


@pytest.mark.parametrize(
    ("file", "meaning", "words"),
    [
        ("build-packages", "Python packages could not be downloaded", "nosuchpackage-lambdiff"),
        ("base-image", "The base image could not be pulled", "python:9.9"),
    ],
)
def test_recorded_output_is_explained(file: str, meaning: str, words: str) -> None:
    """Recorded output of complete runs of the CDK CLI is explained."""
    error = failures.explain((RECORDED / f"{file}.log").read_text())
    assert meaning in error.message
    assert words in error.message
    assert error.exit_code == 7


def test_a_missing_installation_is_explained() -> None:
    """If Python cannot start the CDK app, the error is a `ToolchainError`."""
    error = failures.explain("/usr/bin/python3: No module named lambdiff.infra\n❌  Synthesis failed: 1\n")
    assert isinstance(error, ToolchainError)


def test_the_cap_is_read_from_the_message() -> None:
    """The memory limit is the one that AWS states in its message."""
    message = MESSAGES[0][1].replace("3008", "5120")
    error = failures.explain(message)
    assert isinstance(error, MemoryCapped)
    assert error.limit == 5120


def test_the_cause_is_reported_not_its_consequences() -> None:
    """Resources that were cancelled because another one failed are not reported as the cause."""
    output = CREATE_FAILED.format("Resource creation cancelled") + CREATE_FAILED.format("Invalid request: the reason")
    assert "the reason" in failures.explain(output + "ROLLBACK_COMPLETE\n").message


def test_an_unknown_failure_is_quoted() -> None:
    """The message of an unknown failure quotes the last line of the output."""
    error = failures.explain("one\n\ntwo words\n\n")
    assert (error.message, error.exit_code) == ("The deployment failed: two words", 7)
    assert failures.explain("").message.endswith("there was no output")


def test_the_fix_names_the_log() -> None:
    """The fix contains the path of the log."""
    failed = "lambdiff: fail: docker build . exited with error code 1: error: something new\n"
    for output in (failed, "unheard of"):
        assert failures.explain(output, log="/home/ann/deploy.log").fix.startswith("See ")
        assert "/home/ann/deploy.log" in failures.explain(output, log="/home/ann/deploy.log").fix

"""Explains a failed deployment: maps the output of AWS and the tools to a plain message and a fix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lambdiff.errors import CredentialsError, DeployError, LambdiffError, ToolchainError
from lambdiff.installation import install_command


@dataclass(frozen=True)
class KnownFailure:
    """An entry of the table.

    Attributes:
        name: a short name.
        pattern: matches the output of the CDK CLI, the container engine or AWS; its first group, if any, fills `{0}`.
        meaning: what it means, in plain words.
        fix: what to do; `{log}` is the file with the whole output, `{install}` the command that installs the extra.
        error: the class to raise, which determines the exit code.
    """

    name: str
    pattern: str
    meaning: str
    fix: str
    error: type[LambdiffError] = DeployError


class MemoryCapped(DeployError):
    """The account may not have functions with this much memory; `limit` is the most it may have, in MB."""

    def __init__(self, message: str, *, fix: str = "", limit: int = 3008) -> None:
        super().__init__(message, fix=fix)
        self.limit = limit


# The first match wins, so causes come before their consequences.
TABLE: Final = (
    KnownFailure(
        "memory-cap",
        r"'?MemorySize'?\s+value failed to satisfy constraint: Member must have value less than or equal to (\d+)",
        "Functions in this account may have at most {0} MB of memory, a common limit of new accounts.",
        "Deploy again with `memory_mb={0}`, or ask AWS Support for more.",
        MemoryCapped,
    ),
    KnownFailure(
        "concurrency",
        r"(decreases account's UnreservedConcurrentExecution below its minimum value[^\n]*)",
        "The account has too few concurrent executions to reserve that many for this function.",
        "Deploy again without `reserved_concurrency=` or with less, or ask AWS Support to raise the account's limit.",
    ),
    KnownFailure(
        "expired-credentials",
        r"(ExpiredToken(?:Exception)?|security token included in the request is (?:expired|invalid)|"
        r"InvalidClientTokenId|UnrecognizedClientException|credentials (?:have|are) expired)",
        "Your AWS session has expired, or its keys are not valid.",
        "Sign in again, for example with `aws sso login`, and run the same command; finished steps are kept.",
        CredentialsError,
    ),
    KnownFailure(
        "no-credentials",
        r"(Unable to resolve AWS account to use|no credentials have been configured|NoCredentials)",
        "The CDK CLI found no AWS credentials.",
        "Sign in with `aws sso login` or `aws configure`, or pass `profile=`.",
        CredentialsError,
    ),
    KnownFailure(
        "bootstrap-leftover",
        r"(cdk-\w+-(?:container-)?assets-[\w-]+) already exists",
        "{0} is left over from an earlier CDK bootstrap, whose stack was deleted.",
        "Delete it if nothing needs it (`aws s3 rb` for a bucket, `aws ecr delete-repository` for a repository), then "
        "run the same command again.",
    ),
    KnownFailure(
        "bootstrap-damaged",
        r"(No bucket named '[^']+'|The repository with name '?cdk-[\w-]+'? [^\n]*does not exist)",
        "The CDK bootstrap of this account and region is damaged: {0}.",
        "Have an administrator run `cdk bootstrap --force aws://ACCOUNT/REGION`, then run the same command again.",
    ),
    KnownFailure(
        "no-bootstrap",
        r"(SSM parameter /cdk-bootstrap/\S+ not found|has not been bootstrapped|Is account \d+ bootstrapped|"
        r"(?i:bootstrap stack version \d+ required))",
        "This account and region are not bootstrapped for CDK, or the bootstrap version is too old.",
        "Run `lambdiff deploy` again and let it bootstrap, or run `cdk bootstrap aws://ACCOUNT/REGION`.",
    ),
    KnownFailure(
        "disk-full",
        r"((?i:no space left on device)|ENOSPC)",
        "The disk is full: the container engine needs space to build the image.",
        "Free some space (`docker system prune` removes unused images) and try again.",
    ),
    KnownFailure(
        "engine-stopped",
        r"(Cannot connect to the Docker daemon[^\n]*|(?i:unable to connect to podman)[^\n]*|"
        r"error during connect:[^\n]*docker[^\n]*|ENOENT[^\n]*docker[^\n]*)",
        "The container engine does not answer.",
        "Start it (Docker Desktop, `systemctl start docker`, `podman machine start`) and try again.",
        ToolchainError,
    ),
    KnownFailure(
        "wrong-architecture",
        r"(exec format error|exec user process caused)",
        "The container engine cannot run programs for the function's processor architecture.",
        "Enable emulation (`docker run --privileged --rm tonistiigi/binfmt --install all`), or pass another "
        "`architecture=`.",
    ),
    KnownFailure(
        "no-cdk-app",
        r"(No module named '?lambdiff[^\n]*|No module named '?aws_cdk[^\n]*)",
        "The CDK app could not be started: Python does not find lambdiff or its deploy extra.",
        "Install it: {install}",
        ToolchainError,
    ),
    KnownFailure(
        "base-image",
        r"((?i:failed to resolve source metadata|manifest unknown|pull access denied|toomanyrequests|"
        r"unable to (?:pull|copy) [^\n]*|initializing source docker:[^\n]*))",
        "The base image could not be pulled.",
        "Check the network and `base_image=`; if there were too many pulls, log in with `docker login public.ecr.aws`.",
    ),
    KnownFailure(
        "old-base-image",
        r"version [`']((?:GLIBC|GLIBCXX|CXXABI)_[\d.]+)' not found",
        "The base image is too old for one of the packages: it lacks {0}.",
        "Deploy without `base_image=`, or with a newer one.",
    ),
    KnownFailure(
        "hash-mismatch",
        r"(THESE PACKAGES DO NOT MATCH THE HASHES)",
        "A downloaded package does not have the pinned hash.",
        "Do not use this package index until the reason is known.",
    ),
    KnownFailure(
        "packages",
        r"(No matching distribution found[^\n]*|Could not find a version that satisfies[^\n]*|NewConnectionError)",
        "The image's Python packages could not be downloaded.",
        "Check that containers on this machine reach the package index (proxy, firewall), and try again.",
    ),
    KnownFailure(
        "media-type",
        r"(image manifest, config or layer media type[^\n]*not supported)",
        "Lambda does not support the media type of the image, which contains attestations.",
        "Build without attestations: set BUILDX_NO_DEFAULT_ATTESTATIONS=1, or use the docker driver of buildx.",
    ),
    KnownFailure(
        "build",
        r"(: fail: \S+ build [^\n]*exited with|Failed to build asset|executing command: docker build)",
        "The image could not be built.",
        "See the end of {log} for the step that failed.",
    ),
    KnownFailure(
        "immutable-tag",
        r"(cannot be overwritten because the (?:tag|repository) is immutable|ImageTagAlreadyExistsException)",
        "ECR already has an image with this tag, and its tags cannot be moved.",
        "Another deployment has pushed the image in the meantime: run the same command again, which finds it there.",
    ),
    KnownFailure(
        "push",
        r"(: fail: \S+ push [^\n]*exited with|no basic auth credentials|error copying image|writing blob|"
        r"Failed to publish asset|executing command: docker push)",
        "The image was built but could not be pushed to ECR.",
        "Check the network and run the same command again; pushed layers are kept.",
    ),
    KnownFailure(
        "principal",
        r"(Invalid principal in policy|MalformedPolicyDocument)",
        "IAM does not know one of those who may assume the role.",
        "Check `principals=`: the user or role must exist, and the ARN must have its path.",
    ),
    KnownFailure(
        "boundary",
        r"Scope ARN: (\S+) does not exist or is not attachable",
        "The permissions boundary {0} does not exist.",
        "Check `permissions_boundary=`: it is a policy of this account, by its name with the path, or by its ARN.",
    ),
    KnownFailure(
        "no-function-urls",
        r"(Unrecognized resource types: \[[^\]]*AWS::Lambda::Url|(?i:function urls? (?:is|are) not supported))",
        "Lambda has no Function URLs in this region.",
        "Choose another `region=`, such as eu-central-1 or us-east-1.",
    ),
    KnownFailure(
        "control-policy",
        r"not authorized to perform:? ([\w:*]+)[^\n]*explicit deny in a (?:service|resource) control policy",
        "Your organization forbids {0}.",
        "Ask those who manage its control policies for an exception, or deploy to another account or region.",
        CredentialsError,
    ),
    KnownFailure(
        "execution-role",
        r"cfn-exec-role\S* is not authorized to perform:? ([\w:*]+)",
        "CloudFormation's role in the CDK bootstrap lacks the permission {0}.",
        "Ask those who manage the bootstrap; docs/deploy.md has the policy that the role needs. If they require a "
        "permissions boundary, pass it as `permissions_boundary=`.",
        CredentialsError,
    ),
    KnownFailure(
        "permission",
        r"(?:is not authorized to perform:? |not authorized to perform )([\w:*]+)",
        "You lack the permission {0}.",
        "Ask for it; docs/deploy.md has the policy for deploying.",
        CredentialsError,
    ),
    KnownFailure(
        "busy",
        r"(is in \w+_IN_PROGRESS state and can ?not be updated|\w+_IN_PROGRESS state)",
        "An earlier change of the stack is still in progress.",
        "Run `lambdiff deploy` again: it waits until that change is complete.",
    ),
    KnownFailure(
        "rollback-failed",
        r"((?:UPDATE_)?ROLLBACK_FAILED)",
        "The stack could be neither updated nor rolled back.",
        "Run `lambdiff deploy` again, which names what failed and the command that continues the rollback, or delete "
        "the stack with `lambdiff destroy`.",
    ),
    KnownFailure(
        "delete-failed",
        r"(DELETE_FAILED)",
        "The stack could not be deleted completely.",
        "Run `lambdiff destroy`, which names what is in the way, then deploy again.",
    ),
    KnownFailure(
        "key-limit",
        r"(AccessKeysPerUser: \d+)",
        "The IAM user has as many access keys as IAM allows.",
        "Delete the key that is not lambdiff's; `aws iam list-access-keys --user-name USER` lists them.",
    ),
    KnownFailure(
        "quota",
        r"((?:Cannot exceed quota|LimitExceeded|quota)[^\n]*)",
        "The account has reached a quota.",
        "Delete what is not needed, or ask for an increase of the quota in the Service Quotas console.",
    ),
    KnownFailure(
        "network",
        r"(ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|EPIPE|socket hang up|TimeoutError)",
        "The connection to AWS failed.",
        "Check the network and run the same command again; finished steps are kept.",
    ),
    KnownFailure(
        "rolled-back",
        r"((?:UPDATE_)?ROLLBACK_COMPLETE)",
        "AWS could not create a resource and rolled the stack back; an existing endpoint is unchanged.",
        "Fix what AWS names and run the same command again; a stack that was never complete is replaced.",
    ),
)


def explain(output: str, what: str = "The deployment", log: str = "The log") -> LambdiffError:
    """Return the error for a failed run of the CDK CLI.

    Args:
        output: stdout and stderr.
        what: the subject of the message.
        log: the file with the whole output.
    """
    reason = _reason(output)
    # The reason first, because the rest of the output may match any entry.
    for text in (reason, output):
        for failure in TABLE:
            if match := re.search(failure.pattern, text):
                return _error(failure, match, reason, log)
    return DeployError(
        f"{what} failed: {reason}",
        fix=f"See {log} for the whole output, and run `lambdiff doctor` to check the account.",
    )


def _error(failure: KnownFailure, match: re.Match[str], reason: str, log: str) -> LambdiffError:
    detail = match[1] if match.groups() else match[0]
    message = f"{failure.meaning.format(detail)} The tool says: {reason}"
    fix = failure.fix.format(detail, log=log, install=install_command("deploy"))
    if failure.error is MemoryCapped:
        return MemoryCapped(message, fix=fix, limit=int(detail))
    return failure.error(message, fix=fix)


def _reason(output: str) -> str:
    """Return the first resource that failed on its own, else a tool's error, else the last error of the CDK CLI."""
    lines = [line.strip() for line in _ANSI.sub("", output).splitlines() if line.strip()]
    for pattern in (
        r"\|\s*\w+_FAILED\s*\|\s*(?!.*cancelled)([\w:]+\s*\|\s*\S+.*)",
        r": fail: .* exited with error code \d+: (.+)",
        r": fail: (.+)",
        r"^❌\s*(.+)",
        r"^(?:#\d+ )?(?:[\d.]+ )?ERROR: (.+)",  # a step of a build
        r"^(?:Toolkit)?[Ee]rror: (.+)",
    ):
        for line in lines:
            if match := re.search(pattern, line):
                return re.sub(r"\s+", " ", match[1]).strip()[:700]
    return lines[-1][:700] if lines else "there was no output"


_ANSI: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

"""What a failed deployment means: AWS's words, what they say in plain ones, and what to do. The only such table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lambdiff.errors import CredentialsError, DeployError, LambdiffError, ToolchainError


@dataclass(frozen=True)
class Failure:
    """One entry of the table.

    Attributes:
        name: for machines (`--json`).
        pattern: what the CDK CLI, the container engine or AWS writes; its first group, if any, fills `{0}`.
        meaning: the same in plain words.
        fix: what to do; `{log}` is the file with all of the output.
        error: the class to raise; it decides the exit code.
    """

    name: str
    pattern: str
    meaning: str
    fix: str
    error: type[LambdiffError] = DeployError


class MemoryCapped(DeployError):
    """The account may not have functions this large; `limit` is the most it may have, in MB."""

    def __init__(self, message: str, *, fix: str = "", limit: int = 3008) -> None:
        super().__init__(message, fix=fix)
        self.limit = limit


# The first match counts: causes stand above their consequences.
TABLE: Final = (
    Failure(
        "memory-cap",
        r"'?MemorySize'?\s+value failed to satisfy constraint: Member must have value less than or equal to (\d+)",
        "This account's functions may have at most {0} MB of memory, as those of new accounts often do.",
        "Deploy again with --memory {0}, or ask AWS Support for more.",
        MemoryCapped,
    ),
    Failure(
        "concurrency",
        r"(decreases account's UnreservedConcurrentExecution below its minimum value[^\n]*)",
        "The account has too few concurrent executions to reserve that many for this function.",
        "Deploy again without --concurrency (or with a smaller one), or ask AWS Support to raise the account's limit.",
    ),
    Failure(
        "expired-credentials",
        r"(ExpiredToken(?:Exception)?|security token included in the request is (?:expired|invalid)|"
        r"InvalidClientTokenId|UnrecognizedClientException|credentials (?:have|are) expired)",
        "Your AWS session has run out, or its keys are not valid.",
        "Sign in again (`aws sso login`, say) and run the same command; what was done already is kept.",
        CredentialsError,
    ),
    Failure(
        "no-credentials",
        r"(Unable to resolve AWS account to use|no credentials have been configured|NoCredentials)",
        "The CDK CLI found no AWS credentials.",
        "Sign in first: `aws sso login`, `aws configure`, or --profile.",
        CredentialsError,
    ),
    Failure(
        "no-bootstrap",
        r"(SSM parameter /cdk-bootstrap/\S+ not found|has not been bootstrapped|Is account \d+ bootstrapped|"
        r"(?i:bootstrap stack version \d+ required))",
        "This account and region have not been prepared for CDK, or a long time ago.",
        "Run `lambdiff deploy` again and let it bootstrap, or do it with `cdk bootstrap aws://ACCOUNT/REGION`.",
    ),
    Failure(
        "disk-full",
        r"((?i:no space left on device)|ENOSPC)",
        "The disk is full: the image needs room in the container engine's store.",
        "Free some space (`docker system prune` removes unused images) and try again.",
    ),
    Failure(
        "engine-stopped",
        r"(Cannot connect to the Docker daemon[^\n]*|(?i:unable to connect to podman)[^\n]*|"
        r"error during connect:[^\n]*docker[^\n]*|ENOENT[^\n]*docker[^\n]*)",
        "The container engine does not answer.",
        "Start it (Docker Desktop, `systemctl start docker`, `podman machine start`) and try again.",
        ToolchainError,
    ),
    Failure(
        "wrong-processor",
        r"(exec format error|exec user process caused)",
        "The container engine cannot run the function's kind of processor.",
        "Enable emulation (`docker run --privileged --rm tonistiigi/binfmt --install all`), or choose --arch.",
    ),
    Failure(
        "no-cdk-app",
        r"(No module named '?lambdiff[^\n]*|No module named '?aws_cdk[^\n]*)",
        "The CDK app could not be started: lambdiff or its deploy extra is not installed where Python looks.",
        'Install it: pip install "lambdiff[deploy]"',
        ToolchainError,
    ),
    Failure(
        "base-image",
        r"((?i:failed to resolve source metadata|manifest unknown|pull access denied|toomanyrequests|"
        r"unable to (?:pull|copy) [^\n]*|initializing source docker:[^\n]*))",
        "The base image could not be pulled.",
        "Check the network and --base-image; after too many pulls, `docker login public.ecr.aws` helps.",
    ),
    Failure(
        "hash-mismatch",
        r"(THESE PACKAGES DO NOT MATCH THE HASHES)",
        "A package that was downloaded is not the one that was pinned.",
        "Do not use this package index until somebody has found out why.",
    ),
    Failure(
        "packages",
        r"(No matching distribution found[^\n]*|Could not find a version that satisfies[^\n]*|NewConnectionError)",
        "The image's Python packages could not be downloaded.",
        "Check that containers reach the package index from this machine (proxy, firewall), and try again.",
    ),
    Failure(
        "media-type",
        r"(image manifest, config or layer media type[^\n]*not supported)",
        "Lambda does not take the kind of image that was built: it carries attestations.",
        "Build without them: set BUILDX_NO_DEFAULT_ATTESTATIONS=1, or use the docker driver of buildx.",
    ),
    Failure(
        "build",
        r"(: fail: \S+ build [^\n]*exited with|Failed to build asset)",
        "The image could not be built.",
        "{log} has the step that failed, at its end.",
    ),
    Failure(
        "push",
        r"(: fail: \S+ push [^\n]*exited with|no basic auth credentials|error copying image|writing blob|"
        r"Failed to publish asset)",
        "The image was built but could not be pushed to ECR.",
        "Check the network and run the same command again: layers that arrived are kept.",
    ),
    Failure(
        "permission",
        r"(?:is not authorized to perform:? |not authorized to perform )([\w:*]+)",
        "You lack the permission {0}.",
        "Ask for it; docs/deploy.md has the policy of those who deploy.",
        CredentialsError,
    ),
    Failure(
        "busy",
        r"(is in \w+_IN_PROGRESS state and can ?not be updated|\w+_IN_PROGRESS state)",
        "The stack is still busy with an earlier change, perhaps one that was interrupted.",
        "Wait until CloudFormation's page in the AWS console shows it at rest, then run the same command again.",
    ),
    Failure(
        "rollback-failed",
        r"((?:UPDATE_)?ROLLBACK_FAILED)",
        "The stack could neither be changed nor changed back.",
        "On CloudFormation's page in the AWS console, mend what it names and continue the "
        "rollback, or delete the stack.",
    ),
    Failure(
        "quota",
        r"((?:Cannot exceed quota|LimitExceeded|quota)[^\n]*)",
        "A quota of the account is used up.",
        "Delete what is not needed, or raise the quota that AWS names in the Service Quotas console.",
    ),
    Failure(
        "network",
        r"(ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|EPIPE|socket hang up|TimeoutError)",
        "The connection to AWS broke.",
        "Check the network and run the same command again: what arrived is kept.",
    ),
    Failure(
        "rolled-back",
        r"((?:UPDATE_)?ROLLBACK_COMPLETE)",
        "AWS refused a part of the stack and undid the rest; an endpoint that was there before is still there.",
        "Mend what AWS names and run the same command again: a stack that never worked is replaced by itself.",
    ),
)


def explain(output: str, what: str = "The deployment", log: str = "The log") -> LambdiffError:
    """The error for a failed run of the CDK CLI.

    Args:
        output: what it wrote, both streams.
        what: the subject of the message.
        log: where all of it can be read.
    """
    words = _words(output)
    # The words first: the rest of the output may mention anything.
    for text in (words, output):
        for failure in TABLE:
            if match := re.search(failure.pattern, text):
                return _error(failure, match, words, log)
    return DeployError(f"{what} failed: {words}", fix=f"{log} has the rest; `lambdiff doctor` looks at the account.")


def _error(failure: Failure, match: re.Match[str], words: str, log: str) -> LambdiffError:
    found = match[1] if match.groups() else match[0]
    message = f"{failure.meaning.format(found)} In the words of the tool: {words}"
    fix = failure.fix.format(found, log=log)
    error = MemoryCapped(message, fix=fix, limit=int(found)) if failure.error is MemoryCapped else None
    return error or failure.error(message, fix=fix)


def _words(output: str) -> str:
    """The line that says why: the first resource that failed by itself, a tool's own words, or the CLI's verdict."""
    lines = [line.strip() for line in _ANSI.sub("", output).splitlines() if line.strip()]
    for pattern in (
        r"\|\s*\w+_FAILED\s*\|\s*(?!.*cancelled)([\w:]+\s*\|\s*\S+.*)",
        r": fail: .* exited with error code \d+: (.+)",
        r": fail: (.+)",
        r"^❌\s*(.+)",
        r"^(?:Toolkit)?[Ee]rror: (.+)",
    ):
        for line in lines:
            if match := re.search(pattern, line):
                return re.sub(r"\s+", " ", match[1]).strip()[:700]
    return lines[-1][:700] if lines else "it said nothing"


_ANSI: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

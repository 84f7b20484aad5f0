"""The settings of a stack: one typed object that `deploy` passes to the CDK app, checked before synthesis.

It is passed as JSON in an environment variable, because the CDK CLI starts the app as a separate process. It contains
no secret. The limits are those of Lambda (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
"""

from __future__ import annotations

import os
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from lambdiff.aws.function import Architecture
from lambdiff.config import NAME_PATTERN
from lambdiff.engine.manifest import EngineName
from lambdiff.errors import ConfigurationError
from lambdiff.infra.registry import ImageReference
from lambdiff.protocol.validation import validate_fields

VARIABLE: Final = "LAMBDIFF_STACK_SETTINGS"
DEFAULT_NAME: Final = "lambdiff"
DEFAULT_BASE_IMAGE: Final = "public.ecr.aws/lambda/python:3.12"
PLATFORMS: Final[dict[Architecture, str]] = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
"""The platform of the image by the architecture of the function."""

Auth = Literal["key-pair", "role"]
# A selection of the values that CloudWatch Logs allows:
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
RetentionDays = Literal[1, 3, 7, 14, 30, 90, 180, 365]

Name = Annotated[str, Meta(pattern=NAME_PATTERN, examples=["my-model"])]
MemoryMb = Annotated[int, Meta(ge=128, le=10_240)]
TimeoutS = Annotated[int, Meta(ge=1, le=900)]
TmpMb = Annotated[int, Meta(ge=512, le=10_240)]
Concurrency = Annotated[int, Meta(ge=0, le=100_000)]
PrincipalArn = Annotated[
    str,
    Meta(
        pattern=r"^arn:aws[a-z-]*:iam::\d{12}:(root|(user|role)/[\w+=,.@/-]+)\Z",
        examples=["arn:aws:iam::123456789012:role/NAME"],
    ),
]
Email = Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+\Z", examples=["ann@example.org"])]
WarmMinutes = Annotated[int, Meta(ge=1, le=60)]
Dollars = Annotated[float, Meta(ge=1, le=1_000_000)]
TagText = Annotated[
    str, Meta(min_length=1, max_length=128, pattern=r"^[\w\s.:/=+@-]+\Z", examples=["a-z A-Z 0-9 _.:/=+@-"])
]


class StackSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The settings of a stack.

    Attributes:
        name: the deployment's name; the stack is `lambdiff-NAME`, or `lambdiff` for the default one.
        account, region: where the stack is created.
        context: the folder that the image is built from (see `build_context.py`).
        model: name and revision, for the stack's output.
        memory_mb: MB of memory; 1,769 MB correspond to one vCPU.
        timeout_s: seconds that a request may take.
        tmp_mb: MB of `/tmp`.
        architecture: of the function and of its image, which must be the same.
        engine: the engine whose packages are installed in the image.
        base_image: the image's base; Lambda's Python image by default.
        base_image_pin: the base image with tag and digest, for the stack's output; see `base_image.py`.
        auth: `key-pair` creates an IAM user with an access key in Secrets Manager; `role` creates a role that
            `principals` may assume, and no user.
        reserved_concurrency: how many requests may run at once; 0 disables the endpoint; None sets no limit.
        log_retention_days: days after which log lines are deleted.
        alarm_email: receives the alarms; without it, alarms are visible in CloudWatch only.
        monthly_budget_usd: a budget for all Lambda usage of the account; `alarm_email` receives its notifications.
        keep_warm_minutes: invoke every N minutes to keep one environment warm; None for no schedule.
        snapstart: publish versions with SnapStart and attach the URL to an alias.
        tags: for every resource.
        fingerprint: identifies settings and content; see `preflight.fingerprint`.
    """

    account: Annotated[str, Meta(pattern=r"^\d{12}\Z", examples=["123456789012"])]
    region: Annotated[str, Meta(pattern=r"^[a-z]{2}(-[a-z]+)+-\d\Z", examples=["eu-central-1"])]
    context: str
    name: Name = DEFAULT_NAME
    model: str = ""
    memory_mb: MemoryMb = 10_240
    timeout_s: TimeoutS = 600
    tmp_mb: TmpMb = 512
    architecture: Architecture = "x86_64"
    engine: EngineName = "openvino"
    base_image: str = DEFAULT_BASE_IMAGE
    base_image_pin: str = ""
    auth: Auth = "key-pair"
    principals: tuple[PrincipalArn, ...] = ()
    reserved_concurrency: Concurrency | None = None
    log_retention_days: RetentionDays = 30
    alarm_email: Email | None = None
    monthly_budget_usd: Dollars | None = None
    keep_warm_minutes: WarmMinutes | None = None
    snapstart: bool = False
    tags: dict[TagText, TagText] = {}
    fingerprint: str = ""

    @property
    def stack_name(self) -> str:
        """The name of the CloudFormation stack."""
        return stack_name(self.name)

    def check(self) -> StackSettings:
        """Check the values and their combination, so that Lambda does not reject them halfway through a deployment.

        Raises:
            ConfigurationError: a value is out of range, or values contradict each other; every problem is named.
        """
        _, wrong = validate_fields(StackSettings, msgspec.structs.asdict(self))
        if wrong:
            details = "; ".join(f"`{name}=` {detail}" for name, detail in wrong)
            raise ConfigurationError(f"The settings of the deployment are not valid: {details}.")
        ImageReference.parse(self.base_image)
        problems = []
        if self.snapstart and self.tmp_mb != 512:
            problems.append("SnapStart requires a /tmp of 512 MB; leave out `tmp_mb=`")
        if self.auth == "role" and not self.principals:
            problems.append("`auth=role` requires at least one ARN in `principals=` that may assume it")
        if self.auth == "key-pair" and self.principals:
            problems.append("`principals=` requires `auth=role`")
        if self.monthly_budget_usd is not None and not self.alarm_email:
            problems.append("`monthly_budget_usd=` requires `alarm_email=`, which receives its notifications")
        if self.keep_warm_minutes and self.reserved_concurrency == 0:
            problems.append("a keep-warm schedule cannot invoke a function whose reserved concurrency is 0")
        if problems:
            raise ConfigurationError(
                "The settings of the deployment contradict each other.", fix="; ".join(problems) + "."
            )
        return self

    def to_json(self) -> str:
        """Return the settings as JSON for the CDK app."""
        return msgspec.json.encode(self).decode()


def stack_name(name: str) -> str:
    """Return the name of a deployment's stack.

    Example:
        >>> stack_name("lambdiff"), stack_name("tiny")
        ('lambdiff', 'lambdiff-tiny')
    """
    return name if name == DEFAULT_NAME else f"{DEFAULT_NAME}-{name}"


def from_environment() -> StackSettings:
    """Return the settings that `deploy` passed to the CDK app.

    Raises:
        ConfigurationError: there are none, or they are not valid.
    """
    try:
        settings = msgspec.json.decode(os.environ[VARIABLE], type=StackSettings)
    except KeyError:
        raise ConfigurationError(
            f"{VARIABLE} is not set.", fix="Run `lambdiff deploy`, which starts this app."
        ) from None
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{VARIABLE} is not valid: {_plain(error)}.") from None
    return settings.check()


def _plain(error: Exception) -> str:
    return str(error).replace("`", "'").rstrip(".")

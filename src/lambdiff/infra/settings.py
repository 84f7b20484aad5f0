"""What a deployment is made of: the one typed object that `deploy` hands to the CDK app, checked before synthesis.

It travels as JSON in an environment variable, because the CDK CLI starts the app as a process of its own. It holds no
secret. The limits are Lambda's own (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
"""

from __future__ import annotations

import os
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from lambdiff.config import NAME_PATTERN
from lambdiff.errors import ConfigurationError

VARIABLE: Final = "LAMBDIFF_STACK_SETTINGS"
DEFAULT_NAME: Final = "lambdiff"
DEFAULT_BASE_IMAGE: Final = "public.ecr.aws/lambda/python:3.12"

Architecture = Literal["x86_64", "arm64"]
Auth = Literal["key-pair", "role"]
EngineName = Literal["openvino", "diffusers"]
# Some of those that CloudWatch Logs allows:
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
RetentionDays = Literal[1, 3, 7, 14, 30, 90, 180, 365]

Name = Annotated[str, Meta(pattern=NAME_PATTERN, description="Lower-case letters, digits and hyphens.")]
MemoryMb = Annotated[int, Meta(ge=128, le=10_240)]
TimeoutS = Annotated[int, Meta(ge=1, le=900)]
TmpMb = Annotated[int, Meta(ge=512, le=10_240)]
Concurrency = Annotated[int, Meta(ge=0, le=100_000)]
PrincipalArn = Annotated[str, Meta(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:(root|(user|role)/[\w+=,.@/-]+)\Z")]
Email = Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+\Z")]
WarmMinutes = Annotated[int, Meta(ge=1, le=60)]
Dollars = Annotated[float, Meta(ge=1, le=1_000_000)]
TagText = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[\w\s.:/=+@-]+\Z")]


class StackSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that shapes the stack.

    Attributes:
        name: the deployment's name; the stack is `lambdiff-NAME`, or `lambdiff` for the default one.
        account, region: where it goes.
        context: the staged folder that the image is built from (see `context.py`).
        memory_mb: MB of memory; 1,769 MB buy one vCPU.
        timeout_s: seconds a request may take.
        tmp_mb: MB of `/tmp`.
        architecture: the function's, and with it the image's platform: never one without the other.
        engine: which engine's packages the image gets.
        auth: `key-pair` makes an IAM user with an access key in Secrets Manager; `role` makes no user, and lets
            `principals` assume a role.
        reserved_concurrency: how many requests may run at once; 0 switches the endpoint off; None sets no limit.
        keep_warm_minutes: minutes between two calls that keep one environment warm; None for no schedule.
        alarm_email: who hears about alarms; None for alarms that nobody is told about.
        monthly_budget_usd: a budget for all of the account's Lambda use, told to `alarm_email`.
        snapstart: publish versions with SnapStart and put the URL on an alias.
    """

    account: Annotated[str, Meta(pattern=r"^\d{12}\Z")]
    region: Annotated[str, Meta(pattern=r"^[a-z]{2}(-[a-z]+)+-\d\Z")]
    context: str
    name: Name = DEFAULT_NAME
    model: str = ""
    memory_mb: MemoryMb = 10_240
    timeout_s: TimeoutS = 600
    tmp_mb: TmpMb = 512
    architecture: Architecture = "x86_64"
    engine: EngineName = "openvino"
    base_image: str = DEFAULT_BASE_IMAGE
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
        """The CloudFormation stack's name."""
        return stack_name(self.name)

    def check(self) -> StackSettings:
        """Refuse what Lambda would refuse half-way through a deployment.

        Raises:
            ConfigurationError: with a sentence for each problem.
        """
        try:
            msgspec.convert(msgspec.to_builtins(self), StackSettings)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"The deployment's settings are not usable: {_plain(error)}.") from None
        problems = []
        if self.architecture == "arm64" and self.engine == "openvino":
            problems.append("the OpenVINO image is built for x86_64 only; use --engine diffusers or --arch x86_64")
        if self.snapstart and self.tmp_mb != 512:
            problems.append("SnapStart needs /tmp at 512 MB; leave --tmp out")
        if self.auth == "role" and not self.principals:
            problems.append("--auth role needs at least one --principal ARN that may assume it")
        if self.auth == "key-pair" and self.principals:
            problems.append("--principal belongs to --auth role")
        if self.monthly_budget_usd is not None and not self.alarm_email:
            problems.append("--budget needs --alarm-email, which the budget writes to")
        if self.keep_warm_minutes and self.reserved_concurrency == 0:
            problems.append("a keep-warm schedule cannot reach a function whose concurrency is 0")
        if problems:
            raise ConfigurationError("The deployment's settings do not fit together.", fix="; ".join(problems) + ".")
        return self

    def to_json(self) -> str:
        """The form in which the CDK app gets it."""
        return msgspec.json.encode(self).decode()


def stack_name(name: str) -> str:
    """The stack of a deployment.

    Example:
        >>> stack_name("lambdiff"), stack_name("tiny")
        ('lambdiff', 'lambdiff-tiny')
    """
    return name if name == DEFAULT_NAME else f"{DEFAULT_NAME}-{name}"


def from_environment() -> StackSettings:
    """The settings that `deploy` left for the CDK app.

    Raises:
        ConfigurationError: there are none, or they are not usable.
    """
    try:
        settings = msgspec.json.decode(os.environ[VARIABLE], type=StackSettings)
    except KeyError:
        raise ConfigurationError(f"{VARIABLE} is not set.", fix="Run `lambdiff deploy`; it starts this app.") from None
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{VARIABLE} is not usable: {_plain(error)}.") from None
    return settings.check()


def _plain(error: Exception) -> str:
    return str(error).replace("`", "'").rstrip(".")

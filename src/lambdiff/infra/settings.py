"""The settings of a stack: one typed object that `deploy` passes to the CDK app, checked before synthesis.

It is passed as JSON in an environment variable, because the CDK CLI starts the app as a separate process. It contains
no secret. The limits are those of Lambda (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypedDict

import msgspec
from msgspec import Meta, Struct

from lambdiff.auth import partitions
from lambdiff.aws import outputs
from lambdiff.aws.function import Architecture
from lambdiff.config import NAME_PATTERN
from lambdiff.engine.manifest import EngineName
from lambdiff.errors import ConfigurationError
from lambdiff.infra.registry import ImageReference
from lambdiff.protocol.validation import raise_for, validate_fields

VARIABLE: Final = "LAMBDIFF_STACK_SETTINGS"
DEFAULT_NAME: Final = "lambdiff"
DEFAULT_BATCH_TIMEOUT_S: Final = 300
DEFAULT_ENGINE: Final[EngineName] = "openvino"
DEFAULT_BASE_IMAGE: Final = "public.ecr.aws/lambda/python:3.12"
PLATFORMS: Final[dict[Architecture, str]] = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
"""The platform of the image by the architecture of the function."""
BUILD_MINUTES: Final = 60
"""CodeBuild ends a build of the image that takes longer."""

Auth = Literal["key-pair", "role"]
BuilderName = Literal["auto", "local", "codebuild"]
# A selection of the values that CloudWatch Logs allows:
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
RetentionDays = Literal[1, 3, 7, 14, 30, 90, 180, 365]

Name = Annotated[
    str,
    Meta(
        pattern=NAME_PATTERN,
        examples=["my-model (at most 30 lower-case letters, digits and hyphens, starting with a letter)"],
    ),
]
AccountId = Annotated[str, Meta(pattern=r"^\d{12}\Z", examples=["123456789012"])]
MemoryMb = Annotated[int, Meta(ge=128, le=10_240)]
TimeoutS = Annotated[int, Meta(ge=1, le=900)]
TmpMb = Annotated[int, Meta(ge=512, le=10_240)]
Concurrency = Annotated[int, Meta(ge=0, le=100_000)]
PrincipalArn = Annotated[
    str,
    Meta(
        pattern=r"^arn:aws[a-z-]*:iam::\d{12}:(root|(user|role)/[\w+=,.@/-]+)\Z",
        examples=["arn:aws:iam::123456789012:role/NAME or arn:aws:iam::123456789012:user/NAME"],
    ),
]
Email = Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+\Z", examples=["ann@example.org"])]
WarmMinutes = Annotated[int, Meta(ge=1, le=60)]
Dollars = Annotated[float, Meta(ge=1, le=1_000_000)]
# Letters, digits and spaces of any language; https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html
TagKey = Annotated[
    str, Meta(min_length=1, max_length=128, pattern=r"^[\w .:/=+@-]+\Z", examples=["team or a-z A-Z 0-9 _.:/=+@-"])
]
TagValue = Annotated[
    str, Meta(min_length=1, max_length=256, pattern=r"^[\w .:/=+@-]+\Z", examples=["design or a-z A-Z 0-9 _.:/=+@-"])
]
# https://docs.aws.amazon.com/cdk/v2/guide/bootstrapping-customizing.html
Qualifier = Annotated[str, Meta(pattern=r"^[a-z0-9]{1,10}\Z", examples=["at most 10 lower-case letters and digits"])]
PolicyName = Annotated[
    str,
    Meta(
        pattern=r"^(arn:aws[a-z-]*:iam::(\d{12}|aws):policy/)?[\w+=,.@/-]{1,512}\Z",
        examples=["the name of a managed policy or arn:aws:iam::123456789012:policy/NAME"],
    ),
]
SubnetId = Annotated[str, Meta(pattern=r"^subnet-[0-9a-f]{8,17}\Z", examples=["subnet-0123456789abcdef0"])]
SecurityGroupId = Annotated[str, Meta(pattern=r"^sg-[0-9a-f]{8,17}\Z", examples=["sg-0123456789abcdef0"])]
# https://docs.aws.amazon.com/lambda/latest/api/API_VpcConfig.html
_MAX_SUBNETS: Final = 16
_MAX_SECURITY_GROUPS: Final = 5
_MAX_PRINCIPALS: Final = 1_900
"""IAM allows 2,048 characters a trust policy; https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
_MAX_TAGS: Final = 45
"""AWS allows 50 tags a resource, of which CloudFormation and lambdiff use some."""


class SettingOverrides(TypedDict, total=False):
    """The fields of `StackSettings` that `lambdiff deploy` lets its caller choose."""

    memory_mb: int
    timeout_s: int
    tmp_mb: int
    architecture: Architecture
    engine: EngineName
    base_image: str
    auth: Auth
    principals: tuple[str, ...]
    log_retention_days: RetentionDays
    alarm_email: str
    monthly_budget_usd: float
    keep_warm_minutes: int
    snapstart: bool
    dashboard: bool
    tracing: bool
    batch: bool
    batch_memory_mb: int
    batch_timeout_s: int
    qualifier: str
    permissions_boundary: str
    vpc_subnets: tuple[str, ...]
    vpc_security_groups: tuple[str, ...]
    tags: dict[str, str]


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
        dashboard: add a CloudWatch dashboard, and let the function's log lines become metrics.
        tracing: trace requests with X-Ray.
        batch: add what `lambdiff batch --where aws` needs; see `batch_resources.py`.
        batch_memory_mb: MB of memory of the batch function; None for `memory_mb`.
        batch_timeout_s: seconds that the batch function may take for an image; it limits what a run can cost.
        qualifier: of a custom CDK bootstrap; None for CDK's own.
        permissions_boundary: name or ARN of the policy that limits every user and role of the stack.
        vpc_subnets, vpc_security_groups: where the function runs; empty for Lambda's own network.
        image: the address of an image in ECR by digest, from CodeBuild; without it, CDK builds and publishes the image.
        tags: for every resource.
        fingerprint: identifies settings and content; see `preflight.fingerprint`.
    """

    account: AccountId
    region: Annotated[str, Meta(pattern=r"^[a-z]{2}(-[a-z]+)+-\d\Z", examples=["eu-central-1"])]
    context: str
    name: Name = DEFAULT_NAME
    model: str = ""
    memory_mb: MemoryMb = 10_240
    timeout_s: TimeoutS = 600
    tmp_mb: TmpMb = 512
    architecture: Architecture = "x86_64"
    engine: EngineName = DEFAULT_ENGINE
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
    dashboard: bool = False
    tracing: bool = False
    batch: bool = False
    batch_memory_mb: MemoryMb | None = None
    batch_timeout_s: TimeoutS = DEFAULT_BATCH_TIMEOUT_S
    qualifier: Qualifier | None = None
    permissions_boundary: PolicyName | None = None
    vpc_subnets: tuple[SubnetId, ...] = ()
    vpc_security_groups: tuple[SecurityGroupId, ...] = ()
    image: Annotated[
        str, Meta(pattern=r"^$|^[\w.-]+/[\w./-]+@sha256:[0-9a-f]{64}\Z", examples=["REGISTRY/NAME@sha256:DIGEST"])
    ] = ""
    tags: dict[TagKey, TagValue] = {}
    fingerprint: str = ""

    @property
    def stack_name(self) -> str:
        """The name of the CloudFormation stack."""
        return stack_name(self.name)

    def with_memory_limit(self, limit: int) -> StackSettings:
        """Return the settings for an account whose functions may have at most `limit` MB."""
        batch = None if self.batch_memory_mb is None else min(self.batch_memory_mb, limit)
        return msgspec.structs.replace(self, memory_mb=min(self.memory_mb, limit), batch_memory_mb=batch)

    def check(self) -> StackSettings:
        """Check the values and their combination, so that Lambda does not reject them halfway through a deployment.

        Raises:
            InvalidRequest: a value is out of range, or values contradict each other; every problem is named.
        """
        problems = find_problems(msgspec.structs.asdict(self))
        if self.auth == "role" and not self.principals:
            problems.append(("principals", "must name at least one user or role that may assume the role"))
        raise_for(problems)
        return self

    def to_json(self) -> str:
        """Return the settings as JSON for the CDK app."""
        return msgspec.json.encode(self).decode()


def find_problems(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return `(name, detail)` for each value that is out of range and for each contradiction.

    Args:
        fields: some or all fields of `StackSettings`; the others have their defaults.

    Example:
        >>> find_problems({"memory_mb": 99, "principals": ("arn:aws:iam::123456789012:user/ann",)})
        [('memory_mb', 'must be a whole number in 128..10240, not 99'), ('principals', 'requires `auth=role`')]
    """
    values, problems = validate_fields(StackSettings, dict(fields))
    wrong = {name for name, _ in problems}
    defaults = {field.name: field.default for field in msgspec.structs.fields(StackSettings)}

    def value(name: str) -> Any:
        found = values.get(name, defaults[name])
        return None if name in wrong or found is msgspec.NODEFAULT else found

    try:
        ImageReference.parse(value("base_image") or DEFAULT_BASE_IMAGE)
    except ConfigurationError:
        problems.append(("base_image", f"must look like {DEFAULT_BASE_IMAGE}, not {values['base_image']!r}"))
    problems += ((name, detail) for name, detail in _contradictions(value) if name not in wrong)
    return problems + [("tags", detail) for detail in _tag_problems(values.get("tags", {}))]


def _contradictions(value: Callable[[str], Any]) -> Iterator[tuple[str, str]]:
    if value("snapstart") and value("tmp_mb") not in (None, 512):
        yield "tmp_mb", f"must be 512 with SnapStart, not {value('tmp_mb')}"
    principals = value("principals") or ()
    if value("auth") == "key-pair" and principals:
        yield "principals", "requires `auth=role`"
    if (region := value("region")) and (partition := partitions.partition_of(region)):
        boundary = value("permissions_boundary") or ""
        arns = [("principals", arn) for arn in principals] + [("permissions_boundary", boundary)]
        for name, arn in arns:
            if arn.startswith("arn:") and arn.split(":")[1] != partition.id:
                yield name, f"has {arn}, which is in another partition than {region} ({partition.id})"
    if (size := sum(len(arn) + 3 for arn in principals)) > _MAX_PRINCIPALS:
        yield "principals", f"must fit into a trust policy: {_MAX_PRINCIPALS:,} characters, not {size:,}"
    if value("monthly_budget_usd") is not None and not value("alarm_email"):
        yield "monthly_budget_usd", "requires `alarm_email=`, which receives its notifications"
    for name in _of_batch_only(value):
        yield name, "requires `batch=True`"
    if bool(value("vpc_subnets")) != bool(value("vpc_security_groups")):
        missing = "vpc_security_groups" if value("vpc_subnets") else "vpc_subnets"
        yield missing, "must be given as well: a function in a VPC needs subnets and security groups"
    for name, most in (("vpc_subnets", _MAX_SUBNETS), ("vpc_security_groups", _MAX_SECURITY_GROUPS)):
        if (count := len(value(name) or ())) > most:
            yield name, f"must be at most {most}, not {count}"
    if value("keep_warm_minutes") and value("reserved_concurrency") == 0:
        yield "keep_warm_minutes", "cannot invoke a function with `reserved_concurrency=0`"


def _of_batch_only(value: Callable[[str], Any]) -> Iterator[str]:
    defaults = {"batch_memory_mb": None, "batch_timeout_s": DEFAULT_BATCH_TIMEOUT_S}
    yield from (name for name, default in defaults.items() if not value("batch") and value(name) not in (None, default))


def _tag_problems(tags: Iterable[str]) -> Iterator[str]:
    tags = list(tags)
    if len(tags) > _MAX_TAGS:
        yield f"must be at most {_MAX_TAGS}, not {len(tags)}"
    seen: set[str] = set()
    for key in tags:
        if key.lower().startswith("aws:") or key == outputs.DEPLOYMENT_TAG:
            yield f"cannot use the key {key}, which is reserved"
        if key.lower() in seen:
            yield f"has the key {key} twice; IAM ignores upper and lower case"
        seen.add(key.lower())


def stack_name(name: str) -> str:
    """Return the name of a deployment's stack.

    Example:
        >>> stack_name("lambdiff"), stack_name("tiny")
        ('lambdiff', 'lambdiff-tiny')
    """
    return name if name == DEFAULT_NAME else f"{DEFAULT_NAME}-{name}"


def builder_stack_name(name: str) -> str:
    """Return the name of a deployment's builder stack; no deployment has a name with a capital letter.

    Example:
        >>> builder_stack_name("lambdiff"), builder_stack_name("tiny")
        ('lambdiff-Builder', 'lambdiff-tiny-Builder')
    """
    return f"{stack_name(name)}-Builder"


def from_environment() -> StackSettings:
    """Return the settings that `deploy` passed to the CDK app.

    Raises:
        ConfigurationError: there are none, or they are not JSON.
        InvalidRequest: a value is out of range.
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

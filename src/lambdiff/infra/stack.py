"""The stack: a function from a container image behind an IAM-protected Function URL, and the identity that may call it.

    image -> Function -> [version, alias] -> Function URL <- invoker (user with a key in a secret, or a role)
                |
                +-- role that may write its own log group, alarms, [schedule, budget]

With `batch`, `batch_resources.py` adds a second function from the same image, a state machine and a bucket.

No resource has a fixed name, so an account can hold any number of deployments. No policy has a
wildcard, apart from the names of objects and executions in `batch_resources.py`.
"""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecr_assets as assets
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from lambdiff.aws import outputs
from lambdiff.aws.function import SNAPSTART_ALIAS
from lambdiff.aws.images import tag_prefix
from lambdiff.handler.metrics import METRICS_VARIABLE
from lambdiff.infra import batch_resources, dashboard, monitoring, network
from lambdiff.infra.findings import acknowledge
from lambdiff.infra.settings import StackSettings

# Architecture and platform belong together: on an arm64 laptop, the default platform would produce an image that an
# x86_64 function cannot start.
_PLATFORMS: Final = {
    "x86_64": (lambda_.Architecture.X86_64, assets.Platform.LINUX_AMD64),
    "arm64": (lambda_.Architecture.ARM_64, assets.Platform.LINUX_ARM64),
}
_RETENTION: Final = {
    1: logs.RetentionDays.ONE_DAY,
    3: logs.RetentionDays.THREE_DAYS,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    90: logs.RetentionDays.THREE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
}


class EndpointStack(cdk.Stack):  # type: ignore[misc]  # mypy skips aws_cdk, which takes it a minute
    """The stack of one endpoint."""

    def __init__(self, scope: Construct, settings: StackSettings) -> None:
        super().__init__(
            scope,
            settings.stack_name,
            stack_name=settings.stack_name,
            description="A diffusion model behind an IAM-protected Lambda Function URL, deployed by lambdiff.",
            env=cdk.Environment(account=settings.account, region=settings.region),
            # All CDK applications of the account share a repository; the tag says which images belong to this stack.
            synthesizer=cdk.DefaultStackSynthesizer(
                docker_tag_prefix=tag_prefix(settings.stack_name), qualifier=settings.qualifier
            ),
            permissions_boundary=to_permissions_boundary(settings.permissions_boundary),
        )
        self.settings = settings
        self._repository: ecr.IRepository | None = None
        self.log_group = logs.LogGroup(
            self,
            "Logs",
            retention=_RETENTION[settings.log_retention_days],
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        self.function = self._function()
        self.target: lambda_.IFunction = self._snapstart_alias() if settings.snapstart else self.function
        self.url = self.target.add_function_url(auth_type=lambda_.FunctionUrlAuthType.AWS_IAM)
        if settings.auth == "role":
            self._invoker_role()
        else:
            self._invoker_user()
        monitoring.add_alarms(self, self.function, settings)
        if settings.keep_warm_minutes:
            self._keep_warm(settings.keep_warm_minutes)
        if settings.dashboard:
            self.function.add_environment(METRICS_VARIABLE, "true")
            dashboard.add(self, self.function, settings)
        if settings.monthly_budget_usd:
            monitoring.add_budget(self, settings.monthly_budget_usd, settings.alarm_email or "")
        if settings.batch:
            architecture, _ = _PLATFORMS[settings.architecture]
            retention = _RETENTION[settings.log_retention_days]
            batch_resources.add(self, settings, self._image([batch_resources.HANDLER]), architecture, retention)
        self._outputs()
        for key, value in {"lambdiff:deployment": settings.name, **settings.tags}.items():
            cdk.Tags.of(self).add(key, value)

    def _function(self) -> lambda_.DockerImageFunction:
        architecture, _ = _PLATFORMS[self.settings.architecture]
        # Not AWSLambdaBasicExecutionRole, which may write to every log group.
        role = iam.Role(self, "FunctionRole", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        self.log_group.grant_write(role)
        if self.settings.vpc_subnets:
            network.allow_network_interfaces(role)
        function = lambda_.DockerImageFunction(
            self,
            "Function",
            code=self._image(),
            description=f"lambdiff endpoint {self.settings.name}",
            architecture=architecture,
            memory_size=self.settings.memory_mb,
            timeout=cdk.Duration.seconds(self.settings.timeout_s),
            ephemeral_storage_size=cdk.Size.mebibytes(self.settings.tmp_mb),
            reserved_concurrent_executions=self.settings.reserved_concurrency,
            log_group=self.log_group,
            role=role,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS if self.settings.snapstart else None,
            tracing=lambda_.Tracing.ACTIVE if self.settings.tracing else None,
        )
        if self.settings.vpc_subnets:
            network.place(function, self.settings.vpc_subnets, self.settings.vpc_security_groups)
        if self.settings.tracing:
            acknowledge(role, "AwsSolutions-IAM5[Resource::*]", "X-Ray's actions cannot be limited to a resource.")
        return function

    def _image(self, command: list[str] | None = None) -> lambda_.DockerImageCode:
        """Return the image; a command replaces that of the Dockerfile."""
        if self.settings.image:
            name, _, digest = self.settings.image.partition("/")[2].partition("@")
            if self._repository is None:
                self._repository = ecr.Repository.from_repository_name(self, "Images", name)
            # The builder stack lets Lambda read it.
            return lambda_.DockerImageCode.from_ecr(self._repository, tag_or_digest=digest, cmd=command)
        _, platform = _PLATFORMS[self.settings.architecture]
        return lambda_.DockerImageCode.from_image_asset(
            self.settings.context,
            platform=platform,
            build_args={
                "BASE_IMAGE": self.settings.base_image,
                "BASE_DIGEST": self.settings.base_image_pin.partition("@")[2],
                "ENGINE": self.settings.engine,
            },
            cmd=command,
            display_name=f"lambdiff image ({self.settings.engine})",
        )

    def _snapstart_alias(self) -> lambda_.Alias:
        return lambda_.Alias(self, "Live", alias_name=SNAPSTART_ALIAS, version=self.function.current_version)

    def _invoker_user(self) -> None:
        serial = cdk.CfnParameter(
            self,
            outputs.KEY_SERIAL,
            type="Number",
            default=1,
            min_value=1,
            description="Raised by `lambdiff rotate`.",
        )
        user = iam.User(self, "Invoker")
        self.url.grant_invoke_url(user)
        key = iam.AccessKey(self, "InvokerKey", user=user, serial=serial.value_as_number)
        secret = secretsmanager.Secret(
            self,
            "InvokerSecret",
            description=f"Access key to call the lambdiff endpoint {self.settings.name}",
            secret_object_value={
                # The id alone grants nothing; the secret half remains a reference in the template.
                "AWS_ACCESS_KEY_ID": cdk.SecretValue.unsafe_plain_text(key.access_key_id),
                "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
            },
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        acknowledge(
            secret,
            "AwsSolutions-SMG4",
            "The secret mirrors an IAM access key, which Secrets Manager cannot rotate without another function; "
            "`lambdiff rotate` replaces key and secret in one stack update.",
        )
        self._output(outputs.SECRET_ARN, secret.secret_arn, "Secret with the invoker's key pair")

    def _invoker_role(self) -> None:
        role = iam.Role(
            self,
            "InvokerRole",
            description=f"May call the lambdiff endpoint {self.settings.name}",
            assumed_by=iam.CompositePrincipal(*(iam.ArnPrincipal(arn) for arn in self.settings.principals)),
        )
        self.url.grant_invoke_url(role)
        self._output(outputs.INVOKER_ROLE_ARN, role.role_arn, "Role that callers assume")

    def _keep_warm(self, minutes: int) -> None:
        event = {
            "version": "2.0",
            "rawPath": "/",
            "rawQueryString": "",
            "headers": {"content-type": "application/json"},
            "requestContext": {"http": {"method": "POST", "path": "/", "protocol": "HTTP/1.1"}},
            # A request for one step: a health check would keep an environment warm that has not loaded the model.
            "body": '{"prompt":"warm","num_inference_steps":1}',
            "isBase64Encoded": False,
        }
        events.Rule(
            self,
            "KeepWarm",
            description=f"Keeps one environment of the lambdiff endpoint {self.settings.name} warm",
            schedule=events.Schedule.rate(cdk.Duration.minutes(minutes)),
            targets=[
                targets.LambdaFunction(self.target, event=events.RuleTargetInput.from_object(event), retry_attempts=0)
            ],
        )

    def _outputs(self) -> None:
        self._output(outputs.URL, self.url.url, "Function URL of the endpoint")
        self._output(outputs.FUNCTION_NAME, self.function.function_name, "Lambda function")
        self._output(outputs.REGION, self.settings.region, "Region to sign requests for")
        self._output(outputs.LOG_GROUP, self.log_group.log_group_name, "Log group of the function")
        self._output(outputs.MODEL, self.settings.model or "unknown", "Model in the image")
        self._output(outputs.ENGINE, self.settings.engine, "Engine in the image")
        self._output(outputs.BASE_IMAGE, self.settings.base_image_pin or "unknown", "Base image with its digest")
        self._output(outputs.AUTH, self.settings.auth, "How callers authenticate: key-pair or role")
        self._output(outputs.FINGERPRINT, self.settings.fingerprint or "none", "Hash of settings and content")

    def _output(self, name: str, value: str, description: str) -> None:
        cdk.CfnOutput(self, name, value=value, description=description)


def to_permissions_boundary(policy: str | None) -> cdk.PermissionsBoundary | None:
    """Return the permissions boundary for the name or ARN of a policy."""
    if policy is None:
        return None
    is_arn = policy.startswith("arn:")
    return cdk.PermissionsBoundary.from_arn(policy) if is_arn else cdk.PermissionsBoundary.from_name(policy)

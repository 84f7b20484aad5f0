"""What `lambdiff deploy --batch` adds to the stack: a fan-out over the items of a run, which costs nothing when idle.

    run's items in S3 -> state machine -> Distributed Map -> batch function -> images in the bucket
                         one file after    one child for     the same image,
                         the other         each item         another command

The function has a name, memory, timeout and log of its own and no reservation, so a run neither takes the concurrency
that is reserved for the Function URL nor is limited by it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_stepfunctions as stepfunctions

from lambdiff.auth import partitions
from lambdiff.aws import map_runs, outputs
from lambdiff.infra import network
from lambdiff.infra.findings import acknowledge
from lambdiff.infra.settings import StackSettings
from lambdiff.protocol.batch_layout import BUCKET_VARIABLE, CLAIMS, IMAGES, RUNS

if TYPE_CHECKING:
    from constructs import Construct

HANDLER: Final = "lambdiff.handler.batch.handler"
RUN_DAYS: Final = 30
"""Days after which a run's items and records are deleted; images are kept."""


def definition() -> dict[str, Any]:
    """Return the state machine's definition in Amazon States Language, with names in braces for what the stack has.

    Its input is `aws.map_runs.RunInput`. One execution works through all item files of a run, one Map Run for each.
    The children's results are dropped: a Map Run whose results exceed 256 KiB fails, and the function writes records.

    Throttled calls have not been started, so they are retried for about half an hour. Errors of Lambda itself are
    retried once. A timeout, `Lambda.Unknown` and `Lambda.SdkClientException` are not retried: the call may have been
    billed, or may still be running.
    """
    image = {
        "Type": "Task",
        "Resource": "arn:${Partition}:states:::lambda:invoke",
        "Parameters": {"FunctionName": "${Function}", "Payload.$": "$"},
        "Retry": [
            {
                "ErrorEquals": ["Lambda.TooManyRequestsException"],
                "IntervalSeconds": 2,
                "BackoffRate": 2,
                "MaxDelaySeconds": 60,
                "JitterStrategy": "FULL",
                "MaxAttempts": map_runs.RETRIES_AFTER_THROTTLING,
            },
            {
                "ErrorEquals": ["Lambda.ServiceException", "Lambda.AWSLambdaException"],
                "IntervalSeconds": 5,
                "BackoffRate": 2,
                "MaxAttempts": map_runs.RETRIES_AFTER_ERRORS,
            },
        ],
        "OutputPath": None,
        "End": True,
    }
    return {
        "Comment": "Generates the images of a lambdiff batch run.",
        "StartAt": "Images",
        "States": {
            "Images": {
                "Type": "Map",
                "Label": "Images",
                "ItemReader": {
                    "Resource": "arn:${Partition}:states:::s3:getObject",
                    "ReaderConfig": {"InputType": "JSONL"},
                    "Parameters": {
                        "Bucket": "${Bucket}",
                        "Key.$": f"States.Format('{RUNS}{{}}/items-{{}}.jsonl', $.run, $.file)",
                    },
                },
                "ItemSelector": {
                    "run.$": "$.run",
                    "item": {"key.$": "$$.Map.Item.Value.key", "request.$": "$$.Map.Item.Value.request"},
                },
                "MaxConcurrencyPath": "$.concurrency",
                "ToleratedFailurePercentagePath": "$.tolerated_percent",
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                    "StartAt": "Image",
                    "States": {"Image": image},
                },
                "ResultPath": None,
                "Next": "More files?",
            },
            "More files?": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.file", "NumericLessThanPath": "$.files", "Next": "Next file"}],
                "Default": "Done",
            },
            "Next file": {
                "Type": "Pass",
                "Parameters": {
                    "run.$": "$.run",
                    "file.$": "States.MathAdd($.file, 1)",
                    "files.$": "$.files",
                    "concurrency.$": "$.concurrency",
                    "tolerated_percent.$": "$.tolerated_percent",
                },
                "Next": "Images",
            },
            "Done": {"Type": "Succeed"},
        },
    }


def add(
    stack: cdk.Stack,
    settings: StackSettings,
    code: lambda_.DockerImageCode,
    architecture: lambda_.Architecture,
    retention: logs.RetentionDays,
) -> None:
    """Add bucket, function and state machine to a stack.

    Args:
        stack: the endpoint's stack.
        settings: its settings; `batch_memory_mb` and `batch_timeout_s` are the function's.
        code: the endpoint's image with the command `HANDLER`.
        architecture: of the image.
        retention: of the log.
    """
    bucket = _bucket(stack)
    function = _function(stack, settings, bucket, code, architecture, retention)
    machine = _state_machine(stack, settings, bucket, function)
    for name, value, description in (
        (outputs.BATCH_BUCKET, bucket.bucket_name, "Bucket with the images of batch runs"),
        (outputs.BATCH_FUNCTION, function.function_name, "Function that generates the images of batch runs"),
        (outputs.BATCH_STATE_MACHINE, machine.state_machine_arn, "State machine of batch runs"),
    ):
        cdk.CfnOutput(stack, name, value=value, description=description)


def _bucket(scope: Construct) -> s3.Bucket:
    day = cdk.Duration.days(1)
    bucket = s3.Bucket(
        scope,
        "BatchBucket",
        encryption=s3.BucketEncryption.S3_MANAGED,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        enforce_ssl=True,
        lifecycle_rules=[
            s3.LifecycleRule(id="claims", prefix=CLAIMS, expiration=day),
            s3.LifecycleRule(id="runs", prefix=RUNS, expiration=cdk.Duration.days(RUN_DAYS)),
            s3.LifecycleRule(id="uploads", abort_incomplete_multipart_upload_after=day),
        ],
        # Images were paid for: `lambdiff destroy` asks. A stack that is rolled back at its creation takes it along.
        removal_policy=cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    )
    acknowledge(
        bucket,
        "AwsSolutions-S1",
        "Only the batch function and the owner's identities can reach it, and CloudTrail can record them. Access logs "
        "would need a second bucket and a line for each image.",
    )
    return bucket


def _function(
    scope: cdk.Stack,
    settings: StackSettings,
    bucket: s3.Bucket,
    code: lambda_.DockerImageCode,
    architecture: lambda_.Architecture,
    retention: logs.RetentionDays,
) -> lambda_.DockerImageFunction:
    log_group = logs.LogGroup(scope, "BatchLogs", retention=retention, removal_policy=cdk.RemovalPolicy.DESTROY)
    role = iam.Role(scope, "BatchFunctionRole", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    log_group.grant_write(role)
    for actions, resource in (
        (["s3:GetObject", "s3:PutObject"], bucket.arn_for_objects(f"{IMAGES}*")),
        (["s3:GetObject", "s3:PutObject"], bucket.arn_for_objects(f"{CLAIMS}*")),
        (["s3:PutObject"], bucket.arn_for_objects(f"{RUNS}*")),
        (["s3:ListBucket"], bucket.bucket_arn),  # without it, S3 answers 403 for an object that does not exist
    ):
        role.add_to_principal_policy(iam.PolicyStatement(actions=actions, resources=[resource]))
    bucket_id = scope.get_logical_id(bucket.node.default_child)
    for prefix in (IMAGES, CLAIMS, RUNS):
        acknowledge(
            role,
            f"AwsSolutions-IAM5[Resource::<{bucket_id}.Arn>/{prefix}*]",
            "Images, claims and records are named by the hash of the request, which is not known before.",
        )
    if settings.vpc_subnets:
        network.allow_network_interfaces(role)
    function = lambda_.DockerImageFunction(
        scope,
        "BatchFunction",
        code=code,
        description=f"Generates the images of batch runs of the lambdiff endpoint {settings.name}",
        architecture=architecture,
        memory_size=settings.batch_memory_mb or settings.memory_mb,
        timeout=cdk.Duration.seconds(settings.batch_timeout_s),
        ephemeral_storage_size=cdk.Size.mebibytes(settings.tmp_mb),
        log_group=log_group,
        role=role,
        environment={BUCKET_VARIABLE: bucket.bucket_name, **_s3_endpoint(scope, settings.region)},
    )
    if settings.vpc_subnets:
        network.place(function, settings.vpc_subnets, settings.vpc_security_groups)
    return function


def _s3_endpoint(scope: cdk.Stack, region: str) -> dict[str, str]:
    """The endpoint of S3, where it is not the one that obstore knows."""
    partition = partitions.partition_of(region)
    if partition is None or partition.id in ("aws", "aws-us-gov"):
        return {}
    return {"AWS_ENDPOINT_URL_S3": f"https://s3.{region}.{scope.url_suffix}"}


def _state_machine(
    scope: cdk.Stack, settings: StackSettings, bucket: s3.Bucket, function: lambda_.IFunction
) -> stepfunctions.StateMachine:
    role = iam.Role(
        scope,
        "BatchMachineRole",
        assumed_by=iam.ServicePrincipal(
            "states.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": settings.account}}
        ),
    )
    for action, resource in (
        ("lambda:InvokeFunction", function.function_arn),
        ("s3:GetObject", bucket.arn_for_objects(f"{RUNS}*")),
    ):
        role.add_to_principal_policy(iam.PolicyStatement(actions=[action], resources=[resource]))
    acknowledge(
        role,
        f"AwsSolutions-IAM5[Resource::<{scope.get_logical_id(bucket.node.default_child)}.Arn>/{RUNS}*]",
        "The item files of each run are in a folder of its own, whose name is not known before.",
    )
    machine = stepfunctions.StateMachine(
        scope,
        "BatchMachine",
        definition_body=stepfunctions.DefinitionBody.from_string(json.dumps(definition(), separators=(",", ":"))),
        definition_substitutions={
            "Bucket": bucket.bucket_name,
            "Function": function.function_arn,
            "Partition": scope.partition,
        },
        role=role,
        comment=f"Batch runs of the lambdiff endpoint {settings.name}",
    )
    _allow_children(scope, machine, role)
    for rule, what in (("AwsSolutions-SF1", "Events of the state machine"), ("AwsSolutions-SF2", "Traces")):
        acknowledge(
            machine,
            rule,
            f"{what} would cost more than the orchestration itself: the function's log has a line for each item, and "
            "Step Functions keeps the history of each execution for 90 days.",
        )
    return machine


def _allow_children(scope: cdk.Stack, machine: stepfunctions.StateMachine, role: iam.Role) -> None:
    """Let the state machine start and stop the child executions of its Distributed Map.

    A policy of its own: one that belonged to the role would have to exist before the machine that it names.
    Source: https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
    """
    children = cdk.Arn.format(
        cdk.ArnComponents(
            service="states",
            resource="execution",
            resource_name=f"{machine.state_machine_name}/Images:*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        ),
        scope,
    )
    policy = iam.Policy(
        scope,
        "BatchChildren",
        statements=[
            iam.PolicyStatement(actions=["states:StartExecution"], resources=[machine.state_machine_arn]),
            iam.PolicyStatement(actions=["states:DescribeExecution", "states:StopExecution"], resources=[children]),
        ],
    )
    policy.attach_to_role(role)
    machine_id = scope.get_logical_id(machine.node.default_child)
    where = f"arn:<AWS::Partition>:states:{scope.region}:{scope.account}"
    acknowledge(
        policy,
        f"AwsSolutions-IAM5[Resource::{where}:execution:<{machine_id}.Name>/Images:*]",
        "Child executions have random names.",
    )

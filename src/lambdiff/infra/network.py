"""A function inside a VPC.

The model is in the image, and Lambda itself writes the logs, so the function needs no way out: no NAT gateway, no VPC
endpoint. Its Function URL stays reachable as before. Lambda creates network interfaces in the subnets, which it may
keep for up to 20 minutes after the function has been deleted.
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_

from lambdiff.infra.findings import acknowledge

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-permissions
_ACTIONS = (
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ec2:GetSecurityGroupsForVpc",
    "ec2:UnassignPrivateIpAddresses",
)


def allow_network_interfaces(role: iam.Role) -> None:
    """Let Lambda create the function's network interfaces; the function's own code may not use these permissions."""
    role.add_to_policy(iam.PolicyStatement(actions=list(_ACTIONS), resources=["*"]))
    role.add_to_policy(
        iam.PolicyStatement(
            effect=iam.Effect.DENY,
            actions=list(_ACTIONS),
            resources=["*"],
            # Only calls from inside the function have this key.
            conditions={"ArnLike": {"lambda:SourceFunctionArn": "arn:*:lambda:*:*:function:*"}},
        )
    )
    acknowledge(
        role,
        "AwsSolutions-IAM5[Resource::*]",
        "Lambda creates network interfaces whose ids are not known before; the function's own code is denied the "
        "same actions, as AWS recommends.",
    )


def place(function: lambda_.Function, subnets: Sequence[str], security_groups: Sequence[str]) -> None:
    """Place a function into subnets.

    Args:
        function: the function; its role must allow network interfaces.
        subnets: ids, all in one VPC.
        security_groups: ids, of the same VPC.
    """
    # The construct's own parameters need the VPC's id and availability zones, of which Lambda needs neither.
    resource: lambda_.CfnFunction = function.node.default_child
    resource.vpc_config = lambda_.CfnFunction.VpcConfigProperty(
        subnet_ids=list(subnets), security_group_ids=list(security_groups)
    )

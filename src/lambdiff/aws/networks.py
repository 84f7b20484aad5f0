"""Subnets and security groups of Amazon VPC."""

from __future__ import annotations

from collections.abc import Sequence

from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import PermissionDenied, Rejected, translated
from lambdiff.errors import ConfigurationError


def check(account: Account, subnets: Sequence[str], security_groups: Sequence[str]) -> list[str]:
    """Check that subnets and security groups exist and belong to one VPC, which Lambda would find out after the build.

    Args:
        account: the account and region.
        subnets: ids, at least one.
        security_groups: ids, at least one.

    Returns:
        A note if the identity may not read them, or if all subnets are in one availability zone.

    Raises:
        ConfigurationError: one does not exist, or they belong to several VPCs.
        CredentialsError, DeployError: AWS does not accept the credentials, or cannot be reached.
    """
    client = account.client("ec2")
    try:
        with translated("The subnets"):
            found = client.describe_subnets(SubnetIds=list(subnets))["Subnets"]
        with translated("The security groups"):
            groups = client.describe_security_groups(GroupIds=list(security_groups))["SecurityGroups"]
    except PermissionDenied:
        return ["Subnets and security groups were not checked: that needs ec2:DescribeSubnets and "
                "ec2:DescribeSecurityGroups."]  # fmt: skip
    except Rejected as error:
        raise ConfigurationError(
            error.message, fix=f"Pass ids of {account.region.value} as `vpc_subnets=` and `vpc_security_groups=`."
        ) from None
    networks = {subnet["VpcId"] for subnet in found} | {group["VpcId"] for group in groups}
    if len(networks) > 1:
        raise ConfigurationError(
            f"The subnets and security groups belong to several VPCs: {', '.join(sorted(networks))}.",
            fix="Pass those of one VPC.",
        )
    if len({subnet["AvailabilityZone"] for subnet in found}) == 1:
        return ["All subnets are in one availability zone; if it fails, the endpoint does as well."]
    return []

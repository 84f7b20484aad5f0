"""Findings of cdk-nag that are accepted, each with its reason."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct


def acknowledge(construct: Construct, rule: str, reason: str) -> None:
    """Record for cdk-nag why a finding is accepted."""
    cdk.Validations.of(construct).acknowledge(cdk.Acknowledgment(id=rule, reason=reason))

"""The question before a deployment: what is deployed, what it costs, and what callers would lose."""

from __future__ import annotations

from lambdiff import pricing
from lambdiff.infra import builder
from lambdiff.infra.build_context import BuildContext
from lambdiff.infra.preflight import Prepared
from lambdiff.infra.settings import StackSettings


def ask(prepared: Prepared, *, in_codebuild: bool = False) -> str:
    """Return the question before a deployment; what callers would lose comes first."""
    settings = prepared.settings
    built = f", built in CodeBuild for {builder.price(settings)}," if in_codebuild else ""
    asked = f"Deploy {describe(settings, prepared.context)}{built} to account {settings.account}, {settings.region}?"
    return " ".join([*prepared.losses, asked])


def describe(settings: StackSettings, staged: BuildContext) -> str:
    """Return one line for the question before a deployment: model, size, and the price when idle."""
    idle = 3 * pricing.ALARM_MONTH + staged.size / 1e9 * pricing.ECR_GB_MONTH
    idle += pricing.SECRET_MONTH if settings.auth == "key-pair" else 0
    idle += pricing.DASHBOARD_MONTH if settings.dashboard else 0
    snapstart = ""
    if settings.snapstart:
        idle += pricing.snapstart_month(settings.memory_mb)
        snapstart = f", SnapStart at {pricing.dollars(pricing.snapstart_restore(settings.memory_mb))} a restore"
    batch = ""
    if settings.batch:
        batch = f", batch runs with {settings.batch_memory_mb or settings.memory_mb:,} MB, which cost nothing when idle"
    return (
        f"{settings.model} ({settings.engine}, {settings.memory_mb:,} MB, {settings.architecture}, "
        f"about {pricing.dollars(idle)} a month when idle{snapstart}{batch}) as {settings.stack_name}"
    )

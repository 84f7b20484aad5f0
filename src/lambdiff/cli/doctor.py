"""`lambdiff doctor`: find out what prevents a deployment or a call."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.flags import with_flags
from lambdiff.cli.options import json_option, region_option, stack_options


@click.command()
@stack_options
@region_option
@json_option
def doctor(deployment: str | None, profile: str | None, *, region: str | None, as_json: bool) -> int:
    """Find out what prevents a deployment or a call.

    Checks this machine, the AWS account and, if there is one, the deployment; if the endpoint answers 403, finds out
    why. Exits with code 3 if a check fails.

    Examples:

    \b
        lambdiff doctor
        lambdiff doctor --deployment tiny --json
    """
    from lambdiff.ops import doctor as examining

    findings = []
    for finding in examining.examine(deployment, profile, region):
        findings.append(finding)
        if not as_json:
            click.echo(with_flags(f"{finding.verdict:<5} {finding.check}: {finding.detail}"))
            if finding.fix and finding.verdict != "good":
                click.echo(with_flags(f"      {finding.fix}"))
    if as_json:
        echo_json(findings)
    return 3 if any(finding.verdict == "bad" for finding in findings) else 0

"""`lambdiff doctor`: what stands in the way."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option, stack_options


@click.command()
@stack_options
@click.option("--region", metavar="REGION", help="Where to look; by default the deployment's.")
@json_option
def doctor(deployment: str | None, profile: str | None, *, region: str | None, as_json: bool) -> int:
    """Check this machine, the account and the deployment; a 403 is decoded. Exit code 3 if something is bad.

    \b
    lambdiff doctor
    """
    from lambdiff.ops import doctor as examining

    findings = []
    for finding in examining.examine(deployment, profile, region):
        findings.append(finding)
        if not as_json:
            click.echo(f"{finding.verdict:<5} {finding.check}: {finding.detail}")
            if finding.fix and finding.verdict != "good":
                click.echo(f"      {finding.fix}")
    if as_json:
        echo_json(findings)
    return 3 if any(finding.verdict == "bad" for finding in findings) else 0

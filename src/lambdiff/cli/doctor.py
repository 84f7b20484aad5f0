"""`lambdiff doctor`: find out what prevents a deployment or a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lambdiff.cli import echo_json
from lambdiff.cli.flags import with_flags
from lambdiff.cli.options import json_option, region_option, stack_options
from lambdiff.printable import printable

if TYPE_CHECKING:
    from lambdiff.ops.doctor import CheckResult


@click.command()
@stack_options
@region_option
@json_option
def doctor(deployment: str | None, profile: str | None, *, region: str | None, as_json: bool) -> int:
    """Find out what prevents a deployment or a call.

    Checks three tasks separately: whether this machine can generate, call the endpoint, and deploy. Explains a 403
    reply from the endpoint. Exits with code 3 if the task that `lambdiff generate` would do is not possible: to call
    the endpoint if one is configured, otherwise to generate here.

    Examples:

    \b
        lambdiff doctor
        lambdiff doctor --deployment tiny --json
    """
    from lambdiff.ops import doctor as checking

    results: list[CheckResult] = []
    for result in checking.diagnose(deployment, profile, region):
        if not as_json:
            if not results or results[-1].task != result.task:
                click.echo(f"{result.task}:")
            _print(result)
        results.append(result)
    diagnosis = checking.Diagnosis.of(results)
    if as_json:
        echo_json(diagnosis)
    else:
        click.echo()
        for verdict in diagnosis.verdicts:
            answer = "yes" if verdict.ready else f"no, {_text(verdict.reason)}"
            click.echo(f"{verdict.task:<18}{answer}")
    return diagnosis.exit_code


def _print(result: CheckResult) -> None:
    click.echo(f"  {result.status:<5}  {result.check}: {_text(result.detail)}")
    if result.fix and result.status != "ok":
        click.echo(f"         {_text(result.fix)}")


def _text(text: str) -> str:
    return printable(with_flags(text), 2_000)

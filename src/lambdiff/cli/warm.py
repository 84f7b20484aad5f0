"""`lambdiff warm`: start environments before they are needed."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import endpoint_options, json_option


@click.command()
@click.option("-n", "--count", default=1, show_default=True, type=click.IntRange(1, 256), help="Environments.")
@endpoint_options
@json_option
def warm(
    count: int, url: str | None, region: str | None, profile: str | None, deployment: str | None, *, as_json: bool
) -> int:
    """Draw N one-step pictures at once, so that the next N requests find the model loaded. Each is billed.

    \b
    lambdiff warm -n 4
    """
    from lambdiff.client.client import Client
    from lambdiff.ops import warm as warming
    from lambdiff.stages import Stages

    report = Stages()
    with Client(url=url, region=region, profile=profile, deployment=deployment) as client:
        done = warming.warm(client, count, report)
    if as_json:
        echo_json(done)
    else:
        report.say(f"{done.answered} of {done.asked} answered, {done.loaded} of them loaded the model now.")
        for message in done.failed:
            report.say(f"  {message}")
    return 0 if done.answered == done.asked else 5

"""`lambdiff warm`: start environments before they are needed."""

from __future__ import annotations

import click

from lambdiff.cli import echo_json
from lambdiff.cli.flags import with_flags
from lambdiff.cli.options import endpoint_options, json_option
from lambdiff.cli.value_types import whole


@click.command()
@click.option(
    "-n", "--count", default=1, show_default=True, type=whole(1, 256), metavar="N",
    help="Number of environments.",
)  # fmt: skip
@endpoint_options
@json_option
def warm(
    count: int, url: str | None, region: str | None, profile: str | None, deployment: str | None, *, as_json: bool
) -> int:
    """Start environments before they are needed.

    Generates N one-step images concurrently, so that the next N requests find the model in memory. Each image is
    billed. Exits with code 5 if a request fails, and with 3 if nothing is deployed.

    Examples:

    \b
        lambdiff warm
        lambdiff warm -n 4
    """
    from lambdiff.client.client import Client
    from lambdiff.ops import warm as warming
    from lambdiff.stages import Stages

    stages = Stages()
    with Client(url=url, region=region, profile=profile, deployment=deployment) as client:
        warmed = warming.warm(client, count, stages)
    if as_json:
        echo_json(warmed)
    else:
        stages.say(f"{warmed.answered} of {warmed.requested} requests succeeded; {warmed.loaded} loaded the model.")
        for message in warmed.failed:
            stages.say(with_flags(f"Error: {message}").replace("\n", "\n  "))
    return 0 if warmed.answered == warmed.requested else 5

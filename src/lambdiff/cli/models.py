"""`lambdiff models`: list the models that can be baked by name."""

from __future__ import annotations

import click

from lambdiff.bake.catalogue import CATALOGUE
from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option
from lambdiff.cli.text import counted


@click.command()
@json_option
def models(*, as_json: bool) -> None:
    """List the models that `lambdiff bake` and `lambdiff deploy` know by name.

    Other models of the Stable Diffusion family can be baked from a local folder, or from the hub with --revision.

    Examples:

    \b
        lambdiff models
        lambdiff bake lcm-dreamshaper -o lcm
    """
    if as_json:
        echo_json(list(CATALOGUE.values()))
        return
    for entry in CATALOGUE.values():
        click.echo(f"{entry.name}\n  {entry.about}")
        click.echo(f"  {entry.hub_id} at {entry.revision[:12]}, license {entry.license}")
        defaults = entry.defaults
        click.echo(
            f"  {counted(defaults.num_inference_steps, 'step')}, guidance {defaults.guidance_scale:g}, "
            f"{defaults.width}x{defaults.height}, {defaults.scheduler}"
        )

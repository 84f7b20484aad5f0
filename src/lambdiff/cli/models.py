"""`lambdiff models`."""

from __future__ import annotations

import click

from lambdiff.bake.catalogue import CATALOGUE
from lambdiff.cli import echo_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(*, as_json: bool) -> None:
    """List the models that can be baked by name.

    Any other Stable-Diffusion-shaped model bakes from a local diffusers folder, or from the hub with --revision.
    """
    if as_json:
        echo_json(list(CATALOGUE.values()))
        return
    for model in CATALOGUE.values():
        click.echo(f"{model.name}\n  {model.about}")
        click.echo(f"  {model.hub_id} at {model.revision[:12]}, license {model.license}")
        defaults = model.defaults
        click.echo(
            f"  {defaults.num_inference_steps} steps, guidance {defaults.guidance_scale:g}, "
            f"{defaults.width}x{defaults.height}, {defaults.scheduler}"
        )

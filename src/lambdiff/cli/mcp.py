"""`lambdiff mcp`: a tool that generates images, for programs that speak the Model Context Protocol."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from lambdiff.cli.options import endpoint_options, local_option, model_dir_option
from lambdiff.cli.value_types import whole
from lambdiff.errors import MissingExtra


@click.command()
@click.option(
    "--output-dir", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="FOLDER",
    help="Folder in which the tool may save images. Without it, images are only returned.",
)  # fmt: skip
@click.option(
    "--max-images-per-hour", type=whole(1, 1_000_000), metavar="N",
    help="Images in any hour, all callers together.  [default: no limit]",
)  # fmt: skip
@local_option
@model_dir_option
@endpoint_options
def mcp(
    output_dir: Path | None, max_images_per_hour: int | None, local: bool, model_dir: Path | None, url: str | None,
    region: str | None, profile: str | None, deployment: str | None,
) -> None:  # fmt: skip
    """Offer a tool that generates images over the Model Context Protocol, on stdin and stdout.

    A host such as an editor or a chat program starts this command. The tool `generate_image` calls the endpoint that
    `lambdiff generate` would use. `lambdiff gateway` offers the same tool over HTTP.

    Examples:

    \b
        lambdiff mcp --local
        lambdiff mcp --deployment prod --output-dir images
    """
    if not importlib.util.find_spec("mcp"):
        raise MissingExtra("The Model Context Protocol", "gateway")
    import anyio

    from lambdiff.client.client import Client
    from lambdiff.gateway.generator import Budget
    from lambdiff.gateway.mcp_server import ImageTools, run_on_stdio

    with Client(
        url, region=region, deployment=deployment, profile=profile, local=local, model_dir=model_dir, load=True
    ) as client:
        anyio.run(run_on_stdio, ImageTools(client, output_dir, Budget(max_images_per_hour)))

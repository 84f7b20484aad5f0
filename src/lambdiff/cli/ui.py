"""`lambdiff ui`: the gateway's page, opened in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from lambdiff.cli.gateway import serve_gateway
from lambdiff.cli.options import endpoint_options, local_option, model_dir_option
from lambdiff.cli.value_types import whole


@click.command()
@click.option(
    "--port", type=whole(0, 65_535), default=9100, show_default=True, metavar="PORT",
    help="Port to listen on; 0 picks a free one.",
)  # fmt: skip
@click.option(
    "--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="FOLDER",
    help="Folder whose images the page shows, too.",
)  # fmt: skip
@click.option(
    "--max-images-per-hour", type=whole(1, 1_000_000), metavar="N",
    help="Images in any hour, all callers together.  [default: no limit]",
)  # fmt: skip
@click.option("--no-browser", is_flag=True, help="Print the page's address instead of opening it.")
@local_option
@model_dir_option
@endpoint_options
def ui(
    port: int, folder: Path | None, max_images_per_hour: int | None, no_browser: bool, local: bool,
    model_dir: Path | None, url: str | None, region: str | None, profile: str | None, deployment: str | None,
) -> None:  # fmt: skip
    """Show a page that generates images, in your browser.

    The page is on this machine only, and works without the internet if this machine generates the images. It is part of
    `lambdiff gateway --ui`. Stop it with Ctrl-C.

    Examples:

    \b
        lambdiff ui
        lambdiff ui --deployment prod --folder images
    """
    serve_gateway(
        "127.0.0.1", port, ui=True, folder=folder, max_images_per_hour=max_images_per_hour, open_page=not no_browser,
        url=url, region=region, profile=profile, deployment=deployment, local=local, model_dir=model_dir,
    )  # fmt: skip

"""`lambdiff info`: show the parameters stored in an image."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import msgspec

from lambdiff.cli import echo_json
from lambdiff.cli.flags import with_flags
from lambdiff.cli.options import json_option
from lambdiff.client import foreign_metadata
from lambdiff.printable import printable

_MAX_VALUE: Final = 10_000
"""Characters of a prompt. Prompts of other tools may be longer than lambdiff's."""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def info(file: Path, as_json: bool) -> None:
    """Show the parameters stored in an image.

    FILE is a PNG, JPEG or WebP file from lambdiff, AUTOMATIC1111's web UI, Forge, ComfyUI, InvokeAI, SwarmUI, Fooocus,
    NovelAI, Draw Things, Easy Diffusion, or another program that uses one of their formats.

    Examples:

    \b
        lambdiff info cat.png
        lambdiff info cat.png --json
    """
    stored = foreign_metadata.read(file)
    if as_json:
        echo_json(stored)
        return
    for name, value in msgspec.structs.asdict(stored.request).items():
        if value not in {None, ""}:
            # Further lines are indented, so that none can pass for another parameter.
            shown = printable(value, _MAX_VALUE, multiline=True).replace("\n", f"\n{'':21}")
            click.echo(f"{name:20} {shown}")
    for name in (
        "model",
        "revision",
        "version",
        "engine",
        "precision",
        "threads",
        "image_sha256",
        "mask_sha256",
        "tool",
    ):
        if value := getattr(stored, name):
            click.echo(f"{name:20} {printable(value)}")
    for note in stored.notes:
        click.echo(f"Note: {with_flags(printable(note))}", err=True)

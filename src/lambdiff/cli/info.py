"""`lambdiff info`: show the parameters stored in an image."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option
from lambdiff.protocol import metadata


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def info(file: Path, as_json: bool) -> None:
    """Show the parameters stored in an image.

    FILE is a PNG, JPEG or WebP file written by lambdiff or by another Stable Diffusion program.

    Examples:

    \b
        lambdiff info cat.png
        lambdiff info cat.png --json
    """
    stored = metadata.read(file)
    if as_json:
        echo_json(stored)
        return
    for name, value in msgspec.structs.asdict(stored.request).items():
        if value not in {None, ""}:
            click.echo(f"{name:20} {_printable(str(value))}")
    for name in ("model", "revision", "version"):
        if value := getattr(stored, name):
            click.echo(f"{name:20} {_printable(value)}")


def _printable(text: str) -> str:
    """Escape control characters, which a terminal would act on: the file may come from anybody."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)

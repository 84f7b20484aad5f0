"""`lambdiff info`: what a picture says about itself."""

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
    """Show the prompt, seed and all other parameters inside a picture.

    \b
    lambdiff info cat.png
    lambdiff generate --like cat.png -o again.png
    """
    recorded = metadata.read(file)
    if as_json:
        echo_json(recorded)
        return
    for name, value in msgspec.structs.asdict(recorded.request).items():
        if value not in {None, ""}:
            click.echo(f"{name:20} {_printable(str(value))}")
    for name in ("model", "revision", "version"):
        if value := getattr(recorded, name):
            click.echo(f"{name:20} {_printable(value)}")


def _printable(text: str) -> str:
    """Text of a file that anybody may have made, without the control characters that terminals obey."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)

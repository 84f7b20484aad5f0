"""`lambdiff bake`."""

from __future__ import annotations

from pathlib import Path

import click

from lambdiff.cli import echo_json


def _prompts(file: Path | None) -> tuple[str, ...] | None:
    """The lines of a file that are not empty."""
    if file is None:
        return None
    try:
        return tuple(filter(None, map(str.strip, file.read_text(encoding="utf-8-sig").splitlines())))
    except (OSError, UnicodeDecodeError):
        raise click.BadParameter(f"{file} cannot be read as text in UTF-8.") from None


@click.command()
@click.argument("source")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--engine", type=click.Choice(["openvino", "diffusers"]), default="openvino", show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["auto", "f32", "f16", "int8", "w8a8"]),
    default="auto",
    show_default=True,
    help="How weights are stored; auto is f16. w8a8: the UNet's activations in eight bits too, if pictures stay close.",
)
@click.option(
    "--calibration",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=lambda *arguments: _prompts(arguments[2]),
    metavar="FILE",
    help="For w8a8: prompts like those that will be asked, one a line.",
)
@click.option(
    "--decoder",
    default="full",
    show_default=True,
    metavar="full|tiny|FOLDER",
    help="The model's own decoder, TAESD (faster, a little softer), or the folder of an AutoencoderTiny.",
)
@click.option(
    "--guidance-interval",
    type=(float, float),
    metavar="FROM TO",
    default=(0.0, 1.0),
    help="Guide only this part of the steps, such as 0 0.6; the others cost half.",
)
@click.option(
    "--deepcache",
    "deepcache_interval",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Compute the whole UNet at every N-th step only (DeepCache); for 20 steps or more.",
)
@click.option(
    "--static-shapes/--dynamic-shapes",
    default=None,
    help="Compile the default size by itself, which draws it faster until another is asked for. Fixed, unless w8a8 or "
    "a guidance interval is asked for.",
)
@click.option(
    "--inference-precision",
    type=click.Choice(["auto", "f32"]),
    default="auto",
    show_default=True,
    help="The arithmetic: bf16 where the processor has it, or always f32.",
)
@click.option("--revision", metavar="COMMIT", help="The hub's commit; needed for models outside the catalogue.")
@click.option("--name", help="The model's name in replies; by default the catalogue's or the folder's.")
@click.option("--license", help="The weights' license, for a model outside the catalogue.")
@click.option("--force", is_flag=True, help="Replace the folder if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def bake(
    source: str,
    output: Path,
    *,
    engine: str,
    precision: str,
    calibration: tuple[str, ...] | None,
    decoder: str,
    guidance_interval: tuple[float, float],
    deepcache_interval: int,
    static_shapes: bool | None,
    inference_precision: str,
    revision: str | None,
    name: str | None,
    license: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Turn a diffusion model into a folder that an endpoint can serve.

    SOURCE is a name from `lambdiff models`, a hub id, or a folder that diffusers saved.

    \b
    lambdiff bake tiny-sd -o tiny-sd --precision int8 --decoder tiny
    LAMBDIFF_MODEL_DIR=tiny-sd lambdiff generate "a cat in a top hat" --local -o cat.png
    """
    from lambdiff.bake import bake as baking

    manifest = baking.bake(
        source,
        output,
        force=force,
        progress=lambda text: click.echo(text, err=True),
        engine=engine,
        precision=precision,
        calibration=calibration,
        decoder=decoder,
        guidance_interval=guidance_interval,
        deepcache_interval=deepcache_interval,
        static_shapes=static_shapes,
        inference_precision=inference_precision,
        revision=revision,
        name=name,
        license=license,
    )
    if as_json:
        echo_json(manifest)
    else:
        size = sum(file.size for file in manifest.files)
        click.echo(f"{output}: {manifest.name}, {manifest.engine}, {manifest.precision}, {size / 1e6:,.1f} MB")

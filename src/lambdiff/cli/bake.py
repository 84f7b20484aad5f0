"""`lambdiff bake`: convert a diffusion model to a folder that an endpoint can serve."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from lambdiff.bake.parameters import DefaultOverrides, EmbeddingFile, LoraFile, Precision, Prediction
from lambdiff.cli import completion, echo_json
from lambdiff.cli.inputs import decode
from lambdiff.cli.options import json_option, prompt_syntax_option, scheduler_option, sigma_schedule_option
from lambdiff.cli.value_types import NamedFile, Size, Value, WeightedFile, number, whole
from lambdiff.engine.manifest import EngineName, InferencePrecision
from lambdiff.printable import printable
from lambdiff.protocol import contract
from lambdiff.protocol.contract import PromptSyntax, SchedulerName, SigmaSchedule


def _read_prompts(_context: click.Context, _parameter: click.Parameter, file: Path | None) -> tuple[str, ...] | None:
    """Return the lines of a file that are not empty."""
    if file is None:
        return None
    try:
        text = decode(file.read_bytes(), str(file))
    except OSError as error:
        raise click.BadParameter(f"{file} cannot be read: {error.strerror}.") from None
    return tuple(filter(None, map(str.strip, text.splitlines())))


@click.command()
@click.argument("source", shell_complete=completion.models)
@click.option(
    "-o", "--output", required=True, metavar="FOLDER", type=click.Path(path_type=Path), help="Folder to create."
)
@click.option(
    "--engine",
    type=Value(EngineName),
    default="openvino",
    show_default=True,
    help="Engine that will run the model; diffusers keeps the original files.",
)
@click.option(
    "--precision",
    type=Value(Precision),
    default="auto",
    show_default=True,
    help="Format of the weights; auto means f16. w8a8 also computes the UNet with 8-bit activations, and fails if that "
    "changes images too much.",
)
@click.option(
    "--calibration",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_read_prompts,
    metavar="FILE",
    help="For w8a8: a text file of typical prompts, one per line, at least 8.",
)
@click.option(
    "--decoder",
    default="full",
    show_default=True,
    metavar="full|tiny|FOLDER",
    help="Decoder: the model's own, TAESD or TAESDXL (faster, slightly softer images), or an AutoencoderTiny's folder.",
)
@click.option(
    "--guidance-interval",
    type=(number(0, 1), number(0, 1)),
    metavar="FROM TO",
    default=(0.0, 1.0),
    show_default=True,
    help="Fraction of the steps that use guidance, for example `0 0.6`; the other steps take half the time.",
)
@click.option(
    "--deepcache",
    "deepcache_interval",
    type=whole(1, 100),
    default=1,
    metavar="N",
    show_default=True,
    help="Run the whole UNet only on every Nth step (DeepCache); meant for 20 steps or more.",
)
@click.option(
    "--static-shapes/--dynamic-shapes",
    default=None,
    help="Compile for the default image size: faster at that size, slower if sizes alternate. On by default, except "
    "with w8a8 or a guidance interval.",
)
@click.option(
    "--inference-precision",
    type=Value(InferencePrecision),
    default="auto",
    show_default=True,
    help="Arithmetic: bf16 if the processor supports it, or always f32.",
)
@click.option(
    "--winograd/--no-winograd",
    default=True,
    show_default=True,
    help="In f32, compute convolutions with fewer multiplications, as far as there is memory.",
)
@click.option(
    "--steps", "--num-inference-steps", "num_inference_steps", type=Value(contract.Steps), metavar="N",
    help="Denoising steps of requests that do not say.  [default: the model's]",
)  # fmt: skip
@click.option(
    "--guidance", "--guidance-scale", "guidance_scale", type=Value(contract.Guidance), metavar="SCALE",
    help="Guidance scale of requests that do not say.  [default: the model's]",
)  # fmt: skip
@click.option("--size", type=Size(), metavar="WxH", help="Size of requests that do not say.  [default: the model's]")
@scheduler_option
@sigma_schedule_option
@prompt_syntax_option
@click.option(
    "--prediction",
    type=Value(Prediction),
    help="What the UNet of a one-file checkpoint predicts, if the file does not say: the noise (epsilon) or v.",
)
@click.option(
    "--image-to-image/--no-image-to-image",
    default=None,
    help="Whether requests may have a start image and a mask, for which an image encoder is added.  [default: yes]",
)
@click.option(
    "--lora",
    "loras",
    multiple=True,
    type=WeightedFile(),
    metavar="FILE[:WEIGHT]",
    help="Merge a LoRA into the weights; repeatable. The weight is 1 by default.",
)
@click.option(
    "--embedding",
    "embeddings",
    multiple=True,
    type=NamedFile(),
    metavar="[NAME=]FILE",
    help="Add a textual inversion embedding; repeatable. NAME stands for it in prompts.  [default: the file's name]",
)
@click.option("--revision", metavar="COMMIT", help="Commit on the hub; required for models outside the catalogue.")
@click.option(
    "--name",
    metavar="NAME",
    help="Name of the model in replies.  [default: the catalogue's, the folder's or the file's]",
)
@click.option("--license", metavar="LICENSE", help="License of the weights, for a model outside the catalogue.")
@click.option("--force", is_flag=True, help="Replace the output folder if it is a baked model.")
@json_option
def bake(
    source: str,
    output: Path,
    *,
    engine: EngineName,
    precision: Precision,
    calibration: tuple[str, ...] | None,
    decoder: str,
    guidance_interval: tuple[float, float],
    deepcache_interval: int,
    static_shapes: bool | None,
    inference_precision: InferencePrecision,
    winograd: bool,
    num_inference_steps: int | None,
    guidance_scale: float | None,
    size: tuple[int, int] | None,
    scheduler: SchedulerName | None,
    sigma_schedule: SigmaSchedule | None,
    prompt_syntax: PromptSyntax | None,
    prediction: Prediction | None,
    image_to_image: bool | None,
    loras: tuple[LoraFile, ...],
    embeddings: tuple[EmbeddingFile, ...],
    revision: str | None,
    name: str | None,
    license: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Convert a diffusion model to a folder that an endpoint can serve.

    SOURCE is a name from `lambdiff models`, a model id on the Hugging Face hub, a folder saved by diffusers, or one
    .safetensors file with a checkpoint of Stable Diffusion 1, 2 or XL. Each part is converted and compared with the
    original. The folder can be passed to `lambdiff deploy --model` and to `lambdiff generate --local --model-dir`.

    Examples:

    \b
        lambdiff bake tiny-sd -o tiny-sd --precision int8 --decoder tiny
        lambdiff bake ./my-pipeline -o my-model --license MIT --steps 20 --scheduler "DPM++ 2M Karras"
        lambdiff bake dreamshaper.safetensors --lora detail.safetensors:0.7 -o my-model
        lambdiff bake owner/model --revision 0123abc -o model
    """
    from lambdiff.bake import bake as baking

    width, height = size or (None, None)
    given = {
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "width": width,
        "height": height,
        "scheduler": scheduler,
        "sigma_schedule": sigma_schedule,
        "prompt_syntax": prompt_syntax,
    }
    manifest = baking.bake(
        source,
        output,
        engine=engine,
        precision=precision,
        calibration=calibration,
        decoder=decoder,
        guidance_interval=guidance_interval,
        deepcache_interval=deepcache_interval,
        static_shapes=static_shapes,
        inference_precision=inference_precision,
        winograd=winograd,
        defaults=cast(DefaultOverrides, {key: value for key, value in given.items() if value is not None}),
        prediction=prediction,
        image_to_image=image_to_image,
        loras=loras,
        embeddings=embeddings,
        revision=revision,
        name=name,
        license=license,
        force=force,
        progress=lambda message: click.echo(printable(message), err=True),
    )
    if as_json:
        echo_json(manifest)
    else:
        total = sum(file.size for file in manifest.files)
        click.echo(f"{output}: {manifest.name}, {manifest.engine}, {manifest.precision}, {total / 1e6:,.1f} MB")

"""`lambdiff generate`: a prompt in, an image file (or bytes on stdout) out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lambdiff.cli import completion, output
from lambdiff.cli.inputs import in_unicode, parameters_of, read_picture, read_prompt
from lambdiff.cli.options import (
    endpoint_options,
    force_option,
    guidance_option,
    json_option,
    local_option,
    model_dir_option,
    negative_option,
    prompt_syntax_option,
    scheduler_option,
    sigma_schedule_option,
    size_option,
    steps_option,
    strength_option,
)
from lambdiff.cli.progress import Progress, bar
from lambdiff.cli.results import Results
from lambdiff.cli.text import no_deployment
from lambdiff.cli.value_types import Value, whole
from lambdiff.client.batch import Failure
from lambdiff.client.client import Client
from lambdiff.client.image import GeneratedImage
from lambdiff.client.parameters import build_request, consecutive_seeds
from lambdiff.client.pictures import encode_pictures
from lambdiff.client.progress import expected_load_seconds, expected_seconds, remember_image
from lambdiff.protocol import contract

_MAX_IMAGES = 1_000


@click.command()
@click.argument("prompt", required=False)
@click.option(
    "-o", "--output", "out", metavar="FILE", shell_complete=completion.files,
    help="File to write, such as cat.png or cat-{seed}.webp; - for stdout.  [default: named after the prompt]",
)  # fmt: skip
@negative_option
@steps_option
@guidance_option
@size_option
@click.option(
    "--width", type=Value(contract.Pixels), metavar="PIXELS", help="Width, a multiple of 8.  [default: the model's]"
)
@click.option(
    "--height", type=Value(contract.Pixels), metavar="PIXELS", help="Height, a multiple of 8.  [default: the model's]"
)
@click.option(
    "--seed", type=Value(contract.Seed), metavar="N",
    help="0 to 4294967295; the same seed gives the same image.  [default: random]",
)  # fmt: skip
@scheduler_option
@sigma_schedule_option
@prompt_syntax_option
@click.option(
    "--image", metavar="FILE", shell_complete=completion.files,
    help="Start image to change towards the prompt: a PNG, JPEG or WebP file; - reads it from stdin.",
)  # fmt: skip
@strength_option
@click.option(
    "--mask", metavar="FILE", shell_complete=completion.files,
    help="Picture in which the part of the start image that is redrawn is white.",
)  # fmt: skip
@click.option(
    "--format", "image_format", type=Value(contract.ImageFormat),
    help="File format.  [default: by the suffix of -o, otherwise png]",
)  # fmt: skip
@click.option(
    "-n", "--count", default=1, show_default=True, type=whole(1, _MAX_IMAGES), metavar="N",
    help="Number of images, with the seeds SEED, SEED+1, ...; 0 follows 4294967295.",
)  # fmt: skip
@click.option(
    "--workers", default=8, show_default=True, type=whole(1, 256), metavar="N",
    help="Concurrent requests with -n.",
)  # fmt: skip
@click.option(
    "--like", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Reuse the parameters stored in this image; other options override them.",
)  # fmt: skip
@force_option
@click.option("--open", "open_it", is_flag=True, help="Open the first image in the system's viewer.")
@local_option
@model_dir_option
@click.option("--quiet", "-q", is_flag=True, help="Show neither progress nor notes.")
@endpoint_options
@json_option
def generate(
    prompt: str | None, out: str | None, size: tuple[int, int] | None, count: int, workers: int, like: Path | None,
    force: bool, open_it: bool, local: bool, model_dir: Path | None, quiet: bool, url: str | None, region: str | None,
    profile: str | None, deployment: str | None, as_json: bool, **parameters: Any,
) -> int:  # fmt: skip
    """Generate an image from a prompt.

    PROMPT describes the image; - reads it from stdin. Without a deployment, the built-in model generates the image on
    this machine.

    Examples:

    \b
        lambdiff generate "a cat in a top hat" -o cat.png
        lambdiff generate "a fox" -n 4 --seed 7 -o "fox-{seed}.webp"
        lambdiff generate --like cat.png --steps 20 -o again.png
        lambdiff generate "a cat in the snow" --image cat.jpg --strength 0.6 -o snow.png
        echo "a red apple" | lambdiff generate - -o - > apple.png
    """
    if out == "-" and (as_json or open_it or count > 1):
        raise click.UsageError("-o - writes a single image to stdout: omit --json, --open and -n.")
    out = output.check_target(out, force=force)
    request = _complete(_request(prompt, size, like, parameters, quiet=quiet), out)
    seeds = consecutive_seeds(request["seed"], count)
    plan = output.OutputPlan(out, request["prompt"], request["image_format"], count, force=force)
    plan.check(seeds)
    results = Results(plan, seeds)
    with Client(
        url, region=region, deployment=deployment, profile=profile, local=local, model_dir=model_dir, load=True
    ) as client:
        if client.endpoint.local and not (local or model_dir or quiet):
            click.echo(no_deployment(), err=True)
        try:
            _generate(client, request, count, workers, results, quiet=quiet)
        except KeyboardInterrupt:
            results.print(client.endpoint, as_json=as_json)
            raise
        results.print_messages(quiet=quiet)
        results.print(client.endpoint, as_json=as_json)
    if open_it and results.first_file:
        output.open_in_viewer(results.first_file)
    return results.exit_code


def _request(
    argument: str | None, size: tuple[int, int] | None, like: Path | None, options: dict[str, Any], *, quiet: bool
) -> dict[str, Any]:
    """The given parameters: options override the parameters stored in the image of --like."""
    prompt, stdin_is_prompt = read_prompt(argument), argument == "-"
    given = {name: value for name, value in options.items() if value is not None}
    if "negative_prompt" in given:
        given["negative_prompt"] = in_unicode(given["negative_prompt"])
    if size:
        if "width" in given or "height" in given:
            raise click.UsageError("Give either --size or --width and --height.")
        given["width"], given["height"] = size
    if prompt is not None:
        given["prompt"] = prompt
    if "image" in given:
        given["image"] = read_picture(given["image"], stdin_is_prompt=stdin_is_prompt)
    if like:
        stored = parameters_of(like, given, quiet=quiet)
        if given.get("scheduler", stored.get("scheduler")) != stored.get("scheduler"):
            stored.pop("sigma_schedule", None)  # belongs to the other sampler
        given = {**stored, **given}
    if "prompt" not in given:
        raise click.UsageError('The prompt is missing. Example: lambdiff generate "a cat in a top hat" -o cat.png')
    return encode_pictures(given)


def _complete(request: dict[str, Any], out: str | None) -> dict[str, Any]:
    """The request with format and seed, validated.

    The seed is chosen here rather than by the endpoint, so that all file names can be checked before anything is
    billed.
    """
    image_format = output.choose_format(out, request.get("image_format"))
    (seed,) = consecutive_seeds(None, 1)
    request = {"seed": seed, **request, "image_format": image_format}
    build_request(**request)
    return request


def _generate(
    client: Client, request: dict[str, Any], count: int, workers: int, results: Results, *, quiet: bool
) -> None:
    """Generate the images and add each to `results` as it arrives."""
    url, local = client.transport.url, client.endpoint.local
    pixels = request["width"] * request["height"] if {"width", "height"} <= request.keys() else None
    expected = expected_seconds(url, steps=request.get("num_inference_steps"), pixels=pixels)
    # This process has to load the model; whether Lambda has to is unknown.
    startup = expected_load_seconds(url) if local else 0.0
    shown = Progress(client.transport, count, expected=expected, startup=startup, parallel=1 if local else workers)

    def on_result(index: int, result: GeneratedImage | Failure) -> None:
        shown.advance()
        results.add_any(index, result)
        if isinstance(result, GeneratedImage):
            remember_image(url, result)

    with bar(shown, show=not quiet):
        if count == 1:
            image = client.generate(**request)
            results.add(0, image)
            remember_image(url, image)
        else:
            prompt: Any = request
            client.generate_many([prompt], n=count, max_workers=workers, on_result=on_result)

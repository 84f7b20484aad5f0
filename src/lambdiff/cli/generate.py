"""`lambdiff generate`: a prompt in, a file (or bytes on stdout) out."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Any, get_args

import click

from lambdiff.cli import echo_json, output, progress
from lambdiff.cli.options import Size, endpoint_options, json_option
from lambdiff.client.batch import Failure
from lambdiff.client.client import Client
from lambdiff.client.image import GeneratedImage
from lambdiff.client.progress import expected_seconds, remember_seconds
from lambdiff.errors import LambdiffError
from lambdiff.protocol import contract

_MAX_IMAGES = 1_000


@click.command()
@click.argument("prompt", required=False)
@click.option(
    "-o",
    "--output",
    "out",
    metavar="FILE",
    help="cat.png, cat-{seed}.webp, or - for stdout. Default: named after the prompt.",
)
@click.option(
    "--negative", "--negative-prompt", "negative_prompt", metavar="TEXT", help="What to keep out of the picture."
)
@click.option("--steps", "--num-inference-steps", "num_inference_steps", type=int, help="Denoising steps, 1..100.")
@click.option(
    "--guidance", "--guidance-scale", "guidance_scale", type=float, help="0..30; 1 or less: no guidance, half the work."
)
@click.option("--size", type=Size(), help="Width and height, such as 512x512.")
@click.option("--width", type=int, help="Pixels, a multiple of 8.")
@click.option("--height", type=int, help="Pixels, a multiple of 8.")
@click.option("--seed", type=int, help="0..4294967295; the same seed gives the same picture.")
@click.option("--scheduler", type=click.Choice(get_args(contract.SchedulerName)), help="The sampler.")
@click.option(
    "--format",
    "image_format",
    type=click.Choice(get_args(contract.ImageFormat)),
    help="Default: by the suffix of -o, else png.",
)
@click.option(
    "-n", "--count", default=1, type=click.IntRange(1, _MAX_IMAGES), help="Pictures, with seeds SEED..SEED+N-1."
)
@click.option(
    "--workers", default=8, type=click.IntRange(1, 256), show_default=True, help="Calls side by side with -n."
)
@click.option(
    "--like",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Repeat the parameters inside this picture.",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option("--open", "open_it", is_flag=True, help="Show the picture when it is there.")
@click.option("--local", is_flag=True, help="Draw on this machine.")
@click.option(
    "--model-dir", type=click.Path(path_type=Path), help="With --local: a baked model folder (LAMBDIFF_MODEL_DIR)."
)
@click.option("--quiet", "-q", is_flag=True, help="No progress, no notes.")
@endpoint_options
@json_option
def generate(
    prompt: str | None, out: str | None, size: tuple[int, int] | None, count: int, workers: int, like: Path | None,
    force: bool, open_it: bool, local: bool, model_dir: Path | None, quiet: bool, url: str | None, region: str | None,
    profile: str | None, deployment: str | None, as_json: bool, **parameters: Any,
) -> int:  # fmt: skip
    """Make a picture from PROMPT (- reads it from stdin).

    \b
    lambdiff generate "a cat in a top hat" -o cat.png
    lambdiff generate "a fox" -n 4 --seed 7 -o "fox-{seed}.webp"
    lambdiff generate --like cat.png -o again.png
    echo "a red apple" | lambdiff generate - -o - > apple.png
    """
    if out == "-" and (as_json or open_it or count > 1):
        raise click.UsageError("-o - is one picture's bytes on stdout: leave out --json, --open and -n.")
    request = _request(prompt, size, like, parameters)
    request["image_format"] = output.choose_format(out, request.get("image_format"))
    # Drawn here and not by the endpoint, so that every file's name can be checked before anything is paid for.
    request.setdefault("seed", secrets.randbelow(contract.MAX_SEED + 2 - count))
    contract.GenerateRequest.from_fields(request)
    if request["seed"] + count - 1 > contract.MAX_SEED:
        raise click.UsageError(f"With -n {count} the last seed would be over {contract.MAX_SEED}.")
    plan = output.OutputPlan(out, request["prompt"], request["image_format"], count, force=force)
    plan.check([request["seed"] + i for i in range(count)])

    def talk(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    with Client(url, region=region, deployment=deployment, profile=profile, local=local, model_dir=model_dir) as client:
        if client.endpoint.local and not local:
            talk("No deployment is configured: drawing with the built-in model on this machine.")
        made: dict[int, dict[str, Any]] = {}
        failed: dict[int, dict[str, Any]] = {}

        def report() -> None:
            images, failures = ([found[i] for i in sorted(found)] for found in (made, failed))
            if as_json:
                echo_json({"images": images, "failures": failures, **client.endpoint.describe()})
            elif not plan.stdout:
                for image in images:
                    click.echo(image["file"])

        try:
            _draw(client, request, count, workers, plan, quiet, talk, made, failed)
        except KeyboardInterrupt:
            report()
            raise
    report()
    if open_it and made:
        click.launch(made[min(made)]["file"])
    return max((failure["exit_code"] for failure in failed.values()), default=0)


def _request(
    prompt: str | None, size: tuple[int, int] | None, like: Path | None, flags: dict[str, Any]
) -> dict[str, Any]:
    """The request's fields: those inside the picture that `--like` names, below those of the flags."""
    given = {name: value for name, value in flags.items() if value is not None}
    if size:
        if "width" in given or "height" in given:
            raise click.UsageError("Give either --size or --width and --height.")
        given["width"], given["height"] = size
    if prompt == "-":
        prompt = sys.stdin.buffer.read(contract.MAX_BODY).decode("utf-8", "replace").strip()
    if prompt is not None:
        given["prompt"] = prompt
    if like:
        import msgspec

        from lambdiff.protocol import metadata

        recorded = msgspec.structs.asdict(metadata.read(like).request)
        recorded.pop("image_format")  # the name of the new file decides
        given = {**{name: value for name, value in recorded.items() if value is not None}, **given}
    if "prompt" not in given:
        raise click.UsageError('There is no prompt. Example: lambdiff generate "a cat in a top hat" -o cat.png')
    return given


def _draw(
    client: Client, request: dict[str, Any], count: int, workers: int, plan: output.OutputPlan, quiet: bool, talk: Any,
    made: dict[int, dict[str, Any]], failed: dict[int, dict[str, Any]],
) -> None:  # fmt: skip
    """Make the pictures and write each as it comes; `made` and `failed` get a report of each, by its number."""
    notes: dict[str, None] = {}
    where = client.transport.url

    def keep(index: int, image: GeneratedImage) -> None:
        file = plan.write(image, index, request["seed"] + index)
        made[index] = {"file": file, **image.to_dict()}
        remember_seconds(where, image.timings["total"])
        notes.update(dict.fromkeys(f"Note: {warning}" for warning in image.warnings))

    with progress.terminal(expected_seconds(where), count, show=False if quiet else None) as bar:
        if count == 1:
            keep(0, client.generate(**request, on_step=bar.on_step))
        else:

            def on_result(index: int, result: GeneratedImage | Failure) -> None:
                bar.advance()
                try:
                    if isinstance(result, Failure):
                        raise result.error
                    keep(index, result)
                except LambdiffError as error:
                    failed[index] = {
                        "seed": request["seed"] + index,
                        "error": error.message,
                        "fix": error.fix,
                        "exit_code": error.exit_code,
                    }

            requests: list[Any] = [{**request, "seed": request["seed"] + i} for i in range(count)]
            client.generate_many(requests, max_workers=workers, on_result=on_result)
    # Below the bar, not across it, and each once.
    for note in notes:
        talk(note)
    for failure in failed.values():
        click.echo(f"Error: seed {failure['seed']}: {failure['error']}\n  {failure['fix']}", err=True)

"""`lambdiff batch`: a file of prompts in, a folder of images out; run again, it makes what is missing."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from lambdiff.batches.cloud_plan import MaxCost
from lambdiff.cli import completion, echo_json
from lambdiff.cli.batch_runs import WithRunCommands, download
from lambdiff.cli.flags import with_flags
from lambdiff.cli.inputs import in_unicode
from lambdiff.cli.options import (
    endpoint_options,
    guidance_option,
    json_option,
    local_option,
    make_confirm,
    model_dir_option,
    negative_option,
    prompt_syntax_option,
    scheduler_option,
    sigma_schedule_option,
    size_option,
    steps_option,
    strength_option,
    yes_option,
)
from lambdiff.cli.progress import Progress, bar
from lambdiff.cli.text import no_deployment
from lambdiff.cli.value_types import Value, whole
from lambdiff.printable import printable
from lambdiff.protocol import contract

if TYPE_CHECKING:
    from lambdiff.batches.run import BatchRun

_MAX_SHOWN: Final = 10
"""How many failures and warnings are printed; all of them are in `results.jsonl`."""


@click.command(cls=WithRunCommands)
@click.argument("prompts", shell_complete=completion.files)
@click.option(
    "-o", "--output", metavar="FOLDER", shell_complete=completion.files,
    help="Folder to fill; in AWS, may be left out.",
)  # fmt: skip
@click.option(
    "--where", type=Value(Literal["endpoint", "aws"]), default="endpoint", show_default=True,
    help="What makes the images: this machine or the Function URL, or a run in AWS with a deployment's --batch.",
)  # fmt: skip
@click.option(
    "--max-cost", type=Value(MaxCost), metavar="USD",
    help="In AWS: the most that the run may cost whatever happens; rows that do not fit are left for another run.",
)  # fmt: skip
@click.option("--run", "run_id", metavar="NAME", help="In AWS: name of the run.  [default: begins with the time]")
@click.option(
    "-n", "--n", "count", default=1, show_default=True, type=whole(1, 10_000), metavar="N",
    help="Images of each prompt, with the seeds SEED, SEED+1, ...",
)  # fmt: skip
@click.option(
    "--file-format", type=Value(Literal["jsonl", "csv", "tsv", "text"]),
    help="How PROMPTS is written; text has one prompt a line.  [default: by its suffix; text for -]",
)  # fmt: skip
@click.option("--alternatives", is_flag=True, help="Generate every combination of {a|b|c} in prompts.")
@click.option(
    "--carry", multiple=True, metavar="COLUMN", help="Column to carry along although it resembles a parameter."
)
@click.option("--sheet", is_flag=True, help="Make a contact sheet at the end: sheet-1.png, ...")
@click.option("--parquet", is_flag=True, help="Write results.parquet, too, at the end.")
@negative_option
@steps_option
@guidance_option
@size_option
@click.option(
    "--seed", type=Value(contract.Seed), metavar="N",
    help="Seed of rows without one.  [default: follows from the row, so that it is the same in the next run]",
)  # fmt: skip
@scheduler_option
@sigma_schedule_option
@prompt_syntax_option
@strength_option
@click.option(
    "--format", "image_format", type=Value(contract.ImageFormat), default="png", show_default=True, help="File format."
)
@click.option(
    "--workers", "max_workers", type=whole(1, 10_000), metavar="N",
    help="The most requests at once; adapts to what the endpoint accepts.  [default: 64; in AWS, what the account has "
    "free]",
)  # fmt: skip
@click.option(
    "--retries", default=0, show_default=True, type=whole(0, 10), metavar="N",
    help="Generate an image again that the endpoint has lost, which may be billed again.",
)  # fmt: skip
@local_option
@model_dir_option
@click.option("--quiet", "-q", is_flag=True, help="Show neither progress nor notes.")
@endpoint_options
@yes_option
@json_option
def batch(
    prompts: str, output: str | None, where: str, max_cost: float | None, run_id: str | None, yes: bool, count: int,
    file_format: Any, carry: tuple[str, ...], size: tuple[int, int] | None, max_workers: int | None, quiet: bool,
    as_json: bool, negative_prompt: str | None, **options: Any,
) -> int:  # fmt: skip
    """Generate the images of many prompts into a folder.

    PROMPTS is a file, or - for stdin. A .jsonl file has one JSON object a line, a .csv or .tsv file has columns, and a
    .txt file has one prompt a line. Any parameter can be a column; other columns are carried along into results.jsonl.
    Everything is checked before anything is generated.

    The same command again makes what is missing, and nothing else: after Ctrl-C, a crash, or failed rows.

    With --where aws, the plan and its price are shown first. The run goes on without this machine; `lambdiff batch
    status RUN`, `lambdiff batch results RUN` and `lambdiff batch cancel RUN` follow it from any machine.

    Examples:

    \b
        lambdiff batch prompts.csv -o images
        lambdiff batch prompts.txt -o images -n 4 --steps 8 --sheet
        lambdiff batch prompts.csv -o images --where aws --max-cost 20
        lambdiff batch status 20261201-093000-1a2b3c
        echo "a {red|green} {cat|dog}" | lambdiff batch - -o images --alternatives
    """
    from lambdiff.batches.api import batch as start

    if size:
        options["width"], options["height"] = size
    if negative_prompt is not None:
        negative_prompt = in_unicode(negative_prompt)
    if where == "aws":
        with _file(prompts) as path, _checking(quiet=quiet) as on_check:
            return _in_aws(
                path, output, n=count, file_format=file_format or ("text" if prompts == "-" else None), carry=carry,
                max_cost=max_cost, concurrency=max_workers, negative_prompt=negative_prompt, on_check=on_check,
                run_id=run_id, yes=yes, as_json=as_json, **options,
            )  # fmt: skip
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'.")
    if max_cost is not None or run_id is not None:
        raise click.UsageError("--max-cost and --run require --where aws.")
    with _file(prompts) as path, _checking(quiet=quiet) as on_check:
        run = start(
            path, output, n=count, file_format=file_format or ("text" if prompts == "-" else None), carry=carry,
            max_workers=max_workers, negative_prompt=negative_prompt, on_check=on_check, **options,
        )  # fmt: skip
        if run.client.endpoint.local and not (options["local"] or options["model_dir"] or quiet):
            click.echo(no_deployment(), err=True)
        return _follow(run, quiet=quiet, as_json=as_json)


def _in_aws(
    path: Path, output: str | None, *, run_id: str | None, yes: bool, as_json: bool, local: bool, model_dir: Any,
    url: str | None, region: str | None, sheet: bool, parquet: bool, retries: int, **options: Any,
) -> int:  # fmt: skip
    """Plan a run in AWS, ask, start it, and download its images if there is a folder."""
    from lambdiff.batches import cloud_api

    given = {
        "--local": local, "--model-dir": model_dir, "--url": url, "--region": region, "--sheet": sheet,
        "--parquet": parquet, "--retries": retries,
    }  # fmt: skip
    if wrong := [flag for flag, value in given.items() if value]:
        raise click.UsageError(f"{' and '.join(wrong)} cannot be combined with --where aws.")
    batch = cloud_api.prepare(path, output, **options)
    plan = batch.prepared.plan
    if plan.images and not make_confirm(yes=yes, as_json=as_json)(f"{plan.summary} Start?"):
        click.echo("Nothing was started.", err=True)
        return 130
    described = batch.start(run_id)
    click.echo(f"Run {described.run}: {plan.images:,} images.", err=True)
    if output is None:
        if as_json:
            echo_json(described)
        else:
            click.echo(described.run)
        click.echo(f"Next: lambdiff batch status {described.run}", err=True)
        return 0
    try:
        return download(batch.target, described.run, Path(output).expanduser(), wait=True, as_json=as_json)
    except KeyboardInterrupt:
        click.echo(
            f"The run goes on in AWS. Stop it with `lambdiff batch cancel {described.run}`, or get its images with "
            f"`lambdiff batch results {described.run} -o {output} --wait`.",
            err=True,
        )
        raise


@contextlib.contextmanager
def _file(argument: str) -> Iterator[Path]:
    """Yield the path of the file; what comes through stdin is stored first, because it is read twice."""
    if argument != "-":
        yield Path(argument).expanduser()
        return
    if sys.__stdin__ is None:
        raise click.UsageError("The prompts cannot be read: stdin is closed.")
    import tempfile

    from lambdiff.temporary import create, temporary_path

    with temporary_path(Path(tempfile.gettempdir()), "lambdiff-prompts-") as path:
        with create(path) as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream)
        yield path


@contextlib.contextmanager
def _checking(*, quiet: bool) -> Iterator[Any]:
    """Yield a function that shows how many rows have been checked, for files that take a while."""
    from lambdiff import terminal

    show_at = time.monotonic() + 1.0
    show = not quiet and terminal.can_redraw(sys.stderr)

    def on_check(rows: int) -> None:
        nonlocal show_at
        if show and time.monotonic() >= show_at:
            click.echo(f"\rchecked {rows:,} rows", nl=False, err=True)
            show_at = time.monotonic() + 0.2

    yield on_check


def _follow(run: BatchRun, *, quiet: bool, as_json: bool) -> int:
    warnings: dict[str, None] = {}
    failures: list[str] = []
    codes = {0}
    made = there = 0
    seconds, dollars = time.monotonic(), 0.0
    shown = Progress(run.client.transport, run.total, parallel=1 if run.client.endpoint.local else 4)
    try:
        with bar(shown, show=not quiet):
            for line in run:
                shown.advance()
                warnings.update(dict.fromkeys(line.warnings))
                made += line.file is not None and line.seconds is not None
                there += line.file is not None and line.seconds is None
                dollars += line.cost or 0.0
                if line.error:
                    codes.add(line.error.exit_code)
                    failures.append(f"line {line.line}: {line.error.message}")
    except BaseException:
        run.cancel()
        if not quiet:
            click.echo(
                f"{run.finished:,} of {run.total:,} done. Run the same command again to make the rest.", err=True
            )
        raise
    if not quiet:
        _print_some("Note", list(warnings))
    _print_some("Error", failures)
    summary = {
        "images": run.total - len(failures),
        "generated": made,
        "already_there": there,
        "failed": len(failures),
        "seconds": round(time.monotonic() - seconds, 1),
        "cost": round(dollars, 6) if dollars else None,
        "folder": str(run.folder.path),
    }
    if as_json:
        echo_json(summary)
    elif not quiet:
        cost = f", about ${dollars:.4f}" if dollars else ""
        counted = f"{made:,} generated, {there:,} already there, {len(failures):,} failed"
        click.echo(f"{counted} in {summary['seconds']:.0f} s{cost}.", err=True)
    if not as_json:
        click.echo(str(run.folder.path))
    return max(codes)


def _print_some(kind: str, texts: list[str]) -> None:
    for text in texts[:_MAX_SHOWN]:
        click.echo(f"{kind}: {printable(with_flags(text))}", err=True)
    if len(texts) > _MAX_SHOWN:
        click.echo(f"... and {len(texts) - _MAX_SHOWN:,} more in results.jsonl", err=True)

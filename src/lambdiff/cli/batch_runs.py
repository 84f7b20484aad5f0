"""`lambdiff batch status`, `results` and `cancel`: runs in AWS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option, stack_options
from lambdiff.printable import printable

if TYPE_CHECKING:
    from lambdiff.batches.cloud_progress import RunStatus
    from lambdiff.batches.cloud_run import CloudTarget

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_STATES: Final = (5, {"failed", "timed_out"})
"""The exit code for runs that have ended in one of these states."""

_wait_option = click.option("--wait", is_flag=True, help="Wait until the run has ended.")


@click.command()
@click.argument("run")
@_wait_option
@stack_options
@json_option
def status(run: str, deployment: str | None, profile: str | None, *, wait: bool, as_json: bool) -> int:
    """Show how far a run in AWS is.

    Exits with code 5 if it has failed.

    Examples:

    \b
        lambdiff batch status 20261201-093000-1a2b3c
    """
    from lambdiff.batches import cloud_progress

    target = _target(deployment, profile)
    found = cloud_progress.follow(target, run, say) if wait else cloud_progress.read_status(target, run)
    return _show(found, as_json=as_json)


@click.command()
@click.argument("run")
@click.option("-o", "--output", metavar="FOLDER", help="Folder to download the images into, with results.jsonl.")
@click.option(
    "--links", metavar="DURATION",
    help="Print links with which anybody can open the images until they expire: 30m, 24h, at most 7d.",
)  # fmt: skip
@_wait_option
@stack_options
@json_option
def results(
    run: str, output: str | None, links: str | None, deployment: str | None, profile: str | None, *, wait: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Print or download the results of a run in AWS.

    Without --output, one line of JSON for each row. With --output, images are downloaded, with --wait as they come.

    Examples:

    \b
        lambdiff batch results 20261201-093000-1a2b3c -o images --wait
        lambdiff batch results 20261201-093000-1a2b3c --links 24h
    """
    from lambdiff.batches import cloud_progress, cloud_results

    if output and links:
        raise click.UsageError("--links and --output cannot be combined.")
    seconds = _seconds(links) if links else None
    target = _target(deployment, profile)
    if output:
        return download(target, run, Path(output).expanduser(), wait=wait, as_json=as_json)
    found = cloud_progress.follow(target, run, say) if wait else cloud_progress.read_status(target, run)
    lines = cloud_results.read_results(target, run)
    if seconds:
        lines = cloud_results.with_links(target, lines, seconds)
    if as_json:
        echo_json(list(lines))
    else:
        for line in lines:
            _echo_line(line)
    return _code(found)


@click.command()
@click.argument("run")
@stack_options
@json_option
def cancel(run: str, deployment: str | None, profile: str | None, *, as_json: bool) -> int:
    """Stop a run in AWS.

    Calls that have begun end by themselves and are billed; their images are kept. Another run makes the rest.

    Examples:

    \b
        lambdiff batch cancel 20261201-093000-1a2b3c
    """
    from lambdiff.batches import cloud_progress

    return _show(cloud_progress.cancel(_target(deployment, profile), run), as_json=as_json)


RUN_COMMANDS: Final[dict[str, click.Command]] = {"status": status, "results": results, "cancel": cancel}


class WithRunCommands(click.Command):
    """A command whose first argument may be one of the commands for runs."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of the command that the first argument names, or else of this one."""
        command = RUN_COMMANDS.get(args[0]) if args else None
        if command is None:
            return super().make_context(info_name, args, parent, **extra)
        return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)


def download(target: CloudTarget, run: str, folder: Path, *, wait: bool, as_json: bool) -> int:
    """Download the images of a run; return the exit code."""
    from lambdiff.batches import cloud_folder
    from lambdiff.batches.results_folder import ResultsFolder

    results_folder = ResultsFolder(folder)
    try:
        found, lines = cloud_folder.collect(target, run, results_folder, wait=wait, tell=say)
    finally:
        results_folder.close()
    failures = [line for line in lines if line.error]
    for warning in dict.fromkeys(warning for line in lines for warning in line.warnings):
        click.echo(f"Note: {printable(warning)}", err=True)
    click.echo(f"{len(lines) - len(failures):,} images, {len(failures):,} failed. {_spent(found)}.", err=True)
    if as_json:
        echo_json(found)
    else:
        click.echo(str(folder))
    return _code(found) or (5 if failures else 0)


def say(found: RunStatus) -> None:
    """Print the progress of a run to stderr."""
    click.echo(_line(found), err=True)


def _target(deployment: str | None, profile: str | None) -> CloudTarget:
    from lambdiff.aws.deployment import select
    from lambdiff.batches import cloud_run

    return cloud_run.open_target(select(deployment, profile))


def _show(found: RunStatus, *, as_json: bool) -> int:
    if as_json:
        echo_json(found)
        return _code(found)
    click.echo(_line(found))
    reports = ", ".join(f"{count:,} {name}" for name, count in sorted(found.outcomes.items())) or "none"
    rows = {
        "reason": printable(found.reason),
        "started": found.started,
        "stopped": found.stopped or "",
        "reports": reports,
        "killed": f"{found.unreported:,} calls without a report" if found.unreported else "",
        "spent": _spent(found),
    }
    for name, text in rows.items():
        if text:
            click.echo(f"{name:<8} {text}")
    return _code(found)


def _code(found: RunStatus) -> int:
    code, states = _STATES
    return code if found.state in states else 0


def _spent(found: RunStatus) -> str:
    from lambdiff.pricing import dollars

    return f"{dollars(found.spent)} of at most {dollars(found.most)}"


def _line(found: RunStatus) -> str:
    items = ", ".join(f"{count:,} {state}" for state, count in found.items.items() if count)
    rate = f"; {found.per_minute:,.0f} a minute" if found.per_minute else ""
    left = f", {found.seconds_left / 60:,.1f} minutes left" if found.seconds_left is not None else ""
    return f"{found.run}: {found.state}, {found.images:,} images: {items or 'no items yet'}{rate}{left}"


def _echo_line(line: Any) -> None:
    import msgspec

    from lambdiff.cli.streams import to_json

    click.echo(to_json(msgspec.to_builtins(line)))


def _seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d{1,6})([smhd])", duration.strip().lower(), re.ASCII)
    if not match:
        raise click.BadParameter(f"{duration!r} is not a duration such as 30m, 24h or 7d.", param_hint="--links")
    return int(match[1]) * _UNITS[match[2]]

"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    _ParamType = click.ParamType[tuple[int, int]]
else:
    _ParamType = click.ParamType  # not generic at run time before click 8.4

F = TypeVar("F", bound=Callable[..., Any])


def endpoint_options(command: F) -> F:
    """--url, --region, --profile, --deployment: which endpoint, and who asks."""
    for option in (
        click.option("--deployment", metavar="NAME", help="A saved deployment (LAMBDIFF_DEPLOYMENT)."),
        click.option("--profile", metavar="NAME", help="The AWS profile to use (AWS_PROFILE)."),
        click.option("--region", metavar="REGION", help="The endpoint's region (LAMBDIFF_REGION)."),
        click.option("--url", metavar="URL", help="A Function URL (LAMBDIFF_URL)."),
    ):
        command = option(command)
    return command


def stack_options(command: F) -> F:
    """--deployment and --profile: of which deployment, and who asks."""
    for option in (
        click.option("--profile", metavar="NAME", help="The AWS profile to use (AWS_PROFILE)."),
        click.option("--deployment", metavar="NAME", help="A saved deployment (LAMBDIFF_DEPLOYMENT)."),
    ):
        command = option(command)
    return command


def make_confirm(*, yes: bool, as_json: bool) -> Callable[[str], bool]:
    """How a command asks: the caller, or nobody with --yes; with --json there is nobody to ask."""

    def ask(question: str) -> bool:
        if yes:
            click.echo(f"{question} yes", err=True)
            return True
        if as_json:
            raise click.UsageError("--json asks no questions; add --yes.")
        return click.confirm(question, err=True)

    return ask


def json_option(command: F) -> F:
    """--json: the report as one JSON document on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")(command)


class Size(_ParamType):
    """A size in pixels, `512x512`."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """(width, height)."""
        match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", str(value))  # noqa: RUF001 (people do write the cross)
        if not match:
            self.fail(f"{value!r} is not a size; write it like 512x512", param, ctx)
        return int(match[1]), int(match[2])

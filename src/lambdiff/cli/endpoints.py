"""`lambdiff endpoints`: list the endpoints that are saved on this machine, choose the default, or forget some."""

from __future__ import annotations

from typing import Any, Literal

import click

from lambdiff import config, environment
from lambdiff.cli import completion, echo_json
from lambdiff.cli.options import json_option
from lambdiff.cli.value_types import Value
from lambdiff.config import Deployment, Deployments


@click.command()
@click.argument("action", type=Value(Literal["list", "use", "forget"]))
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.deployments)
@json_option
def endpoints(action: str, names: tuple[str, ...], *, as_json: bool) -> None:
    """List saved endpoints, choose the default one, or forget some.

    `lambdiff deploy` and `lambdiff configure` save endpoints. Commands use the default one unless --deployment,
    LAMBDIFF_DEPLOYMENT, --url or LAMBDIFF_URL chooses another. Forgetting an endpoint changes nothing in AWS;
    `lambdiff destroy` deletes a deployment.

    Examples:

    \b
        lambdiff endpoints list
        lambdiff endpoints use prod
        lambdiff endpoints forget old older
    """
    if action == "list" and names:
        raise click.UsageError("`lambdiff endpoints list` takes no names.")
    if action == "use" and len(names) != 1:
        raise click.UsageError("Give one name: lambdiff endpoints use NAME")
    if action == "forget" and not names:
        raise click.UsageError("Give at least one name: lambdiff endpoints forget NAME")
    if action == "use":
        config.set_default(names[0])
    elif action == "forget":
        config.forget(names)
    saved = config.load()
    if as_json:
        echo_json({"default": saved.default, "endpoints": list(map(_described, saved.deployments.values()))})
    elif action == "list":
        _print(saved)
    else:
        click.echo(f"The default endpoint is {saved.default or 'this machine'}.", err=True)
    _note_overrides()


def _described(deployment: Deployment) -> dict[str, Any]:
    keys = ("name", "region", "auth", "stack", "profile", "model")
    return {**{key: getattr(deployment, key) for key in keys}, "url": deployment.shown_url}


def _print(saved: Deployments) -> None:
    if not saved.deployments:
        click.echo("No endpoint is saved: run `lambdiff deploy` or `lambdiff configure`.", err=True)
    width = max(map(len, saved.deployments), default=0)
    for name, deployment in saved.deployments.items():
        mark = "*" if name == saved.default else " "
        click.echo(f"{mark} {name:<{width}}  {deployment.shown_url}  ({deployment.region}, auth: {deployment.auth})")


def _note_overrides() -> None:
    if url := environment.read("LAMBDIFF_URL"):
        click.echo(f"Note: LAMBDIFF_URL is set, so commands call {environment.redacted(url)}.", err=True)
    elif chosen := environment.read("LAMBDIFF_DEPLOYMENT"):
        click.echo(f"Note: LAMBDIFF_DEPLOYMENT is set, so commands use {environment.quoted(chosen)}.", err=True)

"""`lambdiff schema`: the OpenAPI document."""

from __future__ import annotations

import json

import click

from lambdiff.protocol.openapi import openapi


@click.command()
def schema() -> None:
    """Print the OpenAPI 3.1 document of an endpoint, for client generators and gateways.

    \b
    lambdiff schema > openapi.json
    """
    click.echo(json.dumps(openapi(), indent=2))

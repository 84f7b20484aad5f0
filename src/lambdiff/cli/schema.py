"""`lambdiff schema`: print the OpenAPI document of an endpoint."""

from __future__ import annotations

import json

import click

from lambdiff.protocol.openapi import openapi


@click.command()
def schema() -> None:
    """Print the OpenAPI document of an endpoint.

    The document follows OpenAPI 3.1 and works with client generators and API gateways.

    Examples:

    \b
        lambdiff schema > openapi.json
    """
    click.echo(json.dumps(openapi(), indent=2))

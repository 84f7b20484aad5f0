"""`lambdiff gateway`: what programs speak that cannot sign requests, in front of an endpoint."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lambdiff.cli.options import endpoint_options, local_option, model_dir_option
from lambdiff.cli.value_types import whole
from lambdiff.errors import MissingExtra, OutputError
from lambdiff.loopback import is_loopback

if TYPE_CHECKING:
    from lambdiff.client.client import Client
    from lambdiff.gateway.settings import Settings

KEY_VARIABLE: Final = "LAMBDIFF_GATEWAY_KEY"
_INTRODUCTION: Final = """\
A gateway to {endpoint}. For OpenAI's SDK and programs that use it:

  export OPENAI_BASE_URL={url}v1 OPENAI_API_KEY={key}

  curl {url}v1/images/generations{header} --json '{{"prompt": "a cat in a top hat"}}'
"""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option(
    "--port", type=whole(0, 65_535), default=9100, show_default=True, metavar="PORT",
    help="Port to listen on; 0 picks a free one.",
)  # fmt: skip
@click.option(
    "--api-key", metavar="KEY", envvar=KEY_VARIABLE, show_envvar=True,
    help="Key that callers must send; required if other machines can reach the gateway.",
)  # fmt: skip
@click.option(
    "--cors", "origins", multiple=True, metavar="ORIGIN",
    help="Origin of web pages that may call the gateway, such as https://example.com.",
)  # fmt: skip
@click.option(
    "--trusted-host", "trusted_hosts", multiple=True, metavar="NAME",
    help="Further name under which the gateway answers, for instance behind a proxy.",
)  # fmt: skip
@click.option(
    "--max-images-per-hour", type=whole(1, 1_000_000), metavar="N",
    help="Images in any hour, all callers together.  [default: no limit]",
)  # fmt: skip
@click.option("--workers", type=whole(1, 256), default=32, show_default=True, metavar="N", help="Images at once.")
@local_option
@model_dir_option
@endpoint_options
def gateway(
    host: str, port: int, api_key: str | None, origins: tuple[str, ...], trusted_hosts: tuple[str, ...],
    max_images_per_hour: int | None, workers: int, local: bool, model_dir: Path | None, url: str | None,
    region: str | None, profile: str | None, deployment: str | None,
) -> None:  # fmt: skip
    """Serve OpenAI's images API in front of an endpoint.

    Programs that cannot sign requests call the gateway, and it calls a deployment, a Function URL or this machine,
    chosen as for `lambdiff generate`. It listens on this machine only, unless --host says otherwise. The URL is printed
    to stdout, everything else to stderr. Stop it with Ctrl-C or SIGTERM.

    Examples:

    \b
        lambdiff gateway
        lambdiff gateway --deployment prod --max-images-per-hour 200
        LAMBDIFF_GATEWAY_KEY=secret lambdiff gateway --host 0.0.0.0 --trusted-host images.example.com
    """
    if not all(importlib.util.find_spec(name) for name in ("uvicorn", "starlette", "python_multipart", "mcp")):
        raise MissingExtra("The gateway", "gateway")
    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and len(api_key) >= 8):
        raise click.UsageError("--api-key needs at least 8 printable ASCII characters.")
    listener = _listen(host, port)
    if not is_loopback(listener.getsockname()[0]) and api_key is None:
        listener.close()
        raise click.UsageError(
            f"Other machines could reach the gateway at {host} and generate images at your expense: add --api-key KEY, "
            f"or set {KEY_VARIABLE}."
        )
    from lambdiff.client.client import Client
    from lambdiff.gateway.settings import Settings

    settings = Settings(
        api_key=api_key,
        origins=frozenset(origins),
        max_images_per_hour=max_images_per_hour,
        workers=workers,
        trusted_hosts=frozenset({*trusted_hosts, *([host] if host not in ("0.0.0.0", "::") else [])}),  # noqa: S104
    )
    client = Client(
        url, region=region, deployment=deployment, profile=profile, local=local, model_dir=model_dir, load=True
    )
    _serve(client, settings, listener)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except OSError as error:
        raise OutputError(
            f"The gateway cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}.",
            fix="Choose another one with --port, or --port 0 for a free one.",
        ) from None


def _serve(client: Client, settings: Settings, listener: socket.socket) -> None:
    import uvicorn

    from lambdiff.gateway.app import make_app

    address, port = listener.getsockname()[:2]
    url = f"http://{f'[{address}]' if ':' in address else address}:{port}/"
    key = "YOUR_KEY" if settings.api_key else "none"
    header = ' -H "Authorization: Bearer $OPENAI_API_KEY"' if settings.api_key else ""
    endpoint = str(client.endpoint)
    click.echo(_INTRODUCTION.format(url=url, key=key, header=header, endpoint=endpoint), err=True)
    click.echo(url)
    configuration = uvicorn.Config(
        make_app(client, settings),
        log_level="warning", access_log=False, server_header=False, date_header=True, timeout_keep_alive=10,
        timeout_graceful_shutdown=1, limit_concurrency=1_000, lifespan="on", proxy_headers=False,
    )  # fmt: skip
    uvicorn.Server(configuration).run(sockets=[listener])

"""`lambdiff gateway`: what programs speak that cannot sign requests, in front of an endpoint."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lambdiff.cli.flags import with_flags
from lambdiff.cli.options import endpoint_options, local_option, model_dir_option
from lambdiff.cli.value_types import whole
from lambdiff.client.image import has_display
from lambdiff.errors import MissingExtra, OutputError
from lambdiff.loopback import is_loopback

if TYPE_CHECKING:
    import uvicorn

    from lambdiff.client.client import Client
    from lambdiff.gateway.settings import PageFolders, Settings

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
@click.option("--ui", is_flag=True, help="Show a page at /, too; `lambdiff ui` opens it.")
@click.option(
    "--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="FOLDER",
    help="Folder whose images the page shows, too.",
)  # fmt: skip
@click.option("--workers", type=whole(1, 256), default=32, show_default=True, metavar="N", help="Images at once.")
@local_option
@model_dir_option
@endpoint_options
def gateway(
    host: str, port: int, api_key: str | None, origins: tuple[str, ...], trusted_hosts: tuple[str, ...],
    max_images_per_hour: int | None, ui: bool, folder: Path | None, workers: int, local: bool,
    model_dir: Path | None, url: str | None, region: str | None, profile: str | None, deployment: str | None,
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
    serve_gateway(
        host, port, api_key=api_key, origins=origins, trusted_hosts=trusted_hosts,
        max_images_per_hour=max_images_per_hour, ui=ui, folder=folder, workers=workers, local=local,
        model_dir=model_dir, url=url, region=region, profile=profile, deployment=deployment,
    )  # fmt: skip


def serve_gateway(
    host: str, port: int, *, api_key: str | None = None, origins: tuple[str, ...] = (),
    trusted_hosts: tuple[str, ...] = (), max_images_per_hour: int | None = None, ui: bool = False,
    folder: Path | None = None, workers: int = 32, open_page: bool = False, **endpoint: Any,
) -> None:  # fmt: skip
    """Check the options and run a gateway until it is stopped.

    Args:
        open_page: open the page in the system's browser when it can be reached.
        host, port, api_key, origins, trusted_hosts, max_images_per_hour, ui, folder, workers: the options.
        endpoint: arguments of `Client`.
    """
    if not all(importlib.util.find_spec(name) for name in ("uvicorn", "starlette", "python_multipart", "mcp")):
        raise MissingExtra("The gateway", "gateway")
    if folder is not None and not ui:
        raise click.UsageError("--folder needs --ui.")
    if ui and not importlib.util.find_spec("gradio"):
        raise MissingExtra("The page", "ui")
    if ui and api_key is not None:
        raise click.UsageError("The page cannot send a key: use --ui without --api-key, on this machine only.")
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
    client = Client(**endpoint, load=True)
    with _uploads(folder, ui=ui) as page:
        _serve(client, settings, listener, page, open_page=open_page)


@contextlib.contextmanager
def _uploads(folder: Path | None, *, ui: bool) -> Iterator[PageFolders | None]:
    """Yield the folders of the page, of which the temporary one is removed at the end."""
    import tempfile

    from lambdiff.gateway.settings import PageFolders
    from lambdiff.temporary import temporary_path

    if not ui:
        yield None
        return
    with temporary_path(Path(tempfile.gettempdir()), "lambdiff-page-") as uploads:
        uploads.mkdir(mode=0o700)
        yield PageFolders(uploads, folder)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
        # Inherited by connections. asyncio sets it for sockets that it has opened itself; without it, each reply would
        # wait 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise OutputError(
            f"The gateway cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}.",
            fix="Choose another one with --port, or --port 0 for a free one.",
        ) from None


def _serve(
    client: Client, settings: Settings, listener: socket.socket, page: PageFolders | None, *, open_page: bool
) -> None:
    import uvicorn

    from lambdiff.gateway.app import make_app

    address, port = listener.getsockname()[:2]
    url = f"http://{f'[{address}]' if ':' in address else address}:{port}/"
    key = "YOUR_KEY" if settings.api_key else "none"
    header = ' -H "Authorization: Bearer $OPENAI_API_KEY"' if settings.api_key else ""
    where = with_flags(str(client.endpoint))
    click.echo(_INTRODUCTION.format(url=url, key=key, header=header, endpoint=where), err=True)
    click.echo(url)
    configuration = uvicorn.Config(
        make_app(client, settings, page),
        log_level="warning", access_log=False, server_header=False, date_header=True, timeout_keep_alive=10,
        timeout_graceful_shutdown=1, limit_concurrency=1_000, lifespan="on", proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(configuration)
    if open_page and has_display():
        threading.Thread(target=_open_when_started, args=(server, url), daemon=True).start()
    server.run(sockets=[listener])


def _open_when_started(server: uvicorn.Server, url: str) -> None:
    while not server.started:
        time.sleep(0.05)
    click.launch(url)

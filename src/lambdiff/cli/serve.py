"""`lambdiff serve`: a Function URL on this machine."""

from __future__ import annotations

import functools
import os
import secrets
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lambdiff.auth.credentials import Keys


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=9000, show_default=True, help="0 takes a free one.")
@click.option(
    "--region",
    envvar=["LAMBDIFF_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"],
    default="us-east-1",
    show_default=True,
    help="Region that requests must be signed for.",
)
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True,
    help="Requests in hand at once; further ones get a 429.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(1, 900), default=600, show_default=True,
    help="Seconds after which a request gets a 502.",
)  # fmt: skip
@click.option(
    "--model-dir", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A baked model; the built-in one if not given.",
)  # fmt: skip
def serve(host: str, port: int, region: str, concurrency: int, timeout: float, model_dir: Path | None) -> None:
    """Run a Function URL on this machine, with AWS's signatures checked.

    The key pair is AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN if set; otherwise a throwaway
    pair is made and printed. The URL goes to stdout, everything else to stderr. Ctrl-C stops it.

    \b
    lambdiff serve --port 9000
    LAMBDIFF_URL=http://127.0.0.1:9000/ lambdiff generate "a cat in a top hat" -o cat.png
    """
    import sys

    from lambdiff.engine.factory import open_engine
    from lambdiff.errors import MissingExtra
    from lambdiff.handler import request_log
    from lambdiff.handler.app import App
    from lambdiff.local import builtin

    try:
        from lambdiff.local.server import FunctionUrlServer
    except ImportError:
        raise MissingExtra("The server", "local") from None

    keys, made = _keys()
    app = App(
        functools.partial(open_engine, model_dir or builtin.folder()), write_log=request_log.to_stream(sys.stderr)
    )
    app.engine  # noqa: B018 (a missing model or extra is to be reported now, not to the first caller)
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    with FunctionUrlServer(
        app,
        keys,
        region,
        host=host,
        port=port,
        concurrency=concurrency,
        timeout=timeout,
    ) as function:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, on_signal)
        _introduce(function.url, region, keys, made=made)
        click.echo(function.url)
        while not stop.wait(3600):
            pass
        click.echo("Stopping.", err=True)


def _keys() -> tuple[Keys, bool]:
    """The key pair of the environment, or a new one; and whether it is new."""
    from lambdiff.auth.credentials import Keys
    from lambdiff.errors import CredentialsError

    access_key, secret_key = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if access_key and secret_key:
        return Keys(access_key, secret_key, os.environ.get("AWS_SESSION_TOKEN") or None), False
    if access_key or secret_key:
        raise CredentialsError(
            "Only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set.", fix="Set both, or neither."
        )
    return Keys(f"AKIALOOPBACK{secrets.token_hex(4).upper()}", secrets.token_hex(20)), True


def _introduce(url: str, region: str, keys: Keys, *, made: bool) -> None:
    def say(text: str) -> None:
        click.echo(text, err=True)

    say(f"A Function URL for region {region}; requests must be signed.")
    if made:
        say("This key pair is good until the server stops:\n")
        say(f"  export AWS_ACCESS_KEY_ID={keys.access_key_id}")
        say(f"  export AWS_SECRET_ACCESS_KEY={keys.secret_access_key}")
    else:
        say(f"The key pair is that of the environment, {keys.access_key_id}.\n")
    say(f"  export LAMBDIFF_URL={url} LAMBDIFF_REGION={region}\n")
    say('  lambdiff generate "a cat in a top hat" -o cat.png')
    token = ' -H "x-amz-security-token: $AWS_SESSION_TOKEN"' if keys.session_token else ""
    say(
        f"  curl --aws-sigv4 aws:amz:{region}:lambda --user $AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY{token} \\\n"
        f'    --json \'{{"prompt": "a cat in a top hat"}}\' -o cat.png {url}\n'
    )

"""`lambdiff serve`: run a Function URL on this machine."""

from __future__ import annotations

import functools
import os
import secrets
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lambdiff import termination
from lambdiff.cli.value_types import number, whole
from lambdiff.loopback import is_loopback

if TYPE_CHECKING:
    from lambdiff.auth.credentials import Keys
    from lambdiff.handler.app import App

_PATIENCE_S: Final = 0.7
"""How long requests in progress may take after a signal; everything together must end within two seconds."""
_INTRODUCTION: Final = """\
Serving a Function URL for region {region}. Requests must be signed.
{keys}
  export LAMBDIFF_URL={url} LAMBDIFF_REGION={region}

  lambdiff generate "a cat in a top hat"
  curl --aws-sigv4 aws:amz:{region}:lambda --user $AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY{token} \\
    --json '{{"prompt": "a cat in a top hat"}}' -o curl.png {url}
"""
_TEMPORARY_KEYS: Final = """\
This key pair is valid until the server stops:

  export AWS_ACCESS_KEY_ID={access_key_id}
  export AWS_SECRET_ACCESS_KEY={secret_access_key}"""

_EXPOSED: Final = """\
Warning: other machines can reach this server at {address}. Requests must be signed, but prompts and images are not
encrypted. lambdiff's own client calls http:// on its own machine only: from other machines, forward the port with
`ssh -L`, or put a server with TLS in front of this one.
"""

_DEFAULT_REGION: Final = "us-east-1"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option(
    "--port", type=whole(0, 65_535), default=9000, show_default=True, metavar="PORT",
    help="Port to listen on; 0 picks a free one.",
)  # fmt: skip
@click.option(
    "--region", metavar="REGION",
    help="AWS region that requests must be signed for.  [env var: LAMBDIFF_REGION, AWS_REGION; default: that of the "
    "AWS profile, else us-east-1]",
)  # fmt: skip
@click.option(
    "--concurrency", type=whole(1, 1_000), default=1, show_default=True, metavar="N",
    help="Concurrent requests; further ones are answered with 429.",
)  # fmt: skip
@click.option(
    "--timeout", type=number(1, 900), default=600, show_default=True, metavar="SECONDS",
    help="Time after which a request is answered with 502.",
)  # fmt: skip
@click.option(
    "--model-dir", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="FOLDER",
    help="Folder of a baked model; the built-in model by default.  [env var: LAMBDIFF_MODEL_DIR]",
)  # fmt: skip
def serve(host: str, port: int, region: str | None, concurrency: int, timeout: float, model_dir: Path | None) -> None:
    """Run a Function URL on this machine.

    The server checks signatures as AWS does. It accepts the key pair in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_SESSION_TOKEN; if these are not set, it creates a temporary one and prints it. The URL is printed to stdout,
    everything else to stderr. Stop the server with Ctrl-C or SIGTERM: requests that are not finished soon get a 503.

    Examples:

    \b
        export AWS_ACCESS_KEY_ID=me AWS_SECRET_ACCESS_KEY=secret LAMBDIFF_REGION=us-east-1
        lambdiff serve --port 9000 &
        LAMBDIFF_URL=http://127.0.0.1:9000/ lambdiff generate "a cat in a top hat" -o cat.png
    """
    from lambdiff.auth.region import find_region
    from lambdiff.errors import MissingExtra

    try:
        from lambdiff.local.server import FunctionUrlServer
    except ImportError:
        raise MissingExtra("The server", "local") from None
    keys, temporary = _keys()
    chosen = find_region(region)
    region = chosen.value if chosen else _DEFAULT_REGION
    app = _app(model_dir)
    with FunctionUrlServer(
        app, keys, region, host=host, port=port, concurrency=concurrency, timeout=timeout
    ) as function:
        try:
            click.echo(_introduction(function.url, region, keys, temporary=temporary), err=True)
            if not is_loopback(function.address):
                click.echo(_EXPOSED.format(address=function.address), err=True)
            click.echo(function.url)
            threading.Event().wait()
        except KeyboardInterrupt:
            termination.ignore_signals()
            click.echo("Stopping.", err=True)
            function.close(patience=_PATIENCE_S)


def _app(model_dir: Path | None) -> App:
    """The handler over a model folder, with its log on stderr."""
    from lambdiff.engine.factory import open_engine
    from lambdiff.handler import request_log
    from lambdiff.handler.app import App
    from lambdiff.local import builtin

    folder = model_dir or builtin.default_model_dir()
    app = App(functools.partial(open_engine, folder), write_log=request_log.to_stream(sys.stderr))
    app.engine  # noqa: B018 (report a missing model or extra now, not to the first caller)
    return app


def _keys() -> tuple[Keys, bool]:
    """The key pair of the environment or a new one, and whether it is new."""
    from lambdiff.auth.credentials import Keys
    from lambdiff.auth.key_format import IN_ENVIRONMENT, check_keys
    from lambdiff.errors import CredentialsError

    access_key, secret_key, token = map(os.environ.get, IN_ENVIRONMENT)
    if access_key and secret_key:
        check_keys(access_key, secret_key, token, IN_ENVIRONMENT)
        return Keys(access_key, secret_key, token or None), False
    if access_key or secret_key:
        raise CredentialsError(
            "Only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set.", fix="Set both, or neither."
        )
    return Keys(f"AKIALOOPBACK{secrets.token_hex(4).upper()}", secrets.token_hex(20)), True


def _introduction(url: str, region: str, keys: Keys, *, temporary: bool) -> str:
    """Return instructions for calling the server."""
    if temporary:
        shown = _TEMPORARY_KEYS.format(access_key_id=keys.access_key_id, secret_access_key=keys.secret_access_key)
    else:
        shown = f"The key pair is the one in the environment, {keys.access_key_id}.\n"
    token = ' -H "x-amz-security-token: $AWS_SESSION_TOKEN"' if keys.session_token else ""
    return _INTRODUCTION.format(url=url, region=region, keys=shown, token=token)

"""The Function URL on loopback with common signers: curl, awscurl, requests-aws4auth and botocore."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from requests_aws4auth import AWS4Auth

from lambdiff import Client
from lambdiff.auth.credentials import Keys
from lambdiff.cli import cli
from lambdiff.errors import AccessDenied
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from lambdiff.protocol import metadata
from support import tiny_pipeline
from support.stub_engine import StubEngine

PERMANENT = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TEMPORARY = Keys(*PERMANENT[:2], "IQoJb3JpZ2lu/X2VjE+Jz==")
REGION = "eu-west-1"
BODY = '{"prompt": "a cat in a top hat", "num_inference_steps": 3, "seed": 11}'


@pytest.fixture
def engine() -> StubEngine:
    """An engine that counts its calls."""
    return StubEngine()


@pytest.fixture(params=[PERMANENT, TEMPORARY], ids=["permanent", "temporary"])
def keys(request: pytest.FixtureRequest) -> Keys:
    """A key pair without and one with a session token."""
    pair: Keys = request.param
    return pair


@pytest.fixture
def function(engine: StubEngine, keys: Keys) -> Iterator[FunctionUrlServer]:
    """A running Function URL."""
    with FunctionUrlServer(App(lambda: engine), keys, REGION) as running:
        yield running


def with_curl(url: str, keys: Keys, folder: Path, region: str = REGION, service: str = "lambda") -> bytes | int:
    """Send the request with curl's own signer."""
    assert shutil.which("curl"), "curl is needed here: install it"
    output = folder / "curl.out"
    command = ["curl", "-sS", "--aws-sigv4", f"aws:amz:{region}:{service}", "-o", str(output), "-w", "%{http_code}"]
    command += ["--user", f"{keys.access_key_id}:{keys.secret_access_key}"]
    command += ["-H", "content-type: application/json", "-d", BODY, url]
    if keys.session_token:
        command += ["-H", f"x-amz-security-token: {keys.session_token}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return output.read_bytes() if ran.stdout == "200" else int(ran.stdout)


def with_awscurl(url: str, keys: Keys, folder: Path, region: str = REGION, service: str = "lambda") -> bytes | int:
    """Send the request with awscurl."""
    output = folder / "awscurl.out"
    command = [sys.executable, "-m", "awscurl.awscurl", "--service", service, "--region", region, "-X", "POST"]
    command += ["--access_key", keys.access_key_id, "--secret_key", keys.secret_access_key]
    command += ["-H", "content-type: application/json", "-d", BODY, "-o", str(output), url]
    if keys.session_token:
        command += ["--session_token", keys.session_token]
    ran = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "HOME": str(folder)})
    assert b"Traceback" not in ran.stderr, ran.stderr
    content = output.read_bytes() if output.exists() else b""
    if content.startswith(b"\x89PNG"):
        return content
    assert b"urn:lambdiff:problem:forbidden" in ran.stdout + content, (ran.stdout, ran.stderr)
    return 403


def with_aws4auth(url: str, keys: Keys, folder: Path, region: str = REGION, service: str = "lambda") -> bytes | int:
    """Send the request with requests-aws4auth."""
    auth = AWS4Auth(keys.access_key_id, keys.secret_access_key, region, service, session_token=keys.session_token)
    return _content(requests.post(url, data=BODY, headers={"content-type": "application/json"}, auth=auth, timeout=20))


def with_tutorial(url: str, keys: Keys, folder: Path, region: str = REGION, service: str = "lambda") -> bytes | int:
    """Sign a botocore request and pass its headers to requests, as most tutorials do."""
    request = AWSRequest(method="POST", url=url, data=BODY, headers={"Content-Type": "application/json"})
    SigV4Auth(Credentials(*keys), service, region).add_auth(request)
    return _content(requests.post(url, data=BODY, headers=dict(request.headers), timeout=20))


def with_bare_botocore(
    url: str, keys: Keys, folder: Path, region: str = REGION, service: str = "lambda"
) -> bytes | int:
    """Sign and prepare a request with botocore, without a content type."""
    request = AWSRequest(method="POST", url=url, data=BODY)
    SigV4Auth(Credentials(*keys), service, region).add_auth(request)
    prepared = request.prepare()
    return _content(requests.request("POST", prepared.url, headers=prepared.headers, data=prepared.body, timeout=20))


def with_lambdiff(url: str, keys: Keys, folder: Path, region: str = REGION, service: str = "lambda") -> bytes | int:
    """Send the request with lambdiff's own client."""
    with Client(url=url, region=region, credentials=keys) as client:
        try:
            return client.generate("a cat in a top hat", num_inference_steps=3, seed=11).content
        except AccessDenied as error:
            return error.status


def _content(reply: requests.Response) -> bytes | int:
    return reply.content if reply.status_code == 200 else reply.status_code


Signer = Callable[..., bytes | int]
SIGNERS: list[Signer] = [with_curl, with_awscurl, with_aws4auth, with_tutorial, with_bare_botocore, with_lambdiff]


@pytest.mark.parametrize("signer", SIGNERS)
def test_every_signer_gets_an_image(signer: Signer, function: FunctionUrlServer, keys: Keys, tmp_path: Path) -> None:
    """Every signer gets an image, with permanent and with temporary credentials."""
    content = signer(function.url, keys, tmp_path)
    assert isinstance(content, bytes)
    generation = metadata.read(content).generation
    assert (generation.prompt, generation.num_inference_steps, generation.seed) == ("a cat in a top hat", 3, 11)


WRONG: dict[str, dict[str, Any]] = {
    "secret": {"keys": Keys(PERMANENT[0], "another")},
    "key": {"keys": Keys("AKIDOTHER", PERMANENT[1])},
    "token": {"keys": Keys(*PERMANENT[:2], "another")},
    "region": {"region": "us-east-1"},
    "service": {"service": "execute-api"},
}


@pytest.mark.parametrize(
    ("signer", "wrong"),
    # lambdiff's client cannot sign for another service
    [(signer, wrong) for signer in SIGNERS for wrong in WRONG if (signer, wrong) != (with_lambdiff, "service")],
)
def test_a_wrong_signature_gets_403_and_costs_nothing(
    signer: Signer, wrong: str, function: FunctionUrlServer, keys: Keys, engine: StubEngine, tmp_path: Path
) -> None:
    """A wrong secret, key, token, region or service is refused before the model loads."""
    options = {"keys": keys, **WRONG[wrong]}
    assert signer(function.url, options.pop("keys"), tmp_path, **options) == 403
    assert (engine.calls, engine.loads) == (0, 0)


def test_a_missing_token_gets_403(engine: StubEngine, tmp_path: Path) -> None:
    """Temporary keys are refused without their token."""
    with FunctionUrlServer(App(lambda: engine), TEMPORARY, REGION) as function:
        for signer in SIGNERS:
            assert signer(function.url, PERMANENT, tmp_path) == 403
    assert engine.loads == 0


def test_a_changed_body_gets_403(function: FunctionUrlServer, keys: Keys, engine: StubEngine) -> None:
    """A request whose body was changed after signing gets a 403."""
    request = AWSRequest(method="POST", url=function.url, data=BODY)
    SigV4Auth(Credentials(*keys), "lambda", REGION).add_auth(request)
    reply = requests.post(function.url, data=BODY.replace("11", "12"), headers=dict(request.headers), timeout=20)
    assert reply.status_code == 403
    assert engine.loads == 0


class Served:
    """`lambdiff serve` in a separate process."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lambdiff", "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def stop(self, number: signal.Signals) -> tuple[int, str, str]:
        """Send a signal; return the exit code, the rest of stdout, and stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_commands_that_serve_prints_can_be_pasted(number: signal.Signals, tmp_path: Path) -> None:
    """stdout has only the URL, the commands on stderr can be pasted, and a signal ends `serve` cleanly."""
    served = Served("--model-dir", str(tiny_pipeline.baked()), "--region", REGION)
    try:
        assert served.url.startswith("http://127.0.0.1:")
        instructions = ""
        assert served.process.stderr is not None
        while "curl" not in instructions:
            instructions += served.process.stderr.readline()
        instructions += served.process.stderr.readline()
        exports = re.findall(r"^ +(export .*)$", instructions, re.MULTILINE)
        curl = re.search(r"curl --aws-sigv4 .*\\\n.*", instructions)
        assert len(exports) == 3
        assert curl
        script = "\n".join([*exports, curl[0]])
        subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True, capture_output=True)
        assert metadata.read(tmp_path / "curl.png").generation.prompt == "a cat in a top hat"
        command = f"{shlex.quote(sys.executable)} -m lambdiff generate 'a dog' -o dog.png"
        subprocess.run(["sh", "-ec", "\n".join([*exports, command])], cwd=tmp_path, check=True, capture_output=True)
        assert metadata.read(tmp_path / "dog.png").generation.prompt == "a dog"
    finally:
        code, out, err = served.stop(number)
    assert (code, out) == (0, "")
    assert "Traceback" not in err
    assert "top hat" not in err
    assert err.count('"status":200') == 2


@pytest.mark.engine
def test_serve_uses_the_keys_in_the_environment(tmp_path: Path) -> None:
    """`serve` accepts requests signed with the keys in the environment, and prints only the access key id."""
    environment = {
        "AWS_ACCESS_KEY_ID": TEMPORARY[0],
        "AWS_SECRET_ACCESS_KEY": TEMPORARY[1],
        "AWS_SESSION_TOKEN": "tok/en",
    }
    served = Served("--model-dir", str(tiny_pipeline.baked()), **environment)
    try:
        keys = Keys(*TEMPORARY[:2], "tok/en")
        assert with_aws4auth(served.url, Keys(*TEMPORARY[:2]), tmp_path, region="us-east-1") == 403
        assert isinstance(with_aws4auth(served.url, keys, tmp_path, region="us-east-1"), bytes)
    finally:
        code, _, err = served.stop(signal.SIGINT)
    assert code == 0
    assert TEMPORARY[0] in err
    assert TEMPORARY[1] not in err
    assert "tok/en" not in err


def test_serve_explains_mistakes(tmp_path: Path) -> None:
    """A missing model or half a key pair gives exit code 3, an invalid option 2, and nothing is printed on stdout."""
    for arguments, environment, code, words in (
        (["--model-dir", str(tmp_path)], {}, 3, "not a baked model"),
        (["--model-dir", str(tmp_path)], {"AWS_ACCESS_KEY_ID": "AKID"}, 3, "Only one of"),
        (["--concurrency", "0"], {}, 2, "concurrency"),
        (["--model-dir", str(tmp_path / "none")], {}, 2, "does not exist"),
    ):
        ran = subprocess.run(
            [sys.executable, "-m", "lambdiff", "serve", "--port", "0", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
        )
        assert (ran.returncode, ran.stdout) == (code, "")
        assert words in ran.stderr
        assert "Traceback" not in ran.stderr


@pytest.mark.engine
def test_the_examples_in_the_help_work_as_written(tmp_path: Path) -> None:
    """The examples of `lambdiff serve --help`, pasted into a shell one after the other, give an image."""
    command = cli.get_command(click.Context(cli), "serve")
    assert command is not None
    examples = re.findall(r"^    (\S.*)$", inspect.cleandoc(command.help or ""), re.MULTILINE)
    assert len(examples) == 3
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = "\n".join(examples).replace("9000", str(port)).replace("lambdiff ", f"{sys.executable} -m lambdiff ")
    (tmp_path / "config").write_text("[default]\nregion = eu-west-1\n")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LAMBDIFF_"))},
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "LAMBDIFF_HOME": str(tmp_path / "home"),
        "LAMBDIFF_MODEL_DIR": str(tiny_pipeline.baked()),
    }
    shell = subprocess.Popen(["sh", "-ec", script], cwd=tmp_path, env=environment, start_new_session=True)
    try:
        assert shell.wait(120) == 0
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
    assert metadata.read(tmp_path / "cat.png").generation.prompt == "a cat in a top hat"

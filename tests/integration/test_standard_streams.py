"""The command line with streams that are closed, fail, or have another encoding (cli/streams.py)."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lambdiff.cli import main
from lambdiff.protocol import metadata
from lambdiff.stages import Stages
from support.cli_runner import run_process
from support.foreign_images import png_with

pytestmark = pytest.mark.slow
PROMPT = "café, 猫, 😀"
FILE = b"caf\xe8-\xe7\x8c\xab.png"
"""Not UTF-8, though part of it is."""
LAMBDIFF = f"{shlex.quote(sys.executable)} -m lambdiff"


def shell(command: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command line in a shell, which can close descriptors."""
    return subprocess.run(["sh", "-c", command], check=False, timeout=100, **{"capture_output": True, **options})


def run_with_stdout(encoding: str, errors: str, *args: str) -> tuple[int, bytes, bytes]:
    """Run a command in this process with streams of an encoding; return exit code, stdout and stderr."""
    out, err = io.BytesIO(), io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding, errors=errors, write_through=True))
        patch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding=encoding, errors=errors, write_through=True))
        with pytest.raises(SystemExit) as ended:
            main(list(args))
        assert not sys.stdout.closed
        return int(ended.value.code or 0), out.getvalue(), err.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "iso8859-15", "shift_jis", "utf-8", "utf-16"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_what_an_encoding_lacks_is_escaped(url: str, encoding: str, errors: str) -> None:
    """Names, JSON, notes and errors are printed in every encoding: the image has been written already."""
    name = os.fsdecode(FILE)
    code, out, _ = run_with_stdout(encoding, errors, "generate", PROMPT, "-o", name)
    assert code == 0
    shown = out.decode(encoding)
    assert "caf\\udce8" in shown
    assert ("猫" if encoding in ("utf-8", "utf-16", "shift_jis") else "\\u732b") in shown
    assert metadata.read(Path(name)).request.prompt == PROMPT
    code, out, _ = run_with_stdout(encoding, errors, "generate", PROMPT, "-o", name, "--json", "--force")
    assert code == 0
    document = json.loads(out.decode(encoding))
    assert document["images"][0]["file"] == name
    assert document["images"][0]["parameters"]["prompt"] == PROMPT
    for command in (["info", name], ["info", name, "--json"]):
        assert run_with_stdout(encoding, errors, *command)[0] == 0
    code, _, err = run_with_stdout(encoding, errors, "generate", PROMPT, "-o", name)
    assert code == 6
    assert "caf\\udce8" in err.decode(encoding)
    code, _, err = run_with_stdout(encoding, errors, "generate", PROMPT, "-o", f"{name}.猫")
    assert code == 2


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_every_environment_prints_json(url: str, env: dict[str, str]) -> None:
    """Whatever the locale says, a report is printed and can be read back."""
    result = run_process("generate", PROMPT.encode(), "-o", FILE, "--json", env=env)
    assert result.code == 0, result.err
    (image,) = json.loads(result.out)["images"]
    assert image["parameters"]["prompt"] == PROMPT
    assert metadata.read(Path(os.fsdecode(FILE))).request.prompt == PROMPT


@pytest.mark.parametrize("closed", ["2>&-", "<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_descriptors_do_no_harm(url: str, closed: str) -> None:
    """With a closed stream the image is written, and no file or socket gets the stream's number."""
    done = shell(f"{LAMBDIFF} generate 'a cat' -o cat.png --seed 7 {closed}")
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert metadata.read(Path("cat.png")).request.seed == 7
    if ">&-" not in closed.replace("2>&-", ""):
        assert done.stdout == b"cat.png\n"


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("generate 'a cat' -o - >&-", 6, b"stdout is closed"),
        ("generate - -o cat.png <&-", 2, b"stdin is closed"),
        ("generate 'a cat' -o - > /dev/full", 6, b"No space left"),
        ("generate 'a cat' -o cat.png --json > /dev/full", 6, b"No space left"),
        ("schema > /dev/full", 6, b"No space left"),
        ("--help > /dev/full", 6, b"No space left"),
        ("info cat.png > /dev/full", 6, b"No space left"),
        ("schema 2> /dev/full > /dev/full", 6, b""),
        ("generate 'a cat' -o no/such/cat.png 2> /dev/full", 6, b""),
        ("generate 'a cat' -o cat.png 2> /dev/full", 0, b""),
        ("schema | head -c 1", 0, b""),
        ("schema 2>&1 | true", 0, b""),
        ("destroy <&-", 7, b"Could not connect"),
    ],
)  # fmt: skip
def test_streams_that_fail_have_an_exit_code(url: str, command: str, code: int, words: bytes) -> None:
    """Results that cannot be written give exit code 6; messages that cannot be written are dropped."""
    unbuffered = {**os.environ, "PYTHONUNBUFFERED": "1" if command.startswith("schema") else ""}
    unbuffered |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}  # nothing listens there
    Path("cat.png" if command.startswith("info") else "other.png").write_bytes(png_with({"parameters": "a cat"}))
    done = shell(f"{LAMBDIFF} {command}", env=unbuffered)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_a_program_without_a_console_can_run_commands(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `pythonw` all three streams are None; they still are when the command has ended."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    for args, code in (
        (["generate", "a cat", "-o", "cat.png", "--json"], 0),
        (["info", "cat.png"], 0),
        (["generate", "a cat", "-o", "cat.png"], 6),
        (["--help"], 0),
        (["nonsense"], 2),
    ):
        with pytest.raises(SystemExit) as ended:
            main(args)
        assert (ended.value.code or 0) == code
    assert (sys.stdin, sys.stdout, sys.stderr) == (None, None, None)
    stages = Stages()
    stages.stage("Deploying")
    stages.say("x")
    stages.done()
    assert stages.times.keys() == {"Deploying"}


def test_a_terminal_gets_no_image_bytes(url: str) -> None:
    """`-o -` needs `--force` if stdout is a terminal."""
    import pty

    for force, code in (("", 2), ("--force", 0)):
        reading, terminal = pty.openpty()
        done = shell(
            f"{LAMBDIFF} generate 'a cat' -o - {force}", capture_output=False, stdout=terminal, stderr=subprocess.PIPE
        )
        os.close(terminal)
        received = b""
        with open(reading, "rb", buffering=0) as screen:
            try:
                while chunk := screen.read(4096):
                    received += chunk
            except OSError:  # the end of a terminal
                pass
        assert done.returncode == code, done.stderr
        assert (b"PNG" in received) == bool(force)
        if not force:
            assert b"--force" in done.stderr

"""Shell completion (cli/completion.py): what each shell is offered, and that nothing slow is loaded for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.shell_completion import get_completion_class

from lambdiff import config
from lambdiff.cli import COMMANDS, cli
from lambdiff.config import Deployment


@pytest.fixture(autouse=True)
def deployments() -> None:
    """Three saved deployments."""
    for name in ("tiny", "tidy", "prod"):
        config.save(Deployment(name=name, url="https://abc.lambda-url.us-east-1.on.aws/", region="us-east-1"))


def complete(line: str, shell: str = "fish") -> list[tuple[str, str]]:
    """Return the type and the value of each completion of the last word."""
    *words, incomplete = line.split(" ")
    kind = get_completion_class(shell)
    assert kind is not None
    items = kind(cli, {}, "lambdiff", "_LAMBDIFF_COMPLETE").get_completions(words, incomplete)
    return [(item.type, item.value) for item in items]


def words(*values: str) -> list[tuple[str, str]]:
    """Completions that are plain words."""
    return [("plain", value) for value in values]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", words(*COMMANDS)),
        ("gen", words("generate")),
        ("generate --ste", words("--steps")),
        ("generate --scheduler d", words("ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde")),
        ("generate --format ", words("png", "jpeg", "webp")),
        ("generate x --deployment ti", words("tiny", "tidy")),
        ("generate x -o ca", [("file", "ca")]),
        ("generate --like ca", [("file", "ca")]),
        ("generate --model-dir mo", [("dir", "mo")]),
        ("info ca", [("file", "ca")]),
        ("status --deployment p", words("prod")),
        ("destroy --deployment p", words("prod")),
        ("configure --name p", words("prod")),
        ("deploy --name p", words("prod")),
        ("deploy --model b", [("dir", "b"), *words("built-in")]),
        ("deploy --log-days 3", words("3", "30", "365")),
        ("bake tin", [("dir", "tin"), *words("tiny-sd")]),
        ("bake x --precision w", words("w8a8")),
        ("nonsense --deployment ", words(*COMMANDS)),
    ],
)
def test_words_are_completed(line: str, wanted: list[tuple[str, str]]) -> None:
    """Commands, options, choices, deployments, models, files and folders are offered where they belong."""
    assert complete(line) == wanted


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_value_after_an_equals_sign_is_completed(shell: str) -> None:
    """Zsh and Fish replace the whole word, so the option is repeated."""
    assert complete("generate --deployment=p", shell) == words("--deployment=prod")
    assert complete("generate --model-dir=mo", shell) == [("dir", "mo")]


def test_every_deployment_option_completes() -> None:
    """No command takes a deployment that it does not complete."""
    for name in COMMANDS:
        if ("plain", "--deployment") in complete(f"{name} --deployment"):
            assert complete(f"{name} --deployment p") == words("prod"), name


def test_a_damaged_file_completes_nothing() -> None:
    """A shell has no place for an error message."""
    config.path().write_text("{")
    assert complete("generate --deployment ") == []


@pytest.mark.parametrize("line", ["lambdiff generate --deployment p", "lambdiff ", "lambdiff deploy --model b"])
def test_a_completion_loads_nothing_slow(line: str) -> None:
    """A completion loads neither AWS's libraries nor an engine, and for a command's name not even the command."""
    script = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    script += "; from lambdiff.cli import main; main()"
    environment = {
        **os.environ, "COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_LAMBDIFF_COMPLETE": "zsh_complete"
    }  # fmt: skip
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout
    loaded = {name.partition(".")[0] for name in ran.stderr.split()}
    assert not loaded & {"boto3", "botocore", "requests", "PIL", "numpy", "openvino", "torch", "rich", "aws_cdk"}
    assert line != "lambdiff " or "lambdiff.cli.generate" not in ran.stderr.split()

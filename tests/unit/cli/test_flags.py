"""Replacing the library's parameter names by flags (cli/flags.py)."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from lambdiff.cli import cli
from lambdiff.cli.flags import with_flags, with_flags_in


@click.command()
@click.argument("prompt")
@click.option("-o", "--output", "out")
@click.option("--memory", "memory_mb", type=int)
@click.option("--steps", "--num-inference-steps", "num_inference_steps", type=int)
@click.option("--force", is_flag=True)
@click.option("--static-shapes/--dynamic-shapes", default=None)
@click.option("--smoke/--no-smoke", default=True)
@click.option("-x", "short")
def command(**_: Any) -> None:
    """A command with an option of every kind."""


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("Pass `out=`.", "Pass --output."),
        ("Pass `memory_mb=`.", "Pass --memory."),
        ("`memory_mb=3008` and `force=True`", "--memory 3008 and --force"),
        ('`out="cat.png"`', "--output cat.png"),
        ("`num_inference_steps=`", "--steps"),
        ("`force=`", "--force"),
        ("`force=False`", "`force=False`"),
        ("`static_shapes=True` or `static_shapes=False`", "--static-shapes or --dynamic-shapes"),
        ("`smoke=False`", "--no-smoke"),
        ("`short=1`", "-x 1"),
        ("`prompt=`", "PROMPT"),
        ("`credentials=` is for Python only", "`credentials=` is for Python only"),
        ("`lambdiff doctor`, force=True and `force`", "`lambdiff doctor`, force=True and `force`"),
    ],
)
def test_parameters_become_flags(text: str, spelled: str) -> None:
    """A parameter in backticks becomes the command's first long flag; other text is unchanged."""
    assert with_flags(text, command) == spelled


def test_without_a_command_the_text_is_unchanged() -> None:
    """Outside a command, as in a Python program, the text keeps the parameter's name."""
    assert with_flags("Pass `region=`.") == "Pass `region=`."


def test_the_running_command_is_the_default() -> None:
    """Inside a running command, `with_flags` uses that command's flags."""
    with click.Context(command):
        assert with_flags("Pass `out=`.") == "Pass --output."


def test_reports_name_flags_but_keep_prompts() -> None:
    """In JSON reports, messages name the command's flags; text from users and logs is unchanged."""
    report = {"failures": [{"fix": "Pass `out=`.", "seed": 7}], "notes": ["`force=True`"], "prompt": "`out=`"}
    with click.Context(command):
        assert with_flags_in(report) == {
            "failures": [{"fix": "Pass --output.", "seed": 7}], "notes": ["--force"], "prompt": "`out=`",
        }  # fmt: skip


def test_errors_name_the_flags_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Message and fix of a library error name the flags of the command that ran."""
    from lambdiff.errors import ConfigurationError

    def fail(*_: Any, **__: Any) -> None:
        raise ConfigurationError("`region=` is missing.", fix="Pass `region=us-east-1` or `name=`.")

    for function in ("resolve", "from_url"):
        monkeypatch.setattr(f"lambdiff.client.endpoint.{function}", fail)
    for arguments, fix in (
        (["generate", "a cat"], "Pass --region us-east-1 or `name=`."),
        (["configure", "--url", "https://a"], "Pass --region us-east-1 or --name."),
    ):
        error = CliRunner().invoke(cli, arguments, standalone_mode=False).exception
        assert isinstance(error, ConfigurationError)
        assert (error.message, error.fix) == ("--region is missing.", fix)

"""The help texts of all commands are complete and consistent, and their examples can be pasted."""

from __future__ import annotations

import inspect
import re
import shlex

import click
import pytest

from lambdiff.cli import COMMANDS, cli

COMMAND_SPECIFIC = {
    "--concurrency", "--count", "--engine", "--force", "--format", "--guidance", "--memory", "--model-dir", "--name",
    "--output", "--region", "--seed", "--size", "--steps", "--timeout", "--url", "--workers",
}  # fmt: skip
"""Options whose meaning, and so whose help, depends on the command."""


def load(name: str) -> click.Command:
    """Import a command."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def help_of(name: str) -> str:
    """Return the help text of a command without indentation."""
    return inspect.cleandoc(load(name).help or "")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_list_repeats_the_first_line_of_each_help(name: str) -> None:
    """`lambdiff --help` and `lambdiff COMMAND --help` describe a command with the same sentence."""
    assert help_of(name).splitlines()[0] == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_can_be_pasted(name: str) -> None:
    """Each help text has examples of its own command, and each example uses existing options only."""
    examples = re.findall(r"^    .*?\blambdiff (\S+)([^|>&\n]*)", help_of(name), re.MULTILINE)
    assert name in {command for command, _ in examples}
    for command, arguments in examples:
        load(command).make_context(command, shlex.split(arguments), resilient_parsing=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_keep_their_lines(name: str) -> None:
    """Help output shows each example on a line of its own, as written."""
    command = load(name)
    shown = command.get_help(click.Context(command, info_name=name, terminal_width=60))
    examples = re.findall(r"^    .*$", help_of(name), re.MULTILINE)
    assert examples
    assert all(f"  {line}\n" in shown for line in examples)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name: str) -> None:
    """Every option has a help text that begins with a capital letter, a digit or a slash."""
    for parameter in load(name).params:
        if isinstance(parameter, click.Option):
            assert re.match(r"[A-Z0-9/]", parameter.help or ""), parameter.opts


def test_shared_options_have_the_same_help_everywhere() -> None:
    """An option that several commands share has one help text, unless it is listed in COMMAND_SPECIFIC."""
    helps: dict[str, set[str | None]] = {}
    for name in COMMANDS:
        for parameter in load(name).params:
            if isinstance(parameter, click.Option):
                flag = next(flag for flag in parameter.opts if flag.startswith("--"))
                helps.setdefault(flag, set()).add(parameter.help)
    assert {flag for flag, texts in helps.items() if len(texts) > 1} <= COMMAND_SPECIFIC

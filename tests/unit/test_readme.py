"""README.md agrees with the code."""

from __future__ import annotations

import re
from pathlib import Path

import click

from lambdiff import errors
from lambdiff.cli import COMMANDS, cli

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_every_command_is_listed() -> None:
    """The table of commands is complete and names no other."""
    listed = set(re.findall(r"^\| `lambdiff ([a-z]+)", README, re.MULTILINE))
    assert listed == set(COMMANDS)


def test_every_flag_of_generate_is_listed() -> None:
    """Each spelling of each flag is in the table."""
    command = cli.get_command(click.Context(cli), "generate")
    assert command is not None
    flags = {flag for parameter in command.params if isinstance(parameter, click.Option) for flag in parameter.opts}
    assert {flag for flag in flags if not re.search(rf"`{flag}[` ]", README)} == set()


def test_every_exit_code_is_listed() -> None:
    """The table has the codes of the error tree, success and interruption, and no other."""

    def codes(error: type[errors.LambdiffError]) -> set[int]:
        return {error.exit_code}.union(*(codes(child) for child in error.__subclasses__()))

    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert listed == codes(errors.LambdiffError) | {0}


def test_every_variable_is_listed() -> None:
    """Each LAMBDIFF_ variable that a user may set is in the table."""
    ours = {"LAMBDIFF_COMPLETE", "LAMBDIFF_STACK_SETTINGS"}  # click's, and what deploy tells its own CDK app
    source = Path(__file__).parents[2] / "src" / "lambdiff"
    read = {name for path in source.rglob("*.py") for name in re.findall(r"LAMBDIFF_[A-Z_]+[A-Z]", path.read_text())}
    assert {name for name in read if f"`{name}`" not in README} <= ours

"""errors.py: the tree and the table agree with the code."""

from __future__ import annotations

import re

import pytest

from lambdiff import errors


def subclasses(root: type) -> list[type]:
    """Every class below `root`, itself included."""
    return [root, *(each for child in root.__subclasses__() for each in subclasses(child))]


@pytest.mark.parametrize(
    "error", [each for each in subclasses(errors.LambdiffError) if each.__module__ == "lambdiff.errors"]
)
def test_the_drawn_tree_shows_every_error_with_its_exit_code(error: type[errors.LambdiffError]) -> None:
    """The tree at the top of the file is the code's."""
    assert re.search(rf"\b{error.__name__}\s+{error.exit_code}\b", errors.__doc__ or ""), error


def test_an_error_reads_as_message_and_fix() -> None:
    """Printed, an error says what is wrong and what to do."""
    assert str(errors.ConfigurationError("No region.", fix="Give --region.")) == "No region.\nGive --region."


def test_a_missing_extra_names_the_pip_line() -> None:
    """The fix can be pasted."""
    assert errors.MissingExtra("The engine", "local").fix == 'Install it: pip install "lambdiff[local]"'

"""errors.py: the tree in its docstring agrees with the code."""

from __future__ import annotations

import re

import pytest

from lambdiff import errors


def subclasses(root: type) -> list[type]:
    """`root` and all of its subclasses."""
    return [root, *(each for child in root.__subclasses__() for each in subclasses(child))]


@pytest.mark.parametrize(
    "error", [each for each in subclasses(errors.LambdiffError) if each.__module__ == "lambdiff.errors"]
)
def test_the_tree_shows_every_error_with_its_exit_code(error: type[errors.LambdiffError]) -> None:
    """The docstring lists the class with the right number."""
    assert re.search(rf"\b{error.__name__}\s+{error.exit_code}\b", errors.__doc__ or ""), error


def test_an_error_prints_message_and_fix() -> None:
    """The text of an error is what is wrong, and on the next line what to do."""
    assert str(errors.ConfigurationError("No region.", fix="Pass `region=`.")) == "No region.\nPass `region=`."


def test_a_missing_extra_names_the_pip_line() -> None:
    """The fix is a command that can be pasted."""
    assert errors.MissingExtra("The engine", "local").fix == 'Install it: pip install "lambdiff[local]"'

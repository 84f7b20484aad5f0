"""The error classes: their documented tree, their messages and their fixes (errors.py)."""

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
    """The module's docstring lists each class with its exit code."""
    assert re.search(rf"\b{error.__name__}\s+{error.exit_code}\b", errors.__doc__ or ""), error


def test_an_error_prints_message_and_fix() -> None:
    """The first line says what is wrong, and the second what to do."""
    assert str(errors.ConfigurationError("No region.", fix="Pass `region=`.")) == "No region.\nPass `region=`."

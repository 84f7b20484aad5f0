"""The library's messages and docstrings name Python parameters, which the command line turns into flags."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

import lambdiff
from lambdiff.cli import COMMANDS, cli
from lambdiff.cli.flags import PARAMETER

SOURCES = Path(lambdiff.__file__).parent
PROGRAMS = r"\b(?:lambdiff [a-z]+|aws|cdk|docker|finch|npm|pip|podman)\b"
"""Programs whose command lines may contain flags."""


class Texts(ast.NodeVisitor):
    """Collects string literals with their line numbers; values inside f-strings become `{}`.

    Attributes:
        docstrings: literals that are statements.
        messages: all other literals.
    """

    def __init__(self) -> None:
        self.docstrings: list[tuple[int, str]] = []
        self.messages: list[tuple[int, str]] = []

    def visit_Expr(self, node: ast.Expr) -> None:
        """Record a docstring."""
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            self.docstrings.append((node.lineno, node.value.value))
        else:
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Record an f-string as one text."""
        parts = (str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        self.messages.append((node.lineno, "".join(parts)))
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.visit(part.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Record any other string."""
        if isinstance(node.value, str):
            self.messages.append((node.lineno, node.value))


def library() -> Iterator[tuple[str, ast.Module]]:
    """Yield the name and the syntax tree of each module outside cli/."""
    for path in sorted(SOURCES.rglob("*.py")):
        name = path.relative_to(SOURCES).as_posix()
        if not name.startswith("cli/"):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def library_texts(*, docstrings: bool) -> Iterator[tuple[str, str]]:
    """Yield the location and the text of each string literal outside cli/."""
    for name, tree in library():
        texts = Texts()
        texts.visit(tree)
        literals = [*texts.messages, *(texts.docstrings if docstrings else [])]
        yield from ((f"{name}:{line}", text) for line, text in literals)


def parameters() -> Iterator[click.Parameter]:
    """Yield the parameters of all commands."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield from command.params


def test_only_the_command_line_names_flags() -> None:
    """No text of the library names a flag, except in a command line that can be pasted.

    A string that consists of a flag only is an argument of another program.
    """
    ours = {flag for parameter in parameters() for flag in (*parameter.opts, *parameter.secondary_opts)}
    named = [
        f"{place}: {line.strip()}"
        for place, text in library_texts(docstrings=True)
        for line in text.splitlines()
        for match in re.finditer(r"(?<![\w-])--[a-z][a-z-]+", line)
        if match[0] in ours and match[0] != text and not re.search(PROGRAMS, line[: match.start()])
    ]
    assert named == []


def test_parameters_in_texts_exist() -> None:
    """Each parameter in backticks belongs to a public function or to a command."""
    public = {parameter.name for parameter in parameters()}
    for _, tree in library():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
                public |= {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    named = {(place, match[0]) for place, text in library_texts(docstrings=False) for match in PARAMETER.finditer(text)}
    assert {(place, token) for place, token in named if token[1:].partition("=")[0] not in public} == set()
    assert named

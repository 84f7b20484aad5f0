"""MkDocs hooks: parts of the pages that are generated from the code, so that they cannot go stale.

A comment on a line of its own marks the place of such a part:

    <!-- generated: commands -->      every command with its help, arguments and options, from click
    <!-- generated: overview -->      one line for each command
    <!-- generated: fields -->        the fields of a request, from the contract
    <!-- generated: problems -->      the kinds of problem document, from the contract
    <!-- generated: errors -->        every exception with its exit code, from the classes
    <!-- include: CHANGELOG.md -->    a file of the repository, its links adapted to the site
"""

from __future__ import annotations

import inspect
import posixpath
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from lambdiff.cli import cli
from lambdiff.errors import LambdiffError
from lambdiff.protocol.openapi import openapi
from lambdiff.protocol.problems import PROBLEMS

REPOSITORY: Final = Path(__file__).parents[1]
_MARKER: Final = re.compile(r"^<!-- (generated|include): (\S+) -->$", re.MULTILINE)
_LINK: Final = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace each marker of a page (MkDocs calls this by its name)."""

    def replace(marker: re.Match[str]) -> str:
        kind, what = marker.groups()
        if kind == "generated":
            return "\n".join(GENERATORS[what]())
        return include(REPOSITORY / what, page.file.src_uri)

    return _MARKER.sub(replace, markdown)


def overview() -> Iterator[str]:
    """A table of the commands."""
    yield from ("| command | purpose |", "|---|---|")
    for context in _commands():
        name = context.command_path
        yield f"| [`{name}`](cli.md#{name.replace(' ', '-')}) | {context.command.get_short_help_str(limit=200)} |"


def commands() -> Iterator[str]:
    """A section for each command."""
    for context in _commands():
        command = context.command
        pieces = " ".join(command.collect_usage_pieces(context))
        yield from (f"### {context.command_path} {{ #{context.command_path.replace(' ', '-')} }}", "")
        yield from ("```text", f"{context.command_path} {pieces}", "```", "")
        yield from _paragraphs(command.help or "")
        yield from _paragraphs(command.epilog or "")
        options = [each for each in command.params if isinstance(each, click.Option)]
        records = [record for option in options if (record := option.get_help_record(context))]
        if records:
            yield from ("| option | meaning |", "|---|---|")
            yield from (f"| {_code(flags)} | {_cell(text)} |" for flags, text in records)
        yield ""


def fields() -> Iterator[str]:
    """A table of the request's fields."""
    schema = openapi()["components"]["schemas"]["GenerateRequest"]
    yield from ("| field | type | limits | meaning |", "|---|---|---|---|")
    for name, field in schema["properties"].items():
        value = next((each for each in field.get("anyOf", []) if each.get("type") != "null"), field)
        limits = list(_limits(value))
        if name in schema["required"]:
            limits.append("required")
        elif field.get("default") is not None:
            limits.append(f"default `{field['default']}`")
        kind = value.get("type") or "string"
        yield f"| `{name}` | {kind} | {', '.join(limits)} | {field.get('description') or value['description']} |"


def _limits(field: dict[str, Any]) -> Iterator[str]:
    if "maximum" in field:
        yield f"{field['minimum']:,} to {field['maximum']:,}"
    if "multipleOf" in field:
        yield f"a multiple of {field['multipleOf']}"
    if "maxLength" in field:
        yield f"{field.get('minLength', 0)} to {field['maxLength']:,} characters"
    if "enum" in field:
        yield " ".join(f"`{each}`" for each in field["enum"])


def problems() -> Iterator[str]:
    """A table of the problem documents."""
    yield from ("| status | `type` | title |", "|---|---|---|")
    for slug, (status, title) in sorted(PROBLEMS.items(), key=lambda item: item[1][0]):
        yield f"| {status} | `urn:lambdiff:problem:{slug}` | {title} |"


def errors() -> Iterator[str]:
    """The tree of exceptions, and a section for each."""
    names = []

    def tree(error: type[LambdiffError], first: str, rest: str) -> Iterator[str]:
        names.append(error.__name__)
        yield f"{first + error.__name__:<32}{error.exit_code:>3}"
        # Packages refine some errors for themselves; those are not part of the public tree.
        children = [each for each in error.__subclasses__() if each.__module__ == LambdiffError.__module__]
        for child in children:
            last = child is children[-1]
            yield from tree(child, rest + ("└── " if last else "├── "), rest + ("    " if last else "│   "))

    yield from ("```text", *tree(LambdiffError, "", ""), "```", "")
    for name in names:
        yield from (f"::: lambdiff.{name}", "")


GENERATORS: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "commands": commands,
    "overview": overview,
    "fields": fields,
    "problems": problems,
    "errors": errors,
}


def include(source: Path, page: str) -> str:
    """The text of a file of the repository. Links lead to pages; a link to any other file becomes plain text."""

    def adapt(link: re.Match[str]) -> str:
        text, target = link.groups()
        if target.startswith(("#", "http://", "https://", "mailto:")):
            return link.group()
        path, _, anchor = target.partition("#")
        relative = posixpath.normpath((source.parent / path).relative_to(REPOSITORY).as_posix())
        if (REPOSITORY / "docs" / relative.lower()).is_file():  # ARCHITECTURE.md is included in docs/architecture.md
            relative = f"docs/{relative.lower()}"
        if relative.startswith("docs/") and relative.endswith(".md"):
            to = posixpath.relpath(relative.removeprefix("docs/"), posixpath.dirname(page) or ".")
            return f"[{text}]({to}{'#' if anchor else ''}{anchor})"
        return text

    return _LINK.sub(adapt, source.read_text(encoding="utf-8"))


def _commands() -> Iterator[click.Context]:
    parent = click.Context(cli, info_name="lambdiff")
    for name in cli.list_commands(parent):
        command = cli.get_command(parent, name)
        assert command is not None  # noqa: S101 (it was listed)
        yield click.Context(command, info_name=name, parent=parent)


def _paragraphs(help_text: str) -> Iterator[str]:
    """The paragraphs of a help text; those marked with a backspace keep their lines and are shown as commands."""
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        lines = paragraph.strip().splitlines()
        if not lines:
            continue
        if lines[0].strip() == "\b":
            yield from ("```sh", *textwrap.dedent("\n".join(lines[1:])).splitlines(), "```", "")
        else:
            yield from (*lines, "")


def _code(flags: str) -> str:
    return ", ".join(f"`{flag}`" for flag in flags.split(", "))


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")

"""Tests that the documentation agrees with the code."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import click
import pytest

from lambdiff import errors
from lambdiff.cli import COMMANDS, cli
from lambdiff.protocol import contract
from lambdiff.protocol.problems import PROBLEMS

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")

_spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
assert _spec is not None
assert _spec.loader is not None
hooks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hooks)


def test_every_command_has_a_section() -> None:
    """The command line reference has a section for each command and no other."""
    sections = re.findall(r"^### lambdiff (\S+) ", "\n".join(hooks.commands()), re.MULTILINE)
    assert sections == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_listed(name: str) -> None:
    """Each spelling of each option of a command is in its section."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    _, _, rest = "\n".join(hooks.commands()).partition(f"### lambdiff {name} ")
    section = rest.partition("\n### ")[0]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    spellings = {spelling for option in options for spelling in (*option.opts, *option.secondary_opts)}
    assert {each for each in spellings if not re.search(rf"{re.escape(each)}(?=[` ])", section)} == set()


def test_examples_of_a_help_text_are_code() -> None:
    """Lines that click keeps together become a block of code, and no backspace is left."""
    text = "\n".join(hooks.commands())
    assert '```sh\nlambdiff generate "a cat in a top hat" -o cat.png\n' in text
    assert "\b" not in text


def test_every_exit_code_is_listed() -> None:
    """The table lists the codes of the error tree and 0, and no others."""

    def codes(error: type[errors.LambdiffError]) -> set[int]:
        return {error.exit_code}.union(*(codes(child) for child in error.__subclasses__()))

    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGES["cli.md"], re.MULTILINE)}
    assert listed == codes(errors.LambdiffError) | {0}


def test_every_variable_is_listed() -> None:
    """Each LAMBDIFF_ variable that a user can set is in the table."""
    # click's, what deploy passes to its own CDK app, and what the stack sets for its own function
    internal = {"LAMBDIFF_BATCH_BUCKET", "LAMBDIFF_COMPLETE", "LAMBDIFF_METRICS", "LAMBDIFF_STACK_SETTINGS"}
    sources = (REPOSITORY / "src" / "lambdiff").rglob("*.py")
    read = {name for path in sources for name in re.findall(r"LAMBDIFF_[A-Z_]+[A-Z]", path.read_text())}
    assert {name for name in read if f"| `{name}` |" not in PAGES["configuration.md"]} <= internal


def test_every_field_and_problem_is_listed() -> None:
    """The tables of the wire contract are complete."""
    fields = re.findall(r"^\| `(\w+)`", "\n".join(hooks.fields()), re.MULTILINE)
    assert fields == list(contract.GenerateRequest.__struct_fields__)
    problems = re.findall(r"`urn:lambdiff:problem:([a-z-]+)`", "\n".join(hooks.problems()))
    assert sorted(problems) == sorted(PROBLEMS)


def test_every_error_is_documented() -> None:
    """The SDK reference lists each class of `lambdiff.errors` once in the tree and once as a section."""
    names = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)}
    text = "\n".join(hooks.errors())
    sections = re.findall(r"^::: lambdiff\.(\w+)$", text, re.MULTILINE)
    tree = re.findall(r"(\w+) +\d+$", text, re.MULTILINE)
    assert set(sections) == set(tree) == names
    assert len(sections) == len(tree) == len(names)


def test_every_dependency_has_a_reason() -> None:
    """Each package that can be installed with lambdiff is listed in the tables of dependencies."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(each for name in extras if name != "dev" for each in extras[name])]
    names = {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements}
    rows = "\n".join(line for line in PAGES["dependencies.md"].splitlines() if line.startswith("|"))
    assert {name for name in names if not re.search(rf"\b{name}\b", rows)} == set()
    assert {extra for extra in extras if f"| `{extra}` |" not in rows} == set()


def test_every_file_that_is_named_exists() -> None:
    """Each path of a test, a source file or a script in the documentation exists in the repository."""
    pattern = re.compile(r"\b((?:tests|training|docs|src|docker)/[\w./-]+\w)")
    named = {match for text in (*PAGES.values(), README) for match in pattern.findall(text)}
    assert len(named) > 10
    assert {path for path in named if not (REPOSITORY / path).exists()} == set()


def test_every_marker_is_known() -> None:
    """Each `generated` marker has a generator, and each `include` marker names a file."""
    markers = [match for text in PAGES.values() for match in re.findall(r"<!-- (\w+): (\S+) -->", text)]
    assert {what for kind, what in markers if kind == "generated"} == set(hooks.GENERATORS)
    assert all((REPOSITORY / what).is_file() for kind, what in markers if kind == "include")


def test_links_of_included_files_lead_to_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links in an included file lead to pages, including pages that are themselves included from the root."""
    monkeypatch.setattr(hooks, "REPOSITORY", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guide.md").touch()
    source = tmp_path / "NOTES.md"
    source.write_text(
        "[a](docs/deploy.md#permissions) [b](src/x.py) [c](https://example.org) [d](#here) [e](GUIDE.md#f)"
    )
    expected = "[a](deploy.md#permissions) b [c](https://example.org) [d](#here) [e](guide.md#f)"
    assert hooks.include(source, "notes.md") == expected


@pytest.mark.parametrize("text", [README, PAGES["quickstart.md"], PAGES["generate.md"], PAGES["deploy.md"]])
def test_no_block_writes_a_file_twice(text: str) -> None:
    """Blocks can be pasted in order: none writes a file that an earlier block has written, which would be refused."""
    blocks = "\n".join(re.findall(r"^```(?:sh|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    written = re.findall(r'(?:-o |save\(f?)"?([\w{}-]+\.(?:png|jpg|webp))', blocks)
    assert written
    assert len(written) == len(set(written))


def test_the_readme_has_the_lines_that_ci_runs() -> None:
    """The README has one line that installs and generates an image, and one that installs and runs the tests."""
    for what in ("lambdiff generate", "pytest"):
        assert len(re.findall(rf"^python3 -m venv .*{what}", README, re.MULTILINE)) == 1

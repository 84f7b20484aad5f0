"""The contributor documentation agrees with the code: paths, packages, decisions, workflows, metadata."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from lambdiff.infra import build_context

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "lambdiff"
DECISIONS = ROOT / "docs" / "decisions"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RECORDS = sorted(path for path in DECISIONS.glob("*.md") if path.name != "README.md")


def files_named(text: str) -> set[str]:
    """Return the words that look like paths: they contain a slash and end in a known suffix or a slash."""
    words = re.findall(r"(?<![\w./:<>@*-])\.?[\w-]+(?:/[\w.-]+)*(?:\.(?:py|md|toml|ya?ml|txt|json|ipynb|in)\b|/)", text)
    return {word for word in words if "/" in word and not word.startswith(("build/", "http"))}


def missing(named: set[str], *folders: Path) -> set[str]:
    """Return the names that exist in none of the folders."""
    return {name for name in named if not any((folder / name).exists() for folder in (ROOT, *folders))}


GUIDES = {name: (ROOT / name).read_text() for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")}


@pytest.mark.parametrize("guide", GUIDES)
def test_every_file_named_in_a_guide_exists(guide: str) -> None:
    """Paths exist relative to the repository or, in ARCHITECTURE.md, to the package."""
    named = files_named(GUIDES[guide]) | set(re.findall(r"`(\w+\.py)`", GUIDES[guide]))
    assert len(named) > 20
    assert missing(named, *([PACKAGE] if guide == "ARCHITECTURE.md" else [])) == set()


@pytest.mark.parametrize("guide", GUIDES)
def test_every_name_occurs_in_the_file_given_for_it(guide: str) -> None:
    """Wherever a guide says "`NAME` in `FILE`" or "`NAME` of `FILE`", the file contains the name."""
    pairs = re.findall(r"`(\w+)`\s+(?:in|of)\s+`([\w/]+\.py)`", GUIDES[guide])
    assert pairs
    for name, path in pairs:
        file = ROOT / path if (ROOT / path).exists() else PACKAGE / path
        assert re.search(rf"\b{name}\b", file.read_text()), (name, path)


def test_the_architecture_table_lists_every_package_in_the_order_of_the_contract() -> None:
    """The table lists the packages under src/lambdiff, each above those that it may import."""
    layers = next(each for each in PROJECT["tool"]["importlinter"]["contracts"] if each["id"] == "layers")["layers"]
    packages = [name for name in layers if (PACKAGE / name).is_dir()]
    assert set(packages) == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    table = GUIDES["ARCHITECTURE.md"].split("| package | promise |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)/` \|", table, re.MULTILINE) == packages
    ground = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py", "_version.py"}
    assert set(re.findall(r"`(\w+\.py)`", table)) == ground


def test_the_contract_of_the_image_names_what_the_image_contains() -> None:
    """The packages and modules that are copied into the image are those that may not import anything outside of it."""
    contract = next(each for each in PROJECT["tool"]["importlinter"]["contracts"] if each["id"] == "image")
    copied = {*build_context.IMAGE_PACKAGES, *(Path(name).stem for name in build_context.IMAGE_MODULES)} - {"__init__"}
    assert set(contract["source_modules"]) == {f"lambdiff.{name}" for name in copied}
    others = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith("__")} - copied - {"py"}
    assert {f"lambdiff.{name}" for name in others} <= set(contract["forbidden_modules"])


def test_every_make_target_that_is_named_exists() -> None:
    """`make NAME` in CONTRIBUTING.md is a target of the Makefile."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([\w-]+)`", GUIDES["CONTRIBUTING.md"]))
    assert named
    assert named <= targets


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_decision_is_numbered_and_names_files_that_exist(record: Path) -> None:
    """Each record has a heading, a date and three sections, and names no file that has moved."""
    text = record.read_text()
    assert re.match(rf"# {record.name[:4]}: .+\n\n20\d\d-\d\d-\d\d, accepted\n", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert missing(files_named(text)) == set()


def test_the_index_lists_every_decision_under_its_own_title() -> None:
    """The index has one row for each record, in order and numbered without gaps."""
    rows = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+) \|$", (DECISIONS / "README.md").read_text(), re.MULTILINE)
    titles = [path.read_text().splitlines()[0].removeprefix(f"# {path.name[:4]}: ") for path in RECORDS]
    assert rows == [(path.name[:4], path.name, title) for path, title in zip(RECORDS, titles, strict=True)]
    assert [int(number) for number, _, _ in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_names_tests_that_exist_and_pins_its_actions(workflow: Path) -> None:
    """Test paths exist, and each action is pinned to a commit with its version beside it, except PyPI's publisher."""
    text = workflow.read_text()
    named = set(re.findall(r"(?<![\w/])tests/[\w/.]+", text))
    assert named
    assert missing(named) == set()
    for action in re.findall(r"uses: (.+)", text):
        assert re.fullmatch(
            r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|pypa/gh-action-pypi-publish@release/v1", action
        )


def test_ci_runs_every_python_version_of_the_classifiers() -> None:
    """The test matrix lists the versions of the classifiers, and `requires-python` is the lowest of them."""
    classified = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["project"]["classifiers"]))
    ci = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    matrices = [re.findall(r"\d\.\d+", versions) for versions in re.findall(r"python: \[(.+)\]", ci)]
    assert classified in matrices
    assert PROJECT["project"]["requires-python"] == f">={classified[0]}"


def test_hooks_are_programs_of_the_dev_extra() -> None:
    """No hook repository is cloned: every hook runs a program from the virtual environment."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"- repo: (.+)", hooks) == ["local"]
    assert all(entry.startswith(".venv/bin/") for entry in re.findall(r"entry: (.+)", hooks))


def test_the_distributions_contain_a_notice_that_names_the_models_sources() -> None:
    """LICENSE and NOTICE are distributed, and NOTICE names the sources listed in the built-in model's own notice."""
    assert PROJECT["project"]["license-files"] == ["LICENSE", "NOTICE"]
    notice = (ROOT / "NOTICE").read_text()
    sources = re.findall(r"^From: (\S+ [\d.]+)", (PACKAGE / "local/builtin_model/NOTICE.txt").read_text(), re.MULTILINE)
    assert len(sources) == 2
    assert all(source in " ".join(notice.split()) for source in sources)

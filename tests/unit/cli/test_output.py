"""Names and formats of output files (cli/output.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambdiff.cli.output import OutputPlan, choose_format
from lambdiff.errors import InvalidRequest, OutputError


@pytest.mark.parametrize(
    ("out", "given", "chosen"),
    [
        (None, None, "png"),
        ("-", "webp", "webp"),
        ("a.JPG", None, "jpeg"),
        ("a.webp", "webp", "webp"),
        (None, "jpeg", "jpeg"),
    ],
)
def test_the_format_follows_the_name(out: str | None, given: str | None, chosen: str) -> None:
    """The format is that of the suffix, or else of the option, or else PNG."""
    assert choose_format(out, given) == chosen


@pytest.mark.parametrize(("out", "given"), [("a.gif", None), ("a", None), ("a.png", "jpeg")])
def test_names_without_a_usable_format_are_refused(out: str, given: str | None) -> None:
    """An unknown suffix, or one that contradicts the option, is refused before anything is generated."""
    with pytest.raises(InvalidRequest):
        choose_format(out, given)


@pytest.mark.parametrize(
    ("out", "count", "names"),
    [
        ("cat.png", 1, ["cat.png"]),
        ("cat.png", 3, ["cat-1.png", "cat-2.png", "cat-3.png"]),
        ("d/cat-{seed}.webp", 2, ["d/cat-7.webp", "d/cat-8.webp"]),
        (None, 1, ["a-cat-in-a-top-hat.png"]),
        (None, 2, ["a-cat-in-a-top-hat-1.png", "a-cat-in-a-top-hat-2.png"]),
    ],
)
def test_files_are_numbered_or_named_by_seed_or_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str | None, count: int, names: list[str]
) -> None:
    """Files are numbered from one, `{seed}` is replaced, and without a name the prompt names the file."""
    monkeypatch.chdir(tmp_path)
    plan = OutputPlan(out, "A cat, in a TOP hat!", "png", count, force=False)
    assert [str(plan.path(i, 7 + i)) for i in range(count)] == names


def test_a_name_derived_from_the_prompt_never_replaces_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a file with the prompt's name exists, the next image gets a number."""
    monkeypatch.chdir(tmp_path)
    Path("a-cat.png").touch()
    assert str(OutputPlan(None, "a cat", "png", 1, force=False).path(0, 1)) == "a-cat-2.png"


def test_existing_files_are_refused_before_generating(tmp_path: Path) -> None:
    """If any of the names is taken, the command fails before generating."""
    (tmp_path / "cat-2.png").touch()
    with pytest.raises(OutputError, match=r"cat-2\.png"):
        OutputPlan(str(tmp_path / "cat.png"), "a cat", "png", 3, force=False).check([1, 2, 3])


def test_a_prompt_without_latin_letters_still_gets_a_name() -> None:
    """A prompt in another script gives the default name rather than an empty one."""
    assert str(OutputPlan(None, "猫", "jpeg", 1, force=False).path(0, 1)) == "image.jpg"

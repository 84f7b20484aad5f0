"""Names and formats of output files (cli/output.py)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdiff.cli.output import OutputPlan, check_target, choose_format, open_in_viewer, slug
from lambdiff.client.image import GeneratedImage
from lambdiff.errors import InvalidRequest, OutputError
from lambdiff.files import is_device_name
from support.foreign_images import png


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


def test_a_name_that_is_taken_meanwhile_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another command takes the name after the check, the image gets the next free one; `-o` names exactly one."""
    monkeypatch.chdir(tmp_path)
    image = GeneratedImage(b"bytes", format="png", model="", engine="", timings={}, warnings=[])
    for count, names in ((1, ["a-cat-3.png"]), (2, ["a-cat-3.png", "a-cat-4.png"])):
        plan = OutputPlan(None, "a cat", "png", count, force=False)
        plan.check([1] * count)
        taken = [Path("a-cat.png"), Path("a-cat-1.png"), Path("a-cat-2.png")]
        for path in taken:
            path.touch()
        written = [plan.write(image, index, 1) for index in range(count)]
        assert written == names
        for path in (*taken, *map(Path, written)):
            path.unlink()
    exact = OutputPlan("cat.png", "a cat", "png", 1, force=False)
    Path("cat.png").touch()
    with pytest.raises(OutputError, match="already exists"):
        exact.write(image, 0, 1)


@pytest.mark.parametrize(
    ("prompt", "stem"),
    [
        ("猫", "image"),
        ("", "image"),
        ("../../etc/passwd", "etc-passwd"),
        ("-rf *", "rf"),
        (".hidden", "hidden"),
        ("a/b\\c:d|e?f*g<h>i", "a-b-c-d-e-f-g-h-i"),
        ("\u202egnp.tac\u200b", "gnp-tac"),
        ("café, größer", "cafe-grosser"),
        ("cafe\u0301", "cafe"),
        (
            "\N{FULLWIDTH LATIN SMALL LETTER C}\N{FULLWIDTH LATIN SMALL LETTER O}\N{FULLWIDTH LATIN SMALL LETTER N}",
            "con-image",
        ),
        ("con", "con-image"),
        ("NUL.", "nul-image"),
        ("Aux ", "aux-image"),
        ("com1", "com1-image"),
        ("com¹", "com1-image"),
        ("lpt9!", "lpt9-image"),
        ("conin$", "conin"),
        ("console", "console"),
        ("x" * 300, "x" * 60),
        ("é" * 300, "e" * 60),
        ("😀 🐱", "image"),
        ("trailing dots... ", "trailing-dots"),
        ("two\nlines", "two-lines"),
        ("\ud800 lone", "lone"),
    ],
)
def test_names_from_prompts_are_safe_everywhere(prompt: str, stem: str) -> None:
    """No prompt gives a path, an option, a hidden file, a device of Windows, or a name that is too long."""
    assert slug(prompt) == stem
    name = OutputPlan(None, prompt, "jpeg", 1, force=True).path(0, 1).name
    assert name == f"{stem}.jpg"
    assert not is_device_name(name)


@given(st.text(max_size=100))
def test_any_prompt_gives_a_name(prompt: str) -> None:
    """Every name consists of letters, digits and hyphens."""
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,64}[a-z0-9])?", slug(prompt))


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is expanded, also where no shell has done it, and only at the beginning."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert check_target("~/x.png", force=False) == str(tmp_path / "x.png")
    assert check_target("a~/x.png", force=False) == "a~/x.png"
    assert check_target(None, force=False) is None


@pytest.mark.parametrize("out", [".", "..", "folder", "folder/", "no/such/", "~", "/"])
def test_a_folder_is_not_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    """The message says that it is a folder, and the fix shows a name in it."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(OutputError, match="is a folder") as caught:
        check_target(out, force=False)
    assert "cat.png" in caught.value.fix
    with pytest.raises(click.UsageError):
        check_target(" ", force=False)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_an_image_is_not_shown_without_a_display(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--open` says that there is no display, and `show` raises."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    open_in_viewer("cat.png")
    assert "there is no display" in capsys.readouterr().err
    image = GeneratedImage(png(), format="png", model="", engine="", timings={}, warnings=[])
    with pytest.raises(OutputError, match="no display"):
        image.show()

"""What a batch writes at its end on request, and the arguments of `lambdiff.batch`."""

from __future__ import annotations

import pytest
from PIL import Image
from pyarrow import parquet

import lambdiff
from lambdiff.batches import sheet, table
from lambdiff.batches.api import batch
from lambdiff.errors import InvalidRequest, MissingExtra


def test_a_sheet_shows_each_image_with_room_for_its_number(tmp_path):
    """Images are scaled down onto pages; one that cannot be read leaves its place blank."""
    Image.new("RGB", (64, 32), "red").save(tmp_path / "1.png")
    Image.new("RGB", (400, 800), "blue").save(tmp_path / "2.png")
    (page,) = sheet.write_sheets(tmp_path, [(1, "1.png"), (2, "2.png"), (3, "missing.png")])
    pixels = Image.open(page)
    assert pixels.size == (2 * (sheet.SIDE + 8) + 8, 2 * (sheet.SIDE + 24) + 8)
    center = 8 + sheet.SIDE // 2
    assert pixels.getpixel((center, center)) == (255, 0, 0)
    assert pixels.getpixel((center + sheet.SIDE + 8, center)) == (0, 0, 255)
    assert pixels.getpixel((center, center + sheet.SIDE + 24)) == (255, 255, 255)


def test_many_images_take_several_pages(tmp_path):
    """A page has at most a hundred images."""
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    pages = sheet.write_sheets(tmp_path, [(number, "1.png") for number in range(sheet.PER_PAGE + 1)])
    assert [page.name for page in pages] == ["sheet-1.png", "sheet-2.png"]


def test_a_table_has_every_column_of_any_record(tmp_path):
    """Missing values are null, and a column of several types becomes text."""
    path = table.write_parquet(tmp_path, [{"a": 1, "mixed": 1}, {"a": 2, "b": "x", "mixed": "one"}])
    assert parquet.read_table(path).to_pylist() == [
        {"a": 1, "mixed": "1", "b": None},
        {"a": 2, "mixed": "one", "b": "x"},
    ]


def test_a_missing_library_is_named_before_anything_is_generated(tmp_path, monkeypatch):
    """Without pyarrow the extra is named, and no folder is made."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        batch(["a cat"], tmp_path / "out", local=True, parquet=True)
    assert caught.value.extra == "batch"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("a cat\na dog", {}, "`prompts=` is text"),
        ({"prompt": "a cat"}, {}, "must be the path of a file or a list, not dict"),
        (5, {}, "must be the path of a file or a list, not int"),
        (["a cat"], {"carry": ["x"]}, "are for files"),
        (["a cat"], {"n": 0}, "`n=` must be a whole number"),
        (["a cat"], {"retries": -1}, "`retries=` must be"),
        (["a cat"], {"max_workers": 0}, "`max_workers=` must be"),
        ("missing.csv", {}, "cannot be read"),
    ],
)
def test_bad_arguments_are_named(tmp_path, prompts, options, message):
    """Mistakes are found before the folder is made."""
    with pytest.raises(InvalidRequest) as caught:
        lambdiff.batch(prompts, tmp_path / "out", local=True, **options)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()

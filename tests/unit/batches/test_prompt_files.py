"""Reading files of prompts row by row."""

from __future__ import annotations

import json
import os
import tracemalloc

import pytest

from lambdiff.batches.prompt_files import MAX_LINE, PromptFile
from lambdiff.errors import InvalidRequest


def rows(path, content, **options):
    """Return the rows of a file with this content."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(PromptFile(path, **options).rows())


def test_text_has_one_prompt_a_line(tmp_path):
    """Blank lines count for the numbers, and white space around a prompt is removed."""
    found = rows(tmp_path / "p.txt", "a cat\n\n  a dog \r\na fox")
    assert [(row.line, row.fields) for row in found] == [
        (1, {"prompt": "a cat"}),
        (3, {"prompt": "a dog"}),
        (4, {"prompt": "a fox"}),
    ]


def test_json_lines_keep_their_types_and_other_columns(tmp_path):
    """Parameters and other keys are told apart, and values stay what they are."""
    (row,) = rows(tmp_path / "p.jsonl", '{"prompt": "a cat", "seed": 7, "id": {"a": [1]}, "score": 0.5}\n')
    assert row.fields == {"prompt": "a cat", "seed": 7}
    assert row.extra == {"id": {"a": [1]}, "score": 0.5}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "is not JSON"),
        ("[1]", "must be a JSON object"),
        ('{"prompt": "a", "prompt": "b"}', "a field occurs twice"),
        ('{"prompt": "a", "seed": NaN}', "is not a JSON number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_json_line_does_not_hide_the_others(tmp_path, line, problem):
    """A line that is no object is a problem of its own row."""
    first, bad, last = rows(tmp_path / "p.ndjson", f'{{"prompt": "a"}}\n{line}\n{{"prompt": "b"}}\n')
    assert (first.fields, last.fields) == ({"prompt": "a"}, {"prompt": "b"})
    assert bad.line == 2
    assert problem in bad.problems[0][1]


def test_csv_reads_numbers_quotes_and_empty_cells(tmp_path):
    """Numbers become numbers, an empty cell is left out, and a quoted value may have commas and line breaks."""
    content = 'prompt,seed,guidance_scale,id,note\n"a cat, big",7,2.5,c1,\n"a\ndog",,,d,"x ""y"""\n\na fox,1e3,nan,,\n'
    cat, dog, fox = rows(tmp_path / "p.csv", content)
    assert cat.fields == {"prompt": "a cat, big", "seed": 7, "guidance_scale": 2.5}
    assert cat.extra == {"id": "c1", "note": ""}
    assert (dog.line, dog.fields, dog.extra) == (3, {"prompt": "a\ndog"}, {"id": "d", "note": 'x "y"'})
    assert (fox.line, fox.fields) == (6, {"prompt": "a fox", "seed": 1000.0, "guidance_scale": "nan"})


def test_tabs_separate_values_of_tsv(tmp_path):
    """A .tsv file has tabs instead of commas."""
    (row,) = rows(tmp_path / "p.tsv", "prompt\tseed\na cat, big\t7\n")
    assert row.fields == {"prompt": "a cat, big", "seed": 7}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no header"),
        ("a cat\na dog\n", "has no column `prompt`"),
        ("prompt,seed,seed\na,1,2\n", "more than one column seed"),
        ("prompt,steps\na,1\n", "column steps is not a parameter; did you mean num_inference_steps?"),
        ("promt,id\na,1\n", "did you mean prompt?"),
        ("prompt,size\na,1\n", "did you mean width and height?"),
    ],
)
def test_a_header_is_checked(tmp_path, content, message):
    """Without a usable header nothing is read, and no misspelled parameter is silently carried along."""
    with pytest.raises(InvalidRequest) as caught:
        rows(tmp_path / "p.csv", content)
    assert message in str(caught.value)


def test_a_column_can_be_carried_along_on_request(tmp_path):
    """What resembles a parameter is carried along if the caller says so."""
    (row,) = rows(tmp_path / "p.csv", "prompt,steps\na,many\n", carried=frozenset({"steps"}))
    assert row.extra == {"steps": "many"}


def test_rows_with_too_many_values_and_bad_quotes_are_problems(tmp_path):
    """A row that does not fit the columns names its line, and so does one whose quotes are wrong."""
    _, long, quote = rows(tmp_path / "p.csv", 'prompt,id\na,1\nb,2,3\n"c"x,1\n')
    assert (long.line, long.problems) == (3, (("", "has 3 values, but there are 2 columns"),))
    assert quote.line == 4
    assert "is not valid CSV" in quote.problems[0][1]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_names_the_encoding(tmp_path, encoding):
    """Files as Windows programs write them are read."""
    (row,) = rows(tmp_path / "p.csv", "prompt\nein Kätzchen 🐈\n".encode(encoding))
    assert row.fields == {"prompt": "ein Kätzchen 🐈"}


def test_invalid_bytes_become_no_prompt(tmp_path):
    """Bytes that are no UTF-8 are kept as surrogates, which the validation of requests refuses."""
    (row,) = rows(tmp_path / "p.txt", b"a caf\xe9\n")
    assert row.fields == {"prompt": "a caf\udce9"}


def test_a_huge_line_neither_fills_the_memory_nor_hides_the_next(tmp_path):
    """A line that is too long is a problem, and takes no more memory than the longest allowed one."""
    path = tmp_path / "p.txt"
    path.write_bytes(b"x" * (40 * MAX_LINE) + b"\na cat\n")
    tracemalloc.start()
    long, cat = PromptFile(path).rows()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "has more than 1,048,576 characters" in long.problems[0][1]
    assert (cat.line, cat.fields) == (2, {"prompt": "a cat"})
    assert peak < 12 * MAX_LINE


def test_rows_are_read_one_by_one(tmp_path):
    """Memory does not grow with the number of rows."""
    path = tmp_path / "p.jsonl"
    line = json.dumps({"prompt": "a cat", "note": "x" * 100})
    path.write_text(f"{line}\n" * 50_000)
    tracemalloc.start()
    assert sum(1 for _ in PromptFile(path).rows()) == 50_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size / 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.csv", "cannot be read"),
        ("p.xlsx", "does not say how the file is written"),
        ("folder.csv", "cannot be read"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, name, message):
    """A missing file, a folder and an unknown suffix are named."""
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InvalidRequest, match=message):
        PromptFile(tmp_path / name)


@pytest.mark.linux
def test_a_pipe_is_refused(tmp_path):
    """A file is read twice, which a pipe cannot be."""
    os.mkfifo(tmp_path / "p.txt")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        PromptFile(tmp_path / "p.txt")

"""`lambdiff batch` on the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from lambdiff.cli import cli
from lambdiff.cli import main as run_main


def run(capfd, *arguments):
    """Run the command, and return its exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as ended:
        run_main(["batch", *map(str, arguments)])
    captured = capfd.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.mark.engine
def test_a_file_becomes_images_and_the_next_run_makes_none(tmp_path, capfd):
    """Results go to stdout, the summary to stderr, and what is there is not made again."""
    (tmp_path / "p.csv").write_text("prompt,num_inference_steps,id\na cat,1,c\na dog,1,d\n")
    arguments = (tmp_path / "p.csv", "-o", tmp_path / "out", "--local", "--sheet")
    code, out, err = run(capfd, *arguments)
    assert (code, out.strip()) == (0, str(tmp_path / "out"))
    assert "2 generated, 0 already there, 0 failed" in err
    assert (tmp_path / "out" / "sheet-1.png").exists()
    code, out, _ = run(capfd, *arguments, "--json")
    report = json.loads(out)
    assert (code, report["images"], report["generated"], report["already_there"]) == (0, 2, 0, 2)


@pytest.mark.engine
def test_bad_rows_are_reported_with_their_lines_and_flags(tmp_path, capfd):
    """The exit code is that of a usage error, and a misspelled column says which flag keeps it."""
    (tmp_path / "p.csv").write_text("prompt,width\na cat,100\n")
    code, _, err = run(capfd, tmp_path / "p.csv", "-o", tmp_path / "out", "--local")
    assert code == 2
    assert "line 2: width must be a multiple of 8 in 64..1024, not 100" in err
    (tmp_path / "p.csv").write_text("prompt,steps\na cat,4\n")
    code, _, err = run(capfd, tmp_path / "p.csv", "-o", tmp_path / "out", "--local")
    assert code == 2
    assert "did you mean num_inference_steps? (--carry keeps it as it is)" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.engine
def test_prompts_come_through_stdin(tmp_path):
    """With - the prompts are read from stdin, one a line."""
    arguments = ["batch", "-", "-o", str(tmp_path / "out"), "--local", "--steps", "1", "--alternatives", "--quiet"]
    result = CliRunner().invoke(cli, arguments, input="a {red|green} hat\n")
    assert result.exception is None
    assert len(list((tmp_path / "out").glob("*.png"))) == 2

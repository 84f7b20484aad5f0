"""The command `lambdiff bake` (cli/bake.py)."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner

from lambdiff.cli.bake import bake as command
from lambdiff.errors import OutputError
from support import tiny_pipeline

pytestmark = pytest.mark.engine


def test_calibration_prompts_are_read_from_a_file(tmp_path, monkeypatch):
    """The file has one prompt per line, with or without a byte-order mark; it must be in UTF-8."""
    monkeypatch.setattr(
        "lambdiff.bake.bake.bake", lambda *_, **settings: (_ for _ in ()).throw(OutputError(str(settings)))
    )
    source = tiny_pipeline.folder()
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa cat\n\n  a dog \n".encode())
    arguments = [str(source), "-o", str(tmp_path / "out"), "--precision", "w8a8", "--calibration", str(file)]
    assert "('a cat', 'a dog')" in str(CliRunner().invoke(command, arguments).exception)
    file.write_bytes("ein Löwe".encode("latin-1"))
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "UTF-8" in result.output


def test_the_result_goes_to_stdout_and_progress_to_stderr(tmp_path):
    """The command prints one line, or the manifest as JSON, on stdout, and progress on stderr."""
    source = str(shutil.copytree(tiny_pipeline.folder(), tmp_path / "source"))
    result = CliRunner().invoke(command, [source, "-o", str(tmp_path / "a"), "--engine", "diffusers"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path / 'a'}: source, diffusers, f32, ")
    assert "hashing" in result.stderr
    result = CliRunner().invoke(command, [source, "-o", str(tmp_path / "b"), "--engine", "diffusers", "--json"])
    assert json.loads(result.stdout)["name"] == "source"


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--lora", "detail.safetensors", "('detail.safetensors', 1.0)"),
        ("--lora", "detail.safetensors:0.7", "('detail.safetensors', 0.7)"),
        ("--lora", "detail.safetensors:-1", "('detail.safetensors', -1.0)"),
        ("--lora", "a:b.safetensors", "('a:b.safetensors', 1.0)"),
        ("--lora", "C:\\loras\\detail.safetensors", "('C:\\\\loras\\\\detail.safetensors', 1.0)"),
        ("--embedding", "style.safetensors", "(None, 'style.safetensors')"),
        ("--embedding", "<my style>=style.safetensors", "('<my style>', 'style.safetensors')"),
    ],
)
def test_files_have_weights_and_names(tmp_path, monkeypatch, option, value, expected):
    """A LoRA's weight follows its path, and an embedding's name comes before; a file with such a name is a file."""
    monkeypatch.setattr(
        "lambdiff.bake.bake.bake", lambda *_, **settings: (_ for _ in ()).throw(OutputError(str(settings)))
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["model.safetensors", "-o", "out", option, value]
    assert expected in str(CliRunner().invoke(command, arguments).exception)


def test_a_weight_must_be_a_number(tmp_path):
    """What follows the path of an existing file must be a number."""
    (tmp_path / "detail.safetensors").touch()
    arguments = ["model.safetensors", "-o", str(tmp_path / "out"), "--lora", f"{tmp_path}/detail.safetensors:much"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "--lora must end in a weight such as 0.8, not 'much'." in result.output

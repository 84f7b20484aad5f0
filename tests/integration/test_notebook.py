"""The SDK in a notebook with a real kernel, and in IPython in a terminal."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.engine

CODE = """
import lambdiff
image = lambdiff.generate("a cat in a top hat", seed=7, num_inference_steps=4, width=128, height=128)
image
"""
BATCH = """
with lambdiff.Client() as client:
    batch = client.generate_many(["a cat"], n=2, seed=7, num_inference_steps=1, width=128, height=128)
batch
"""


def test_a_cell_shows_progress_and_then_the_result() -> None:
    """A cell displays the image or the grid of a batch; the progress bar counts to the end and disappears."""
    cells = [nbformat.v4.new_code_cell(code) for code in (CODE, BATCH)]
    updates: list[list[str]] = [[], []]

    class Watching(NotebookClient):
        def process_message(self, msg, cell, cell_index):  # type: ignore[no-untyped-def]
            if msg["msg_type"] in ("display_data", "update_display_data"):
                updates[cell_index].append(msg["content"]["data"]["text/html"])
            return super().process_message(msg, cell, cell_index)

    notebook = nbformat.v4.new_notebook(cells=cells)
    Watching(notebook, timeout=120, kernel_name="python3").execute()
    one, many = [
        next(output for output in cell.outputs if output.output_type == "execute_result") for cell in notebook.cells
    ]
    assert one.data["image/png"].startswith("iVBOR")
    assert "seed=7" in one.data["text/plain"]
    assert "loading the model" in updates[0][0]
    assert "step 4 of 4" in updates[0][-2]
    assert updates[0][-1] == ""
    assert many.data["text/html"].count("<img ") == 2
    assert many.data["text/plain"] == "<Batch: 2 images>"
    assert "2 of 2" in updates[1][-2]
    assert updates[1][-1] == ""


def test_forked_processes_show_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Only the kernel's own process can send anything to the notebook; ipykernel warns about each attempt of others."""
    code = """
import lambdiff, multiprocessing
def generate(seed):
    return lambdiff.generate("a cat", seed=seed, num_inference_steps=1, width=128, height=128).seed
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(generate, [3, 4]))
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert [output.text for output in notebook.cells[0].outputs if output.output_type == "stream"] == ["[3, 4]\n"]
    assert "fork" not in capfd.readouterr().err


def test_ipython_in_a_terminal_shows_no_markup() -> None:
    """The shell of a terminal is not mistaken for a notebook."""
    code = "import lambdiff; print(lambdiff.generate('a cat', seed=7, num_inference_steps=1))"
    command = [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.strip().startswith("<GeneratedImage ")
    assert "progress" not in ran.stdout + ran.stderr

"""The SDK in a notebook with a real kernel."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.engine

CODE = """
import lambdiff
image = lambdiff.generate("a cat in a top hat", seed=7, num_inference_steps=4)
image
"""


def test_a_cell_shows_progress_and_then_the_image() -> None:
    """A cell displays the image and its `repr`; the progress bar counts to the last step and disappears."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    updates: list[str] = []

    class Watching(NotebookClient):
        def process_message(self, msg, cell, cell_index):  # type: ignore[no-untyped-def]
            if msg["msg_type"] == "update_display_data":
                updates.append(msg["content"]["data"]["text/html"])
            return super().process_message(msg, cell, cell_index)

    Watching(notebook, timeout=120, kernel_name="python3").execute()
    (shown,) = [output for output in notebook.cells[0].outputs if output.output_type == "execute_result"]
    assert shown.data["image/png"].startswith("iVBOR")
    assert "seed=7" in shown.data["text/plain"]
    assert "step 4 of 4" in updates[-2]
    assert updates[-1] == ""

"""Which notebooks are recognized, and what they show (client/notebook.py)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.interactiveshell import InteractiveShell
from IPython.terminal.interactiveshell import TerminalInteractiveShell

from lambdiff.client import notebook
from lambdiff.client.client import Client
from support.stub_engine import StubEngine
from support.stub_transport import StubTransport


class ColabShell(ZMQInteractiveShell):
    """Colab's `google.colab._shell.Shell`, like those of Databricks and Spyder, is such a subclass."""


class PyodideShell(InteractiveShell):
    """JupyterLite's and xeus' shells know their kernel."""

    kernel = object()


class DatabricksShell(InteractiveShell):
    """A shell of its own in an older runtime."""


class EmbeddedShell(TerminalInteractiveShell):
    """IPython in a terminal, embedded or of an editor's console."""


Recognized = Callable[[type[InteractiveShell] | None], bool]


@pytest.fixture
def recognized(monkeypatch: pytest.MonkeyPatch) -> Recognized:
    """Ask whether a shell is a notebook's."""

    def recognized(shell: type[InteractiveShell] | None) -> bool:
        running = None if shell is None else shell.__new__(shell)
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: running))
        return notebook._in_ipython_notebook()

    return recognized


@pytest.mark.parametrize("shell", [ZMQInteractiveShell, ColabShell, PyodideShell])
def test_shells_of_notebooks_are_recognized(recognized: Recognized, shell: type[InteractiveShell]) -> None:
    """Jupyter, VS Code and Kaggle use ipykernel's shell; others have subclasses, or a shell with a kernel."""
    assert recognized(shell)


def test_a_databricks_notebook_is_recognized(recognized: Recognized, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runtime sets a variable; a terminal on the same machine stays a terminal."""
    assert not recognized(DatabricksShell)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")
    assert recognized(DatabricksShell)
    assert not recognized(TerminalInteractiveShell)
    assert not recognized(None)


@pytest.mark.parametrize("shell", [TerminalInteractiveShell, EmbeddedShell, InteractiveShell, None])
def test_other_shells_are_not(recognized: Recognized, shell: type[InteractiveShell] | None) -> None:
    """IPython in a terminal, a program that embeds it, and a program that has only imported it show nothing."""
    assert not recognized(shell)


def test_an_ipython_that_is_being_imported_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module without its functions yet is no error."""
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    assert not notebook._in_ipython_notebook()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What a cell shows, one entry for each change, instead of IPython's display."""
    contents: list[dict[str, str]] = []

    def display(content: dict[str, str], **options: Any) -> Any:
        assert options == {"raw": True, "display_id": True}
        contents.append(content)
        return SimpleNamespace(update=lambda content, raw: contents.append(content))

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: ColabShell.__new__(ColabShell)))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))  # type: ignore[arg-type]
    return contents


def test_a_cell_shows_steps_and_then_the_warnings(shown: list[dict[str, str]]) -> None:
    """The bar counts the steps and gives way to the warnings, in which no markup is active."""
    engine = StubEngine(warnings=("<b>blank</b>\x1b[2J", "another"))
    Client(transport=StubTransport(engine)).generate("a", num_inference_steps=2)
    texts = [content["text/html"] for content in shown]
    assert texts[0].startswith("<progress></progress> generating, ")
    assert texts[1].startswith('<progress value="0.500"></progress> step 1 of 2, ')
    assert texts[2].startswith('<progress value="1.000"></progress> step 2 of 2, ')
    assert texts[3] == "<div>Note: &lt;b&gt;blank&lt;/b&gt;\\x1b[2J</div><div>Note: another</div>"
    assert shown[3]["text/plain"] == "Note: <b>blank</b>\\x1b[2J\nNote: another"
    assert len(texts) == 4


def test_a_cell_counts_many_images(shown: list[dict[str, str]]) -> None:
    """A batch has one bar; equal warnings are shown once, and failures in the grid only."""
    client = Client(transport=StubTransport(StubEngine(warnings=("the same",))))
    client.generate_many(["a", {"prompt": "b", "width": 1024}], n=2, max_workers=1)
    texts = [content["text/html"] for content in shown]
    assert texts[0].startswith('<progress value="0.000"></progress> 0 of 4, generating')
    assert texts[2].startswith('<progress value="0.500"></progress> 2 of 4, generating')
    assert texts[-1] == "<div>Note: the same</div>"


def test_a_failure_leaves_no_bar(shown: list[dict[str, str]]) -> None:
    """After an exception the cell shows only its traceback."""
    with pytest.raises(ZeroDivisionError):
        Client(transport=StubTransport(StubEngine(error=ZeroDivisionError()))).generate("a")
    assert shown[-1] == {"text/html": "", "text/plain": ""}


def test_the_callers_callback_replaces_the_steps(shown: list[dict[str, str]]) -> None:
    """`on_step=` is called as everywhere; the warnings are shown all the same."""
    steps: list[int] = []
    client = Client(transport=StubTransport(StubEngine(warnings=("a warning",))))
    client.generate("a", num_inference_steps=2, on_step=lambda done, total: steps.append(done))
    assert steps == [1, 2]
    assert [content["text/html"] for content in shown][1:] == ["<div>Note: a warning</div>"]


def test_many_different_warnings_are_cut(shown: list[dict[str, str]]) -> None:
    """A cell is not flooded."""
    engine = StubEngine(warnings=tuple(f"warning {number}" for number in range(8)))
    Client(transport=StubTransport(engine)).generate("a")
    assert shown[-1]["text/plain"].splitlines()[4:] == ["Note: warning 4", "Note: ... and 3 other warnings"]

"""Opening the engine that a manifest names (engine/factory.py)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lambdiff.engine.diffusers import DiffusersEngine
from lambdiff.engine.factory import open_engine
from lambdiff.engine.openvino import OpenVinoEngine
from support import tiny_pipeline

pytestmark = pytest.mark.engine


@pytest.fixture
def folder():
    """A baked model folder."""
    return tiny_pipeline.baked(precision="f32")


def test_open_engine_follows_the_manifest(folder):
    """`open_engine` opens the engine that the manifest names, and reads no weights."""
    engine = open_engine(folder)
    assert isinstance(engine, OpenVinoEngine)
    assert not engine.loaded
    assert engine.precision == "f32"
    assert isinstance(open_engine(tiny_pipeline.baked("diffusers")), DiffusersEngine)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("openvino", "openvino", "local"), ("openvino", "tokenizers", "local"), ("diffusers", "torch", "diffusers")],
)
def test_a_missing_library_names_its_extra(name, module, extra):
    """If an engine's library is missing, the error names the extra to install."""
    code = (
        f"import sys; from pathlib import Path; sys.modules[{module!r}] = None; from lambdiff.engine import factory\n"
        "from lambdiff.errors import MissingExtra\n"
        f"try: factory.open_engine(Path({str(tiny_pipeline.baked(name))!r}))\n"
        "except MissingExtra as error: print(error.extra)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{extra}\n"

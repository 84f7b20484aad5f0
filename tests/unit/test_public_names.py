"""The names that the package exports (lambdiff/__init__.py)."""

from __future__ import annotations

import inspect
import pydoc

import pytest

import lambdiff
from lambdiff import errors
from lambdiff.bake.bake import bake


def test_every_exported_name_can_be_imported() -> None:
    """Each name in `__all__` has a value, and `dir` lists the same names."""
    for name in lambdiff.__all__:
        assert getattr(lambdiff, name) is not None
    assert sorted(dir(lambdiff)) == sorted(lambdiff.__all__)
    assert len(set(lambdiff.__all__)) == len(lambdiff.__all__)


def test_every_error_is_exported() -> None:
    """Every error class can be imported from `lambdiff`."""
    classes = {
        name for name, each in vars(errors).items() if inspect.isclass(each) and each.__module__ == "lambdiff.errors"
    }
    assert classes <= set(lambdiff.__all__)
    assert all(getattr(lambdiff, name) is getattr(errors, name) for name in classes)


@pytest.mark.parametrize("name", ["genrate", "Faliure", "client_", "_client"])
def test_a_misspelled_name_is_an_attribute_error(name: str) -> None:
    """The message names the module and the attribute, as Python's own does."""
    with pytest.raises(AttributeError, match=f"module 'lambdiff' has no attribute '{name}'"):
        getattr(lambdiff, name)


def test_help_of_bake_shows_the_values_of_every_choice() -> None:
    """`help(bake)` shows `Literal[...]`, not the name of an alias."""
    text = pydoc.plain(pydoc.render_doc(bake))
    assert "engine: Literal['openvino', 'diffusers'] = 'openvino'" in text
    assert "precision: Literal['auto', 'f32', 'f16', 'int8', 'w8a8'] = 'auto'" in text
    assert "inference_precision: Literal['auto', 'f32'] = 'auto'" in text

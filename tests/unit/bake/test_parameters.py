"""The parameters of `bake`: their types, defaults and validation (bake/parameters.py)."""

from __future__ import annotations

import inspect
import sys
import typing

import pytest

from lambdiff.bake import parameters
from lambdiff.bake.bake import bake
from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import Approximations
from lambdiff.errors import InvalidRequest, LambdiffError, MissingExtra
from lambdiff.installation import install_command
from lambdiff.protocol.contract import Defaults

PROMPTS = ("a cat", "a dog", "two hat", "the red hat", "a cat on blue", "a dog in a hat", "a background", "red dog")


def test_every_parameter_is_named_and_typed():
    """Each parameter of `bake` has a type, and all but source and destination are keyword-only."""
    signature = inspect.signature(bake)
    hints = typing.get_type_hints(bake)
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    assert kinds[:2] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2
    assert set(kinds[2:]) == {inspect.Parameter.KEYWORD_ONLY}
    assert {*hints} == {*signature.parameters, "return"}
    assert typing.Any not in hints.values()


def test_every_default_can_be_overridden():
    """`DefaultOverrides` has the fields of the contract's `Defaults`."""
    assert set(parameters.DefaultOverrides.__annotations__) == set(Defaults.__struct_fields__)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"static_shapes": False}, False),
        ({"native_size": (64, 64)}, False),
        ({"precision": "w8a8"}, False),
        ({"approximations": Approximations(guidance_interval=(0.0, 0.5))}, False),
        ({"engine": "diffusers"}, False),
    ],
    ids=["default", "explicit", "native-size", "w8a8", "interval", "diffusers"],
)
def test_static_shapes_are_the_default_where_they_are_faster(changes, expected):
    """Shapes are static by default; an explicit choice, w8a8, an interval, a native size or diffusers changes that."""
    usual = {
        "static_shapes": None,
        "engine": "openvino",
        "precision": "auto",
        "approximations": Approximations(),
        "native_size": None,
    }
    assert parameters.choose_static_shapes(**usual | changes) is expected


@pytest.mark.parametrize("static_shapes", [True, False])
def test_approximations_are_recorded(source, tmp_path, static_shapes):
    """The manifest records the approximations and shapes that were chosen at bake time."""
    manifest = bake(
        source,
        tmp_path / "out",
        guidance_interval=(0.0, 0.5),
        deepcache_interval=3,
        static_shapes=static_shapes,
        inference_precision="f32",
    )
    assert manifests.read(tmp_path / "out") == manifest
    assert manifest.approximations == Approximations(guidance_interval=(0.0, 0.5), deepcache_interval=3)
    assert (manifest.static_shapes, manifest.inference_precision) == (static_shapes, "f32")


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance_interval": (0.5, 0.5)},
        {"guidance_interval": (0.0, 1.5)},
        {"deepcache_interval": 0},
        {"calibration": PROMPTS},
        {"calibration": PROMPTS[:3], "precision": "w8a8"},
        {"calibration": PROMPTS[:1] * 8, "precision": "w8a8"},
        {"calibration": (), "precision": "w8a8"},
        {"deepcache_interval": 2, "engine": "diffusers"},
        {"static_shapes": True, "engine": "diffusers"},
        {"native_size": (64, 72)},
        {"defaults": {"num_inference_steps": 0}},
        {"defaults": {"widht": 64}},
    ],
)
def test_invalid_parameters_are_refused(source, tmp_path, settings):
    """An invalid parameter is refused before any work, with what it must be or a fix."""
    with pytest.raises(InvalidRequest) as caught:
        bake(source, tmp_path / "out", **settings)
    assert caught.value.fix or "must be" in caught.value.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", [{"precision": "int8"}, {"decoder": "tiny"}])
def test_conversion_parameters_are_refused_for_diffusers(source, tmp_path, settings):
    """The diffusers engine converts nothing, so parameters of the conversion are refused rather than ignored."""
    with pytest.raises(LambdiffError, match="keeps the files as they are"):
        bake(source, tmp_path / "out", engine="diffusers", **settings)


@pytest.mark.parametrize(("engine", "module"), [("openvino", "nncf"), ("openvino", "openvino"), ("diffusers", "torch")])
def test_a_missing_extra_names_the_command(source, tmp_path, monkeypatch, engine, module):
    """If a library is missing, the error contains the command that installs it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra) as caught:
        bake(source, tmp_path / "out", engine=engine)
    assert caught.value.fix == f"Install it: {install_command('bake')}"

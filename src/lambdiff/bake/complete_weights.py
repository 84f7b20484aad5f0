"""Every parameter of a model is in its files, in its shape and as floating-point numbers.

Checked by the headers of the files, which takes milliseconds, before anything is converted or copied. diffusers and
transformers would fill in random numbers for parameters that are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lambdiff.bake import empty_models, pipeline_folder, safetensors_file, weight_files
from lambdiff.bake.safetensors_file import Shape
from lambdiff.bake.weight_files import Weights
from lambdiff.errors import ModelError

_SHOWN: Final = 3
_FIX: Final = "Download or save the model again."
_FIX_PICKLE: Final = "Save the pipeline with safe_serialization=True and bake that."
_OLD_ATTENTION: Final = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names in autoencoders that were saved before diffusers 0.12, which it still reads."""


def check(folder: Path, index: Mapping[str, Any]) -> None:
    """Check the weights of every component of a pipeline.

    Args:
        folder: the pipeline's folder.
        index: the content of its `model_index.json`.

    Raises:
        ModelError: weights are missing, damaged, pickled or quantized, or do not fit the configuration.
    """
    for component in pipeline_folder.required_components(dict(index)):
        if not component.startswith(("scheduler", "tokenizer")):
            check_component(folder / component, index[component][1])


def check_component(folder: Path, class_name: str) -> None:
    """Check the weights of one component.

    Args:
        folder: the component's folder.
        class_name: its class in diffusers or transformers.

    Raises:
        ModelError: as `check`.
    """
    config = pipeline_folder.read_json(folder / "config.json")
    if config.get("quantization_config"):
        raise ModelError(f"{folder} is quantized, which is not supported.", fix="Bake the original weights.")
    weights = weight_files.choose_in(folder)
    if weights is None:
        raise ModelError(f"{folder} contains no weights.", fix=_FIX_PICKLE)
    if weights.pickled:
        raise ModelError(
            f"{folder / weights.names[0]} is a pickle, which can run code when it is read.", fix=_FIX_PICKLE
        )
    try:
        model = empty_models.make(class_name, config)
    except Exception as error:  # the libraries check their configurations in many ways
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{folder / 'config.json'} is not valid: {reason[:200]}", fix=_FIX) from None
    expected = {_plain(name): tuple(value.shape) for name, value in model.state_dict().items()}
    found = _read_shapes(folder, weights, expected)
    missing = expected.keys() - found.keys()
    if missing:
        raise ModelError(f"{folder} lacks {len(missing)} of the model's parameters: {_shown(missing)}.", fix=_FIX)
    if other := {name for name, shape in expected.items() if found[name] != shape}:
        name = min(other)
        raise ModelError(
            f"{folder} does not fit its configuration: {name} has the shape {found[name]}, not {expected[name]}.",
            fix=_FIX,
        )


def _read_shapes(folder: Path, weights: Weights, expected: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of the tensors that the model needs.

    Raises:
        ModelError: a file is missing or damaged, or a tensor is not stored as floating-point numbers.
    """
    shapes: dict[str, Shape] = {}
    for path in _files(folder, weights):
        file = safetensors_file.read(path)
        names = {_plain(name): name for name in file.shapes}
        file.check_numbers(name for plain, name in names.items() if plain in expected)
        shapes |= {plain: file.shapes[name] for plain, name in names.items()}
    return shapes


def _files(folder: Path, weights: Weights) -> list[Path]:
    """Return the files of the weights: those that the index of sharded weights names.

    Raises:
        ModelError: weights are sharded, and their index is missing or damaged.
    """
    indexes = [name for name in weights.names if name.endswith(".json")]
    if indexes:
        shards = pipeline_folder.read_json(folder / indexes[0], "weight_map")["weight_map"]
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise ModelError(f"{folder / indexes[0]} does not name the files of the weights.", fix=_FIX)
        return [folder / name for name in sorted(set(shards.values()))]
    if "-of-" in weights.names[0]:
        raise ModelError(f"{folder} lacks the index of its sharded weights.", fix=_FIX)
    return [folder / name for name in weights.names]


def _plain(name: str) -> str:
    """Return one name for a parameter that different versions of the libraries name differently."""
    parts = name.removeprefix("text_model.").split(".")
    if "attentions" in parts:
        parts = [_OLD_ATTENTION.get(part, part) for part in parts]
    return ".".join(parts)


def _shown(names: set[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(sorted(names)[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

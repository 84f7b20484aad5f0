"""The folder of the model that generates images on this machine."""

from __future__ import annotations

from pathlib import Path

from lambdiff import environment


def builtin_model_dir() -> Path:
    """Return the folder of the model that is part of the package."""
    return Path(__file__).parent / "builtin_model"


def default_model_dir() -> Path:
    """Return `LAMBDIFF_MODEL_DIR` if it is set, otherwise the built-in model's folder.

    Raises:
        ConfigurationError: the variable is not a path.
    """
    return environment.read_path("LAMBDIFF_MODEL_DIR") or builtin_model_dir()

"""The folder of the model that generates images on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def builtin_model_dir() -> Path:
    """Return the folder of the model that is part of the package."""
    return Path(__file__).parent / "builtin_model"


def default_model_dir() -> Path:
    """Return `LAMBDIFF_MODEL_DIR` if it is set, otherwise the built-in model's folder."""
    path = os.environ.get("LAMBDIFF_MODEL_DIR")
    return Path(path) if path else builtin_model_dir()

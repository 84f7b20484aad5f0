"""The model that ships inside the package, and the one that is used in this process when nothing is deployed."""

from __future__ import annotations

import os
from pathlib import Path


def builtin_model_dir() -> Path:
    """The model that ships inside the package."""
    return Path(__file__).parent / "builtin_model"


def folder() -> Path:
    """`LAMBDIFF_MODEL_DIR` if set, else `shipped`."""
    named = os.environ.get("LAMBDIFF_MODEL_DIR")
    return Path(named) if named else builtin_model_dir()

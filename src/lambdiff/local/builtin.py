"""The model that is used in this process when nothing is deployed."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """`LAMBDIFF_MODEL_DIR` if set, else the model that ships inside the package."""
    named = os.environ.get("LAMBDIFF_MODEL_DIR")
    return Path(named) if named else Path(__file__).parent / "builtin_model"

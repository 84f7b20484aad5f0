"""Wording that several commands share."""

from __future__ import annotations

from lambdiff import environment


def no_deployment() -> str:
    """Say that this machine generates because nothing is deployed, and with which model."""
    model = "the model in LAMBDIFF_MODEL_DIR" if environment.read_path("LAMBDIFF_MODEL_DIR") else "the built-in model"
    return f"No deployment is configured: using {model} on this machine."


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one.

    Example:
        >>> counted(1, "image"), counted(2_000, "image")
        ('1 image', '2,000 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

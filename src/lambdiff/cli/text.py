"""Wording that several commands share."""

from __future__ import annotations

from typing import Final

NO_DEPLOYMENT: Final = "No deployment is configured: using the built-in model on this machine."


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one.

    Example:
        >>> counted(1, "image"), counted(2_000, "image")
        ('1 image', '2,000 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

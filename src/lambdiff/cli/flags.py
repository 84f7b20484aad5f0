"""Spell Python parameters as flags of the command that runs.

Library code names the parameter, as in "Pass `region=`" or "add `force=True`", because its callers may be programs.
The command line replaces each such name with its own spelling: "Pass --region", "add --force".
"""

from __future__ import annotations

import re
from typing import Any, Final

import click

PARAMETER: Final = re.compile(r"`([a-z_]+)=([^`\n]*)`")
_TEXTS: Final = frozenset(
    {"credentials", "detail", "endpoint", "error", "failed", "fix", "notes", "reason", "region", "source", "summary"}
)
"""Fields of JSON reports that hold messages or sources."""


def with_flags(text: str, command: click.Command | None = None) -> str:
    """Replace each parameter in backticks with the flag of the same name. A name that is no flag of `command` stays.

    Args:
        text: a message, a fix, or the source of a setting.
        command: by default the command that runs; without one the text stays as it is.

    Example:
        >>> @click.command()
        ... @click.option("--memory", "memory_mb", type=int)
        ... @click.option("--force", is_flag=True)
        ... def deploy(**options): ...
        >>> with_flags("Pass `memory_mb=3008` or `force=True`, not `depth=`.", deploy)
        'Pass --memory 3008 or --force, not `depth=`.'
    """
    if command is None:
        context = click.get_current_context(silent=True)
        if context is None:
            return text
        command = context.command
    # By its own name, or by a spelling of its flag: `bench` takes several values of `num_inference_steps` as `steps`.
    parameters = {flag.lstrip("-").replace("-", "_"): each for each in command.params for flag in each.opts}
    parameters |= {parameter.name: parameter for parameter in command.params if parameter.name}

    def spell(match: re.Match[str]) -> str:
        parameter = parameters.get(match[1])
        return match[0] if parameter is None else _spell(parameter, match[2].strip("\"'")) or match[0]

    return PARAMETER.sub(spell, text)


def flag_of(parameter: click.Parameter) -> str:
    """Return the name of a parameter as a user types it."""
    return _long(parameter.opts) if isinstance(parameter, click.Option) else parameter.human_readable_name


def _spell(parameter: click.Parameter, value: str) -> str | None:
    """The parameter with its value, as a user types it; None if it has no flag for this value."""
    if not isinstance(parameter, click.Option):
        return flag_of(parameter)
    if not parameter.is_flag:
        return " ".join(filter(None, (_long(parameter.opts), value)))
    if value in ("", "True"):
        return _long(parameter.opts)
    return _long(parameter.secondary_opts) if value == "False" and parameter.secondary_opts else None


def _long(names: list[str]) -> str:
    """The first long spelling, or the first of all."""
    return next((name for name in names if name.startswith("--")), names[0])


def with_flags_in(document: Any) -> Any:
    """Apply `with_flags` to the messages and sources in a JSON document; prompts and log lines stay as they are."""
    return _visit(document, "")


def _visit(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _visit(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_visit(item, key) for item in value]
    return with_flags(value) if key in _TEXTS and isinstance(value, str) else value

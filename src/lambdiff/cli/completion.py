"""What a shell completes besides options: commands, deployments, models and files.

Nothing here calls AWS, imports a command or prints a message: a shell waits for the answer and has no place for errors.
"""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete, add_completion_class


@add_completion_class
class _Bash(BashComplete):
    """Completes the value in `--option=value`, which Bash passes as three words."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one to complete, and that word."""
        words, incomplete = super().get_completion_args()
        return [word for word in words if word != "="], incomplete.removeprefix("=")


@add_completion_class
class _Zsh(ZshComplete):
    """Completes the value in `--option=value`, which Zsh replaces as one word."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return the completions of the last word."""
        return _with_option(incomplete, super().get_completions(args, incomplete))


@add_completion_class
class _Fish(FishComplete):
    """Completes the value in `--option=value`, which Fish replaces as one word."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return the completions of the last word."""
        return _with_option(incomplete, super().get_completions(args, incomplete))


def _with_option(incomplete: str, items: list[CompletionItem]) -> list[CompletionItem]:
    option, equals, _ = incomplete.partition("=")
    if not (equals and option.startswith("--")):
        return items
    return [
        CompletionItem(f"{option}={each.value}", help=each.help) if each.type == "plain" else each for each in items
    ]


def starting(incomplete: str, known: dict[str, str]) -> list[CompletionItem]:
    """Return the known words that start as typed, each with the text that some shells show beside it."""
    return [CompletionItem(word, help=text) for word, text in known.items() if word.startswith(incomplete)]


def deployments(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a saved deployment."""
    from lambdiff import config
    from lambdiff.errors import LambdiffError

    try:
        saved = config.load().deployments
    except LambdiffError:
        return []
    return starting(incomplete, {name: deployment.region for name, deployment in saved.items()})


def models(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a model in the catalogue, or a folder."""
    return _models(incomplete, {})


def deployable_models(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete `built-in`, the name of a model in the catalogue, or a folder."""
    return _models(incomplete, {"built-in": "The model that comes with lambdiff."})


def files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a file name."""
    return [CompletionItem(incomplete, type="file")]


def _models(incomplete: str, more: dict[str, str]) -> list[CompletionItem]:
    from lambdiff.bake.catalogue import CATALOGUE

    # Click's script for Bash forgets the words before a folder.
    folders = [CompletionItem(incomplete, type="dir")]
    return folders + starting(incomplete, more | {name: entry.about for name, entry in CATALOGUE.items()})

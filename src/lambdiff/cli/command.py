"""Commands whose help is written in Markdown and whose errors name their flags."""

from __future__ import annotations

import inspect
import re
from typing import Any

import click

from lambdiff.cli.flags import with_flags
from lambdiff.errors import LambdiffError


class MarkdownHelp(click.Command):
    """A command whose indented paragraphs are code, as in Markdown: the terminal shows their lines as they are."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help text."""
        text = self.help
        self.help = re.sub(r"\n\n(?= )", "\n\n\b\n", inspect.cleandoc(text or ""))  # click rewraps others
        try:
            super().format_help_text(ctx, formatter)
        finally:
            self.help = text


class Command(MarkdownHelp):
    """A command of lambdiff."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; parameters that a library error names become the command's flags."""
        try:
            return super().invoke(ctx)
        except LambdiffError as error:
            error.message, error.fix = with_flags(error.message, self), with_flags(error.fix, self)
            raise

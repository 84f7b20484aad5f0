"""The command line: a group that imports a command's file only when that command runs.

Each command is a thin file of this package: it parses, calls the library, and prints. Results go to stdout, messages to
stderr.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Final

import click

from lambdiff._version import __version__
from lambdiff.cli.flags import with_flags
from lambdiff.errors import LambdiffError

# name -> (module:function, one line of help), so that `--help` needs none of the modules
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "generate": ("generate:generate", "Make a picture from a prompt."),
    "info": ("info:info", "Show the parameters inside a picture."),
    "configure": ("configure:configure", "Save an endpoint that somebody deployed."),
    "serve": ("serve:serve", "Run a Function URL on this machine."),
    "models": ("models:models", "List the models that can be baked."),
    "schema": ("schema:schema", "Print the OpenAPI document of an endpoint."),
    "deploy": ("deploy:deploy", "Put an endpoint into your AWS account."),
    "status": ("status:status", "Show a deployment and how it is doing."),
    "logs": ("logs:logs", "Print a deployment's log."),
    "doctor": ("doctor:doctor", "Find out what stands in the way of a deployment or a call."),
    "cost": ("cost:cost", "Work out what a picture and a month cost."),
    "bench": ("bench:bench", "Measure seconds and cents of a picture by steps, size and memory."),
    "warm": ("warm:warm", "Start environments before they are needed."),
    "rotate": ("rotate:rotate", "Replace a deployment's access key."),
    "destroy": ("destroy:destroy", "Take a deployment down."),
    "bake": ("bake:bake", "Turn a diffusion model into a folder an endpoint can serve."),
}


class LazyGroup(click.Group):
    """A click group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command, or None if there is no such name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"lambdiff.cli.{module}"), function)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of the library leaves it with the command's own flags."""
        try:
            return super().invoke(ctx)
        except LambdiffError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            if command is not None:
                error.message, error.fix = with_flags(error.message, command), with_flags(error.fix, command)
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lambdiff", message="%(prog)s %(version)s")
def cli() -> None:
    """Diffusion models on AWS Lambda, or on this machine.

    \b
    lambdiff generate "a cat in a top hat" -o cat.png
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with the code of the table in `errors.py`."""
    try:
        sys.exit(cli.main(args, prog_name="lambdiff", standalone_mode=False) or 0)
    except LambdiffError as error:
        click.echo(f"Error: {error.message}", err=True)
        if error.fix:
            click.echo(f"  {error.fix}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our stdout left; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def echo_json(value: Any) -> None:
    """Print `value` as one indented JSON document, the form of every `--json`."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))

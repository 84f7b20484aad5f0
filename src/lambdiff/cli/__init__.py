"""The command line: a group that imports the module of a command only when that command runs.

Each command is a thin module in this package: it parses, calls the library, and prints. Results go to stdout, messages
to stderr. Never imports boto3, requests, an engine or the CDK itself.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from lambdiff._version import __version__
from lambdiff.cli import completion
from lambdiff.cli.flags import with_flags, with_flags_in
from lambdiff.printable import printable_json

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from lambdiff.errors import LambdiffError

# name -> (module:function, the first line of its help), so that `--help` imports none of the modules
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "generate": ("generate:generate", "Generate an image from a prompt."),
    "batch": ("batch:batch", "Generate the images of many prompts into a folder."),
    "info": ("info:info", "Show the parameters stored in an image."),
    "configure": ("configure:configure", "Save an endpoint that is already deployed."),
    "endpoints": ("endpoints:endpoints", "List saved endpoints, choose the default one, or forget some."),
    "serve": ("serve:serve", "Run a Function URL on this machine."),
    "gateway": ("gateway:gateway", "Serve OpenAI's images API in front of an endpoint."),
    "ui": ("ui:ui", "Show a page that generates images, in your browser."),
    "mcp": (
        "mcp:mcp",
        "Offer a tool that generates images over the Model Context Protocol, on stdin and stdout.",
    ),
    "cache": ("cache:cache", "List or remove what can be made again."),
    "models": ("models:models", "List the models that `lambdiff bake` and `lambdiff deploy` know by name."),
    "schema": ("schema:schema", "Print the OpenAPI document of an endpoint."),
    "deploy": ("deploy:deploy", "Deploy a model to your AWS account."),
    "status": ("status:status", "Show the state of a deployment."),
    "logs": ("logs:logs", "Print the log of a deployment."),
    "doctor": ("doctor:doctor", "Find out what prevents a deployment or a call."),
    "cost": ("cost:cost", "Estimate what an image and a month cost."),
    "bench": ("bench:bench", "Measure latency and cost by steps, image size and memory."),
    "warm": ("warm:warm", "Start environments before they are needed."),
    "rotate": ("rotate:rotate", "Replace the access key of a deployment."),
    "destroy": ("destroy:destroy", "Delete a deployment."),
    "bake": ("bake:bake", "Convert a diffusion model to a folder that an endpoint can serve."),
}


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is no such name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"lambdiff.cli.{module}"), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown one, name the nearest."""
        if args[0] in COMMANDS or args[0].startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from lambdiff.errors import did_you_mean

        if " " in args[0].strip():  # a prompt
            raise click.UsageError("A command comes first. To generate an image: lambdiff generate PROMPT", ctx)
        raise click.UsageError(f"There is no command {args[0]!r}{did_you_mean(args[0], COMMANDS) or '.'}", ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command without importing any, or an option."""
        commands = completion.starting(incomplete, {name: text for name, (_, text) in COMMANDS.items()})
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; parameters that an error of the library names become the flags of this command."""
        from lambdiff.errors import LambdiffError, did_you_mean

        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            parameters = error.ctx.command.params if error.ctx else []
            flags = [flag for each in parameters for flag in (*each.opts, *each.secondary_opts) if flag[:2] == "--"]
            nearest = did_you_mean(error.option_name, flags) or "."
            raise click.UsageError(f"There is no option {error.option_name}{nearest}", error.ctx) from None
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
    """Generate images with a diffusion model on AWS Lambda, or on this machine.

    Examples:

    \b
        lambdiff generate "a cat in a top hat" -o cat.png
        lambdiff deploy
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with a code from the table in `errors.py`."""
    from lambdiff.cli.streams import standard_streams

    with standard_streams():
        sys.exit(_run(args))


def _run(args: list[str] | None) -> int:
    """Run the command line; print its errors and return the exit code."""
    from lambdiff.errors import LambdiffError

    try:
        code: int = cli.main(args, prog_name="lambdiff", standalone_mode=False) or 0
        sys.stdout.flush()
    except LambdiffError as error:
        return _report(error)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        return 130
    except BrokenPipeError:  # the reader of stdout is gone
        return 0
    except OSError as error:  # a full disk can stop any command at any place
        from lambdiff.files import explain

        explained = explain(error)
        if explained is None:
            raise
        return _report(explained)
    return code


def _report(error: LambdiffError) -> int:
    click.echo(f"Error: {error.message}", err=True)
    if error.fix:
        click.echo(f"  {error.fix}", err=True)
    return error.exit_code


def echo_json(value: Any) -> None:
    """Print `value` as an indented JSON document, in which messages name the flags of the command."""
    import msgspec

    from lambdiff.cli.streams import to_json

    click.echo(printable_json(to_json(with_flags_in(msgspec.to_builtins(value)), indent=2)))

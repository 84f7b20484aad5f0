"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from lambdiff.cli import completion
from lambdiff.cli.flags import with_flags
from lambdiff.cli.value_types import SchedulerValue, Size, Value
from lambdiff.printable import printable
from lambdiff.protocol import contract

F = TypeVar("F", bound=Callable[..., Any])


json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
yes_option: Final = click.option("--yes", "-y", is_flag=True, help="Answer yes to every question.")
force_option: Final = click.option("--force", is_flag=True, help="Overwrite existing output.")
region_option: Final = click.option(
    "--region", metavar="REGION", help="AWS region.  [env var: LAMBDIFF_REGION, AWS_REGION]"
)
profile_option: Final = click.option("--profile", metavar="NAME", help="AWS profile.  [env var: AWS_PROFILE]")
deployment_option: Final = click.option(
    "--deployment", metavar="NAME", shell_complete=completion.deployments,
    help="Saved deployment to use.  [env var: LAMBDIFF_DEPLOYMENT]",
)  # fmt: skip
url_option: Final = click.option("--url", metavar="URL", help="Function URL to call.  [env var: LAMBDIFF_URL]")
local_option: Final = click.option("--local", is_flag=True, help="Run on this machine instead of an endpoint.")
model_dir_option: Final = click.option(
    "--model-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder of a baked model; implies --local.  [default: the built-in model; env var: LAMBDIFF_MODEL_DIR]",
)
guidance_option: Final = click.option(
    "--guidance", "--guidance-scale", "guidance_scale", type=Value(contract.Guidance), metavar="SCALE",
    help="Guidance scale, 0 to 30. 1 or less disables guidance, which halves the work.  [default: the model's]",
)  # fmt: skip
negative_option: Final = click.option(
    "--negative", "--negative-prompt", "negative_prompt", metavar="TEXT", help="What to keep out of the image."
)
steps_option: Final = click.option(
    "--steps", "--num-inference-steps", "num_inference_steps", type=Value(contract.Steps), metavar="N",
    help="Denoising steps, 1 to 100.  [default: the model's]",
)  # fmt: skip
size_option: Final = click.option(
    "--size", type=Size(), metavar="WxH", help="Width and height in pixels, such as 512x512.  [default: the model's]"
)
strength_option: Final = click.option(
    "--strength", type=Value(contract.Strength), metavar="SHARE",
    help="How much the start image may change, 0 to 1; as many of the steps run.  [default: 0.75]",
)  # fmt: skip
scheduler_option: Final = click.option(
    "--scheduler", type=SchedulerValue(),
    help="Sampler; names such as 'DPM++ 2M Karras' and 'Euler a' are accepted, too.  [default: the model's]",
)  # fmt: skip


def _or_in_name(context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Return the spacing that the name of the sampler contains, as in "DPM++ 2M Karras", if none is given."""
    return value or context.meta.get(SchedulerValue.SIGMA_SCHEDULE)


sigma_schedule_option: Final = click.option(
    "--sigma-schedule", type=Value(contract.SigmaSchedule), callback=_or_in_name,
    help="Spacing of the noise levels, for the samplers that have such.  [default: the model's]",
)  # fmt: skip
prompt_syntax_option: Final = click.option(
    "--prompt-syntax", type=Value(contract.PromptSyntax),
    help="How to read the prompts: as plain text, or with (weighted:1.2) [words] and BREAK as A1111 does.  "
    "[default: the model's]",
)  # fmt: skip


def _check_time(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    """Refuse a bad time before anything else is checked."""
    from lambdiff.aws import logs

    logs.parse_time(text)
    return text


def since_option(default: str) -> Callable[[F], F]:
    """Return the option for the time from which a log is read."""
    return click.option(
        "--since", default=default, show_default=True, metavar="TIME", callback=_check_time,
        help="Read the log from this time on: 10m, 2h or 3d ago, or an ISO 8601 time.",
    )  # fmt: skip


def endpoint_options(command: F) -> F:
    """Add the options that choose an endpoint and the AWS identity that calls it."""
    for option in (profile_option, region_option, url_option, deployment_option):
        command = option(command)
    return command


def stack_options(command: F) -> F:
    """Add the options that choose a saved deployment and the AWS identity that manages it."""
    for option in (profile_option, deployment_option):
        command = option(command)
    return command


def make_confirm(*, yes: bool, as_json: bool) -> Callable[[str], bool]:
    """Return a function that asks a yes-or-no question on the terminal.

    Args:
        yes: answer yes without asking.
        as_json: refuse to ask, because a program reads the output.
    """

    def confirm(question: str) -> bool:
        question = printable(with_flags(question), 2_000)
        if yes:
            click.echo(f"{question} yes", err=True)
            return True
        if as_json:
            raise click.UsageError("--json does not ask questions; add --yes.")
        try:
            return click.confirm(question, err=True)
        except click.Abort:  # the library says what has happened until then
            raise KeyboardInterrupt from None

    return confirm

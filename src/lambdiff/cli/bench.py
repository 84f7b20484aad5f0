"""`lambdiff bench`: measure latency and cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambdiff.cli import bench_output
from lambdiff.cli.options import (
    endpoint_options,
    guidance_option,
    json_option,
    local_option,
    make_confirm,
    model_dir_option,
    scheduler_option,
    sigma_schedule_option,
    yes_option,
)
from lambdiff.cli.value_types import CommaSeparated, Size, Value, whole
from lambdiff.protocol import contract

if TYPE_CHECKING:
    from lambdiff.bench.latency import Bench
    from lambdiff.client.client import Client


@click.command()
@click.option(
    "--steps", "--num-inference-steps", "steps", type=CommaSeparated(Value(contract.Steps)), metavar="N,...",
    help="Numbers of denoising steps.  [default: half of the model's, and the model's]",
)  # fmt: skip
@click.option(
    "--size", "sizes", type=CommaSeparated(Size()), metavar="WxH,...", help="Image sizes.  [default: the model's]"
)
@click.option(
    "--rounds", default=3, show_default=True, type=whole(1, 100), metavar="N",
    help="Images of each configuration, after one to warm up.",
)  # fmt: skip
@click.option(
    "--memory", "memory", type=CommaSeparated(whole(128, 10_240)), metavar="MB,...",
    help="Find the cheapest and the fastest memory setting: try these on the deployment, then restore its own.",
)  # fmt: skip
@click.option("--prompt", metavar="TEXT", help="Prompt of every image.  [default: a cat in a top hat]")
@guidance_option
@scheduler_option
@sigma_schedule_option
@local_option
@model_dir_option
@yes_option
@endpoint_options
@json_option
def bench(
    memory: list[int] | None, deployment: str | None, profile: str | None, local: bool, model_dir: Path | None,
    url: str | None, region: str | None, *, rounds: int, yes: bool, as_json: bool, **parameters: Any,
) -> int:  # fmt: skip
    """Measure latency and cost by steps, image size and memory.

    Each configuration generates one image to warm up and then one per round; the report shows medians. The images are
    generated wherever `lambdiff generate` would generate them. With --memory, one configuration is measured at several
    memory settings of a deployment, after confirmation.

    Examples:

    \b
        lambdiff bench --local --steps 4,8,12
        lambdiff bench --steps 8,25 --size 256x256,512x512
        lambdiff bench --memory 3008,5120,10240 --steps 8
    """
    from lambdiff.client.client import Client

    if not memory:
        with Client(
            url, region=region, deployment=deployment, profile=profile, local=local, model_dir=model_dir
        ) as client:
            return _measure_latency(client, rounds=rounds, as_json=as_json, **parameters)
    if local or model_dir or url or region:
        raise click.UsageError("--memory needs a deployment: omit --local, --model-dir, --url and --region.")
    if any(len(parameters[name] or ()) > 1 for name in ("steps", "sizes")):
        raise click.UsageError("--memory takes one number of steps and one size.")
    return _sweep_memory(deployment, profile, memory, rounds=rounds, yes=yes, as_json=as_json, **parameters)


def _measure_latency(client: Client, *, rounds: int, as_json: bool, **parameters: Any) -> int:
    from lambdiff.bench.latency import Bench
    from lambdiff.bench.plan import make_plan

    bench = Bench(client, make_plan(client, **_given(parameters)), rounds=rounds)
    click.echo(bench_output.announcement(bench), err=True)
    try:
        _run_with_progress(bench)
    finally:
        # Even after a failure or an interrupt, because these images have been billed.
        if bench.started:
            bench_output.show_latency(bench.report(), as_json=as_json)
    return max((series.error.exit_code for series in bench.series if series.error), default=0)


def _sweep_memory(
    deployment: str | None, profile: str | None, memory: list[int], *, rounds: int, yes: bool, as_json: bool,
    **parameters: Any,
) -> int:  # fmt: skip
    from lambdiff.aws.deployment import select
    from lambdiff.bench.memory_sweep import MemorySweep
    from lambdiff.bench.plan import make_plan
    from lambdiff.client.client import Client
    from lambdiff.stages import Stages

    target = select(deployment, profile)
    with Client(deployment=target.deployment.value.name, profile=profile) as client:
        sweep = MemorySweep(target, client, make_plan(client, **_given(parameters)), memory, rounds=rounds)
        try:
            sweep.run(Stages(), make_confirm(yes=yes, as_json=as_json))
        finally:
            if sweep.started:
                bench_output.show_memory(sweep.report(), as_json=as_json)
    return max((error.exit_code for error in sweep.errors.values()), default=0)


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _run_with_progress(bench: Bench) -> None:
    from lambdiff.cli.progress import Progress, bar
    from lambdiff.client.progress import expected_seconds

    transport = bench.client.transport
    with bar(Progress(transport, bench.images, expected=expected_seconds(transport.url))) as shown:
        bench.run(shown.advance)

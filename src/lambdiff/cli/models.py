"""`lambdiff models`: list the models that can be baked by name."""

from __future__ import annotations

from typing import Final

import click
import msgspec

from lambdiff.bake.catalogue import CATALOGUE, CatalogueEntry, Decoder
from lambdiff.cli import echo_json
from lambdiff.cli.options import json_option
from lambdiff.cli.text import counted

_WHOLE: Final = 10.0
"""Seconds from which on an estimate has no decimals."""


@click.command()
@json_option
def models(*, as_json: bool) -> None:
    """List the models that `lambdiff bake` and `lambdiff deploy` know by name.

    Seconds are an estimate: the operations of an image with the model's defaults, over the rate of a short matrix
    product on this machine. Other models of the Stable Diffusion family can be baked from a local folder, or from the
    hub with --revision.

    Examples:

    \b
        lambdiff models
        lambdiff bake lcm-dreamshaper -o lcm
    """
    from lambdiff.bake import speed

    rate = speed.measure_rate()
    if as_json:
        listed = [(msgspec.to_builtins(entry), _costs(entry, rate)) for entry in CATALOGUE.values()]
        echo_json([fields | {"costs": msgspec.to_builtins(costs)} for fields, costs in listed])
        return
    for entry in CATALOGUE.values():
        click.echo(f"{entry.name}\n  {entry.about}")
        click.echo(f"  {entry.hub_id} at {entry.revision[:12]}, license {entry.license}")
        if entry.lora:
            click.echo(f"  with {entry.lora.file} of {entry.lora.hub_id} at {entry.lora.revision[:12]}")
        defaults = entry.defaults
        click.echo(
            f"  {counted(defaults.num_inference_steps, 'step')}, guidance {defaults.guidance_scale:g}, "
            f"{defaults.width}x{defaults.height}, {defaults.scheduler}"
        )
        costs = "; ".join(f"{cost.decoder} decoder: {_describe(cost)}" for cost in _costs(entry, rate))
        click.echo(f"  an image with the {costs}")


class _Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What an image with the model's defaults costs; `seconds` are those of this machine, if they can be told."""

    decoder: Decoder
    tflop: float
    seconds: float | None


def _costs(entry: CatalogueEntry, rate: float | None) -> list[_Cost]:
    """Return the cost of an image with the model's own decoder and, if that is a full one, with a tiny one."""
    decoders: tuple[Decoder, ...] = ("full", "tiny") if entry.own_decoder == "full" else ("tiny",)
    return [
        _Cost(
            decoder=decoder,
            tflop=round(entry.tflop(decoder), 2),
            seconds=None if rate is None else entry.tflop(decoder) / rate,
        )
        for decoder in decoders
    ]


def _describe(cost: _Cost) -> str:
    seconds = "" if cost.seconds is None else f", about {_rounded(cost.seconds)} s here"
    return f"{cost.tflop:.2g} TFLOP{seconds}"


def _rounded(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= _WHOLE else f"{seconds:.1f}"

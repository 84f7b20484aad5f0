"""What each feature of the engine gains: pairs of rows that differ in this feature only.

Most features are measured on one guided step, in which the UNet's share of the time is small. The others compare rows
of the plan. To measure another feature, add a line to a table below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import plan
from benchmarks.measured import Measured, Stats
from benchmarks.plan import Row

ONE: Final = "one step"


def _one(name: str, **settings: Any) -> Row:
    usual = {"decoder": "tiny", "scheduler": "euler", "steps": 1, "warm": 2, "often": True, "reference": ONE}
    return Row(f"{ONE}, {name}" if name else ONE, "lambdiff_function", "lambdiff", "baked", **(usual | settings))


UNCHANGED: Final = _one("", reference=None)
F32: Final = _one("f32", precision="f32")
NOT_MERGED: Final = _one("not merged", left_out=("merge_upsampling",))
NOT_SHARED: Final = _one("not shared", left_out=("share_guidance",))
DYNAMIC_SHAPES: Final = _one("dynamic shapes", manifest={"static_shapes": False})
PAGES_KEPT: Final = _one("pages not released", switch="keep_pages")
NO_PROMPT_CACHE: Final = _one("no prompt cache", switch="disable_prompt_cache")
PROMPT_REPEATED: Final = _one("prompt repeated", switch="repeat_prompt")
LEVEL_6: Final = _one("PNG at level 6", switch="compress_at_level_6")
PINNED: Final = _one("pinned threads", switch="pin_threads")
CACHED: Final = _one("compiled-model cache", switch="cache_compiled_models", rehearsed=True)
NO_GUIDANCE: Final = _one("no guidance", guidance=1.0, manifest={"static_shapes": False}, reference=None)

ROWS: Final = (
    UNCHANGED, F32, NOT_MERGED, NOT_SHARED, DYNAMIC_SHAPES, PAGES_KEPT, NO_PROMPT_CACHE, PROMPT_REPEATED, LEVEL_6,
    PINNED, CACHED, NO_GUIDANCE,
)  # fmt: skip


@dataclass(frozen=True)
class Feature:
    """A feature of the engine, and how it is measured.

    Attributes:
        name: in the table.
        control: what turns it on or off.
        row: the row with the feature.
        without: the row without it.
        quantity: the figure of a run that it changes.
    """

    name: str
    control: str
    row: str
    without: str
    quantity: str = "warm"


SAME_IMAGE: Final = (
    Feature("bf16, if the processor has it", "`inference_precision`", ONE, F32.name),
    Feature("merged upsampling", "always, at bake", ONE, NOT_MERGED.name),
    Feature("shared guidance", "always, at bake", ONE, NOT_SHARED.name),
    Feature("static shapes", "`static_shapes`", ONE, DYNAMIC_SHAPES.name),
    Feature("static shapes", "`static_shapes`", ONE, DYNAMIC_SHAPES.name, "cold"),
    Feature("weight pages released", "always", ONE, PAGES_KEPT.name, "peak_mb"),
    Feature("the empty negative prompt cached", "always", ONE, NO_PROMPT_CACHE.name, "encode"),
    Feature("a repeated prompt cached", "always", PROMPT_REPEATED.name, ONE, "encode"),
    Feature("PNG at zlib level 4 instead of 6", "always", ONE, LEVEL_6.name, "compress"),
    Feature("threads not pinned to processors", "always", ONE, PINNED.name),
    Feature("cache of compiled models", "not used", CACHED.name, ONE, "cold"),
)
OTHER_IMAGE: Final = (
    Feature("no guidance, no unconditional pass", "`guidance_scale`", NO_GUIDANCE.name, DYNAMIC_SHAPES.name),
    Feature("tiny decoder", "`bake --decoder`", plan.TINY, plan.FULL),
    Feature("Euler instead of PNDM", "`scheduler`", plan.EULER, plan.TINY),
    Feature("int8 weights", "`bake --precision int8`", plan.INT8, plan.EULER),
    Feature("w8a8", "`bake --precision w8a8`", plan.W8A8, plan.DYNAMIC_SHAPES),
    Feature(
        "guidance in the first half of the steps", "`bake --guidance-interval`", plan.INTERVAL, plan.DYNAMIC_SHAPES
    ),
    Feature("DeepCache every second step", "`bake --deepcache`", plan.DEEPCACHE, plan.EULER),
    Feature("few-step model, 4 steps", "the model", plan.FEW_4, plan.EULER),
    Feature("few-step model, 1 step", "the model", plan.FEW_1, plan.EULER),
)


def lines(features: tuple[Feature, ...], measured: Measured) -> Iterator[tuple[str, ...]]:
    """Yield a line for each measured feature: name, control, quantity, with, without, ratio, PSNR, rounds."""
    for feature in features:
        both = [measured.stats(name, "native", feature.quantity) for name in (feature.row, feature.without)]
        ratio = measured.ratio(feature.without, feature.row, "native", feature.quantity)
        if all(both) and ratio:
            figures = [_figure(each, feature.quantity) for each in both if each]
            psnr = [measured.results["psnr"].get(name, {}).get("native") for name in (feature.row, feature.without)]
            decibels = next((f"{value:.0f}" for value in psnr if value), "")
            yield (
                feature.name,
                feature.control,
                _UNITS[feature.quantity],
                *figures,
                ratio.text(),
                decibels,
                str(ratio.count),
            )


_UNITS: Final = {
    "warm": "warm s",
    "cold": "start to image, s",
    "encode": "encode s",
    "compress": "compress s",
    "peak_mb": "peak MB",
}


def _figure(each: Stats, quantity: str) -> str:
    return f"{each.median:.0f}" if quantity == "peak_mb" else f"{each.median:.3f}"

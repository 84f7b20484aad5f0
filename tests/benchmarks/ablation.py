"""What each thing that the engine does is worth: pairs of rows that differ in it alone. Add one by adding a line.

Most are measured on one guided step, where what is not the UNet shows best; the others are rows of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import plan
from benchmarks.measured import Measured, Spread
from benchmarks.plan import Row

ONE: Final = "one step"


def _one(name: str, **settings: Any) -> Row:
    usual = {"decoder": "tiny", "scheduler": "euler", "steps": 1, "warm": 2, "often": True, "reference": ONE}
    return Row(f"{ONE}, {name}" if name else ONE, "lambdiff_function", "lambdiff", "baked", **(usual | settings))


AS_IT_IS: Final = _one("", reference=None)
F32: Final = _one("f32", precision="f32")
NOT_MERGED: Final = _one("not merged", left_out=("merge_upsampling",))
NOT_SHARED: Final = _one("not shared", left_out=("share_guidance",))
ANY_SIZE: Final = _one("any size", manifest={"static_shapes": False})
PAGES_KEPT: Final = _one("pages kept", switch="keep_pages")
PROMPTS_FORGOTTEN: Final = _one("prompts forgotten", switch="forget_prompts")
PROMPT_REPEATED: Final = _one("prompt repeated", switch="repeat_prompt")
LEVEL_6: Final = _one("PNG as Pillow's", switch="pillows_png")
PINNED: Final = _one("pinned", switch="pin")
NOT_PINNED: Final = _one("not pinned", switch="do_not_pin")
CACHED: Final = _one("compiled before", switch="cache_compiled", rehearsed=True)
NO_GUIDANCE: Final = _one("no guidance", guidance=1.0, manifest={"static_shapes": False}, reference=None)

ROWS: Final = (
    AS_IT_IS, F32, NOT_MERGED, NOT_SHARED, ANY_SIZE, PAGES_KEPT, PROMPTS_FORGOTTEN, PROMPT_REPEATED, LEVEL_6, PINNED,
    NOT_PINNED, CACHED, NO_GUIDANCE,
)  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """One thing: the row that has it and the one that has not, and the quantity of a run in which it shows.

    Attributes:
        switched: what turns it on or off.
    """

    what: str
    switched: str
    row: str
    without: str
    quantity: str = "warm"


SAME_PICTURE: Final = (
    Thing("bf16 where the processor has it", "`inference_precision`", ONE, F32.name),
    Thing("merged enlargements", "always, at bake", ONE, NOT_MERGED.name),
    Thing("shared guidance", "always, at bake", ONE, NOT_SHARED.name),
    Thing("graphs of one size", "`static_shapes`", ONE, ANY_SIZE.name),
    Thing("graphs of one size", "`static_shapes`", ONE, ANY_SIZE.name, "cold"),
    Thing("the weights' pages given back", "always", ONE, PAGES_KEPT.name, "peak_mb"),
    Thing("the empty negative prompt kept", "always", ONE, PROMPTS_FORGOTTEN.name, "encode"),
    Thing("a prompt kept, when it comes again", "always", PROMPT_REPEATED.name, ONE, "encode"),
    Thing("PNG at zlib's level 4 instead of 6", "always", ONE, LEVEL_6.name, "compress"),
    Thing("threads held to processors", "left to OpenVINO", PINNED.name, ONE),
    Thing("threads held to none", "left to OpenVINO", NOT_PINNED.name, ONE),
    Thing("compiled models from a cache", "not done", CACHED.name, ONE, "cold"),
)
OTHER_PICTURE: Final = (
    Thing("no guidance, no second sample", "`guidance_scale`", NO_GUIDANCE.name, ANY_SIZE.name),
    Thing("tiny decoder", "`bake --decoder`", plan.TINY, plan.FULL),
    Thing("Euler instead of PNDM", "`scheduler`", plan.EULER, plan.TINY),
    Thing("int8 weights", "`bake --precision int8`", plan.INT8, plan.EULER),
    Thing("w8a8", "`bake --precision w8a8`", plan.W8A8, plan.ANY_SIZE),
    Thing("guidance on the first half of the steps", "`bake --guidance-interval`", plan.INTERVAL, plan.ANY_SIZE),
    Thing("features of every second step reused", "`bake --deepcache`", plan.REUSE, plan.EULER),
    Thing("a few-step model's 4 steps", "the model", plan.FEW_4, plan.EULER),
    Thing("a few-step model's 1 step", "the model", plan.FEW_1, plan.EULER),
)


def lines(things: tuple[Thing, ...], measured: Measured) -> Iterator[tuple[str, ...]]:
    """A line for each thing that was measured: what, switch, quantity, with, without, ratio, PSNR, rounds."""
    for thing in things:
        both = [measured.spread(name, "native", thing.quantity) for name in (thing.row, thing.without)]
        ratio = measured.ratio(thing.without, thing.row, "native", thing.quantity)
        if all(both) and ratio:
            figures = [_figure(spread, thing.quantity) for spread in both if spread]
            psnr = [measured.results["psnr"].get(name, {}).get("native") for name in (thing.row, thing.without)]
            decibels = next((f"{value:.0f}" for value in psnr if value), "")
            yield thing.what, thing.switched, _UNITS[thing.quantity], *figures, ratio.text(), decibels, str(ratio.count)


_UNITS: Final = {
    "warm": "warm s",
    "cold": "start to picture, s",
    "encode": "encode s",
    "compress": "compress s",
    "peak_mb": "peak MB",
}


def _figure(spread: Spread, quantity: str) -> str:
    return f"{spread.median:.0f}" if quantity == "peak_mb" else f"{spread.median:.3f}"

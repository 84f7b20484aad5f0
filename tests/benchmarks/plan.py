"""What is measured: the rows of the contenders, the sweeps, and the targets.

A row is one program with one set of options; to measure a variant, add a line. Rows with `often` run in every round,
because a target depends on them, and the others in every third. Rows with `avx2` also run limited to AVX2, because
Lambda's x86 processors promise no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks.tiny_sd import SMALL_XL, Architecture, Models

ISAS: Final[dict[str, dict[str, str]]] = {
    "native": {},
    # oneDNN (torch, OpenVINO), torch's own kernels, and the MKL inside torch.
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}


@dataclass(frozen=True)
class Row:
    """One program with one set of options.

    Attributes:
        name: in tables; unique.
        contender: the script's name in `contenders/`.
        environment: the name of its environment.
        form: which form of the model it reads.
        bake: for lambdiff's form, the arguments of `bake`.
        manifest: for lambdiff's form, fields of the manifest that differ from what `bake` wrote.
        steps: None means the run's (`--steps`).
        precision: in the contender's own terms; empty for its default.
        often: whether it runs in every round.
        isas: the instruction sets with which it runs.
        warm: requests after the first. 0 if the first request is like all others: its time then counts as warm.
        reference: the row whose image this one should reproduce from the same latents.
        switch: a function of `contenders/switches.py` that changes one thing in the engine.
        rehearsed: whether it runs once before it is measured, to fill a cache.
        left_out: for lambdiff's form, functions of `graph_rewrites.py` that `bake` did not apply.
        architecture: of its model; None means the run's.
    """

    name: str
    contender: str
    environment: str
    form: Literal["pipeline", "baked", "openvino"]
    decoder: Literal["full", "tiny"] = "full"
    scheduler: str = "pndm"
    steps: int | None = None
    guidance: float = 7.5
    precision: str = ""
    bake: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    often: bool = False
    isas: tuple[str, ...] = ("native",)
    warm: int = 1
    reference: str | None = None
    switch: str = ""
    rehearsed: bool = False
    left_out: tuple[str, ...] = ()
    architecture: Architecture | None = None

    def model(self, models: Models) -> Path:
        """Return the folder that it reads, created if necessary."""
        models = models.of(self.architecture) if self.architecture else models
        if self.form == "baked":
            bake = self.bake if self.bake.get("engine") == "diffusers" else {"precision": "f16"} | self.bake
            decoder = {} if self.bake.get("engine") == "diffusers" else {"decoder": self.decoder}
            return models.baked(bake | decoder, self.manifest, left_out=self.left_out)
        return models.openvino(self.decoder) if self.form == "openvino" else models.pipeline()

    def rounds(self, total: int, isa: str) -> int:
        """Return in how many of all rounds it takes part."""
        return total if self.often and isa == "native" else math.ceil(total / 3)

    def calls(self, steps: int) -> dict[str, int]:
        """Return the number of the UNet's calls, by the name that `tiny_sd.flops` gives to their work.

        PNDM makes one call more than there are steps. Guidance takes two samples, which lambdiff computes in one call.
        The result is empty for rows that skip work, leave out a rewrite or have another architecture.
        """
        count = steps + (self.scheduler == "pndm" and steps > 1)
        if "approximations" in self.manifest or self.left_out or self.architecture:
            return {}
        if self.form == "baked" and self.bake.get("engine") != "diffusers":
            return {"unet, rewritten, guided" if self.guidance > 1 else "unet, rewritten": count}
        return {"unet": count * (2 if self.guidance > 1 else 1)}

    @property
    def arithmetic(self) -> str:
        """The arithmetic of the UNet's matrix products, if it is not the engine's precision."""
        return "int8" if self.bake.get("precision") == "w8a8" else ""

    def in_isa(self, isa: str) -> Row:
        """Return the row for an instruction set: where bf16 is disabled, OpenVINO must not choose it, or it crashes."""
        if isa == "native":
            return self
        precision = "f32" if self.form == "openvino" else self.precision
        return replace(self, precision=precision)


def _lambdiff(name: str, **settings: Any) -> Row:
    return Row(name, "lambdiff_function", "lambdiff", "baked", **settings)


BOTH: Final = ("native", "avx2")
TUTORIAL: Final = "tutorials' handler"
REFERENCE: Final = "diffusers f32, tiny decoder"
FULL: Final = "lambdiff, full decoder"
TINY: Final = "lambdiff, tiny decoder"
EULER: Final = "lambdiff, tiny decoder, Euler"
DYNAMIC_SHAPES: Final = "lambdiff, tiny decoder, Euler, dynamic shapes"
DIRECT: Final = "lambdiff, tiny decoder, Euler, without Winograd"
DIRECT_FULL: Final = "lambdiff, full decoder, without Winograd"
INT8: Final = "lambdiff, tiny decoder, Euler, int8 weights"
W8A8: Final = "lambdiff, tiny decoder, Euler, w8a8"
FEW_4: Final = "lambdiff, tiny decoder, Euler, 4 steps, no guidance"
FEW_1: Final = "lambdiff, tiny decoder, Euler, 1 step, no guidance"
TUTORIAL_1: Final = "tutorials' handler, 1 step, no guidance"
OPTIMUM: Final = "optimum-intel, tiny decoder"
OPTIMUM_FULL: Final = "optimum-intel, full decoder"
BF16: Final = "diffusers bf16, tiny decoder"
BF16_FULL: Final = "diffusers bf16, full decoder"
INTERVAL: Final = "lambdiff, tiny decoder, Euler, guidance in the first half of the steps"
DEEPCACHE: Final = "lambdiff, tiny decoder, Euler, DeepCache every second step"
XL: Final = "lambdiff, small SDXL, 1 step, no guidance"
XL_OPTIMUM: Final = "optimum-intel, small SDXL, 1 step, no guidance"
XL_GENAI: Final = "OpenVINO GenAI, small SDXL, 1 step, no guidance"
SD_CPP: Final = "stable-diffusion.cpp f16, tiny decoder, Euler"

_TINY_EULER: Final[dict[str, Any]] = {"decoder": "tiny", "scheduler": "euler"}

# The defaults of a few-step model, which decide what is compiled at the start.
_FEW: Final[dict[str, Any]] = {
    "guidance": 1.0,
    "manifest": {
        "defaults": {
            "num_inference_steps": 4,
            "guidance_scale": 1.0,
            "width": 512,
            "height": 512,
            "scheduler": "euler",
        }
    },
    **_TINY_EULER,
}

# Calibrated on small images with few steps: the calibration does not change how long a request takes.
_CALIBRATED: Final[dict[str, Any]] = {
    "precision": "w8a8",
    "defaults": {"num_inference_steps": 4, "width": 256, "height": 256},
    "calibration": [f"image number {number}" for number in range(8)],
}

# One step without guidance, as with SDXL-Turbo.
_XL: Final[dict[str, Any]] = {
    "architecture": SMALL_XL,
    "scheduler": "euler",
    "steps": 1,
    "guidance": 1.0,
    "often": True,
    "warm": 2,
}

ROWS: Final = (
    Row(TUTORIAL, "tutorial_handler", "diffusers", "pipeline", often=True, isas=BOTH, warm=0),
    _lambdiff(FULL, often=True, isas=BOTH, reference=TUTORIAL),
    _lambdiff(TINY, decoder="tiny", often=True, isas=BOTH, reference=REFERENCE),
    _lambdiff(EULER, often=True, isas=BOTH, **_TINY_EULER),
    _lambdiff(DIRECT, manifest={"winograd": False}, isas=("avx2",), reference=EULER, **_TINY_EULER),
    _lambdiff(DIRECT_FULL, manifest={"winograd": False}, isas=("avx2",), reference=FULL),
    _lambdiff(INT8, bake={"precision": "int8"}, often=True, isas=BOTH, **_TINY_EULER),
    _lambdiff(W8A8, bake=_CALIBRATED, often=True, isas=BOTH, **_TINY_EULER),
    _lambdiff(FEW_4, often=True, **_FEW),
    _lambdiff(FEW_1, steps=1, often=True, isas=BOTH, warm=2, **_FEW),
    Row(OPTIMUM, "optimum_intel", "optimum", "openvino", decoder="tiny", often=True, isas=BOTH, reference=REFERENCE),
    Row(TUTORIAL_1, "tutorial_handler", "diffusers", "pipeline", steps=1, guidance=1.0, often=True, warm=0),
    Row("diffusers f32, full decoder", "torch_pipeline", "diffusers", "pipeline", reference=TUTORIAL),
    Row(REFERENCE, "torch_pipeline", "diffusers", "pipeline", decoder="tiny", isas=("avx2",)),
    Row(BF16_FULL, "torch_pipeline", "diffusers", "pipeline", precision="bf16", often=True, reference=TUTORIAL),
    Row(
        BF16,
        "torch_pipeline",
        "diffusers",
        "pipeline",
        decoder="tiny",
        precision="bf16",
        often=True,
        reference=REFERENCE,
    ),
    Row(OPTIMUM_FULL, "optimum_intel", "optimum", "openvino", often=True, isas=BOTH, reference=TUTORIAL),
    Row("OpenVINO GenAI, full decoder", "openvino_genai_pipeline", "genai", "openvino", reference=TUTORIAL),
    Row(
        "OpenVINO GenAI, tiny decoder",
        "openvino_genai_pipeline",
        "genai",
        "openvino",
        decoder="tiny",
        reference=REFERENCE,
    ),
    _lambdiff(XL, bake={"defaults": {"num_inference_steps": 1, "guidance_scale": 1.0}}, **_XL),
    Row(XL_OPTIMUM, "optimum_intel", "optimum", "openvino", reference=XL, **_XL),
    Row(XL_GENAI, "openvino_genai_pipeline", "genai", "openvino", reference=XL, **_XL),
    Row(SD_CPP, "sd_cpp", "sdcpp", "pipeline", isas=BOTH, **_TINY_EULER),
    _lambdiff(
        INTERVAL,
        manifest={"approximations": {"guidance_interval": [0.0, 0.5]}, "static_shapes": False},
        **_TINY_EULER,
    ),
    _lambdiff(DEEPCACHE, manifest={"approximations": {"deepcache_interval": 2}}, **_TINY_EULER),
    _lambdiff(DYNAMIC_SHAPES, manifest={"static_shapes": False}, often=True, **_TINY_EULER),
    _lambdiff("lambdiff f32, tiny decoder", decoder="tiny", precision="f32", reference=REFERENCE),
    Row(
        "lambdiff, diffusers engine, 1 step, no guidance",
        "lambdiff_function",
        "suite",
        "baked",
        bake={"engine": "diffusers"},
        steps=1,
        guidance=1.0,
        reference=TUTORIAL_1,
    ),
)


@dataclass(frozen=True)
class Sweep:
    """One row at several values of one quantity, without guidance."""

    quantity: Literal["size", "steps", "threads"]
    values: tuple[int, ...]
    row: str = FEW_1
    size: int = 512
    steps: int = 1


SWEEPS: Final = (
    Sweep("size", (256, 384, 512, 768)),
    Sweep("steps", (1, 2, 4, 8), size=256),
    Sweep("threads", (1, 2, 4, 8)),
)


@dataclass(frozen=True)
class Target:
    """A ratio to reach, of `base` and `row` in the same rounds.

    Attributes:
        name: in the table.
        quantity: `warm` and `cold` are base / row, at least the bound. `peak_mb` is row / base, at most the bound.
            `achieved` is the GFLOP/s of the row's UNet over the machine's GEMM rate, at least the bound.
    """

    name: str
    base: str
    row: str
    bound: float
    quantity: Literal["warm", "cold", "peak_mb", "achieved"] = "warm"
    isa: str = "native"


TARGETS: Final = (
    Target("warm request, full decoder", TUTORIAL, FULL, 2.2),
    Target("warm request, tiny decoder", TUTORIAL, TINY, 3.5),
    Target("warm request, tiny decoder, Euler", TUTORIAL, EULER, 4.5),
    Target("warm request, tiny decoder, Euler, w8a8", TUTORIAL, W8A8, 6.0),
    Target("4 steps, no guidance, tiny decoder", TUTORIAL, FEW_4, 7.0),
    Target("1 step, no guidance, tiny decoder", TUTORIAL, FEW_1, 20.0),
    Target("process start to first image, both 1 step, no guidance", TUTORIAL_1, FEW_1, 5.0, "cold"),
    Target("UNet over the machine's GEMM rate, bf16", "", TINY, 0.8, "achieved"),
    Target("UNet over the machine's GEMM rate, w8a8 (attention in bf16)", "", W8A8, 0.8, "achieved"),
    Target("against optimum-intel, tiny decoder", OPTIMUM, TINY, 1.0),
    Target("against optimum-intel, full decoder", OPTIMUM_FULL, FULL, 1.0),
    Target("against optimum-intel, small SDXL, 1 step", XL_OPTIMUM, XL, 1.0),
    Target("against OpenVINO GenAI, small SDXL, 1 step", XL_GENAI, XL, 1.0),
    Target("against diffusers bf16, tiny decoder", BF16, TINY, 1.0),
    Target("against diffusers bf16, full decoder", BF16_FULL, FULL, 1.0),
    Target("against stable-diffusion.cpp, tiny decoder, Euler", SD_CPP, EULER, 1.0),
    Target("Winograd convolutions, tiny decoder, Euler, AVX2", DIRECT, EULER, 1.25, isa="avx2"),
    Target("Winograd convolutions, full decoder, AVX2", DIRECT_FULL, FULL, 1.25, isa="avx2"),
    Target("against optimum-intel, AVX2", OPTIMUM, TINY, 1.4, isa="avx2"),
    Target("against optimum-intel, full decoder, AVX2", OPTIMUM_FULL, FULL, 1.4, isa="avx2"),
    Target("against diffusers f32, AVX2 (which has no bf16)", REFERENCE, TINY, 1.0, isa="avx2"),
    Target("against stable-diffusion.cpp, AVX2", SD_CPP, EULER, 1.0, isa="avx2"),
    Target("UNet over the machine's GEMM rate, AVX2", "", TINY, 0.8, "achieved", isa="avx2"),
    Target("peak memory, full decoder", TUTORIAL, FULL, 0.6, "peak_mb"),
    Target("peak memory, tiny decoder", TUTORIAL, TINY, 0.6, "peak_mb"),
    Target("peak memory, full decoder, without Winograd, AVX2", TUTORIAL, DIRECT_FULL, 0.6, "peak_mb", isa="avx2"),
    Target("peak memory, tiny decoder, without Winograd, AVX2", TUTORIAL, DIRECT, 0.6, "peak_mb", isa="avx2"),
    Target("peak memory, full decoder, AVX2", TUTORIAL, FULL, 1.2, "peak_mb", isa="avx2"),
    Target("peak memory, tiny decoder, AVX2", TUTORIAL, EULER, 1.2, "peak_mb", isa="avx2"),
    Target("peak memory, tiny decoder, w8a8, AVX2", TUTORIAL, W8A8, 0.6, "peak_mb", isa="avx2"),
)
PACKAGES_BOUND: Final = 0.2
"""The most that the image's packages may have of the size of torch, diffusers and transformers, uncompressed."""

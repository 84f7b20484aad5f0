"""A baked model folder's `manifest.json`: what the folder contains and how to generate images with it.

`lambdiff bake` writes it, and engines read it. File sizes are checked at every load; hashes are checked only by
`lambdiff bake`, `lambdiff deploy` and `lambdiff doctor`, because hashing two gigabytes takes longer than loading them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from lambdiff.errors import NOT_JSON, ModelError
from lambdiff.protocol.contract import Defaults, Limits, ModelIdentity

FILENAME: Final = "manifest.json"
FORMAT: Final = 1

EngineName = Literal["openvino", "diffusers"]
InferencePrecision = Literal["auto", "f32"]
"""The arithmetic: `auto` is bf16 if the processor has it, otherwise f32."""
Family = Literal["stable_diffusion", "stable_diffusion_xl"]
"""The families that the OpenVINO engine has a pipeline for; see `pipelines/`."""


class File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the folder.

    Attributes:
        path: relative to the folder, with forward slashes.
        size: in bytes.
        sha256: in hexadecimal.
    """

    path: str
    size: int
    sha256: str


class SourceFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One of the files that the model was made from.

    Attributes:
        kind: what it is.
        name: its name, without the folder.
        sha256: in hexadecimal.
        weight: the factor of a LoRA's changes.
        word: what stands for an embedding in a prompt.
    """

    kind: Literal["checkpoint", "lora", "embedding"]
    name: str
    sha256: str
    weight: float | None = None
    word: str | None = None

    @property
    def short(self) -> str:
        """A short text that changes with the file and its weight, for the model's revision."""
        stem = self.name.rpartition(".")[0]
        weight = "" if self.weight is None else f":{self.weight:g}"
        return f"{stem}{weight}@{self.sha256[:10]}"


class Diffusion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The noise process that the weights were trained with, in the terms of diffusers' scheduler configurations."""

    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    rescale_betas_zero_snr: bool = False
    num_train_timesteps: int = 1000
    trained_betas: list[float] | None = None
    """The variance of the noise that each timestep adds, instead of a `beta_schedule`."""
    timestep_spacing: Literal["leading", "linspace", "trailing"] = "leading"
    steps_offset: int = 1
    set_alpha_to_one: bool = False
    final_sigmas_type: Literal["zero", "sigma_min"] = "zero"
    clip_sample_range: float | None = None
    """The largest magnitude of the clean sample that DDIM, DDPM, Heun and LCM allow; None does not limit it."""
    thresholding: bool = False
    """Whether DDIM, DDPM, LCM, DPM++ and UniPC limit the clean sample to a quantile of its magnitudes, and scale it to
    -1..1 (Saharia and others 2022, "Photorealistic text-to-image diffusion models", section 2.3)."""
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    """The quantile, and the largest limit that it may give."""
    solver_order: Annotated[int, Meta(ge=1, le=3)] = 2
    """The order of the multistep solvers DPM++ and UniPC."""
    solver_type: Literal["midpoint", "heun", "bh1", "bh2"] | None = None
    """The variant of DPM++ (`midpoint`, `heun`) or UniPC (`bh1`, `bh2`). None, or that of another solver, is `midpoint`
    and `bh2`."""
    lower_order_final: bool = True
    euler_at_final: bool = False
    original_inference_steps: int = 50
    """Only for LCM and TCD: the number of steps of the teacher, of which a request uses evenly spaced ones."""
    timestep_scaling: float = 10.0
    """Only for LCM: the factor of the timestep in its boundary condition."""
    eta: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Only for TCD: the paper's gamma, the share of the next timestep that is reached by fresh noise. 0, the default of
    diffusers' pipelines, is deterministic; the cards of most models recommend 0.3."""


class Latents(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shape and scale of the latents: `(batch, channels, height / factor, width / factor)`, times `scaling_factor`."""

    channels: int = 4
    factor: int = 8
    scaling_factor: float = 0.18215
    multiple: int = 1
    """The latents' height and width must be multiples of this. Other image sizes are generated larger and cropped."""


class Text(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How prompts become tokens and embeddings.

    Attributes:
        max_length: the number of tokens of a prompt, including start and end.
        vocabulary: every word that the model was trained on; empty if unknown.
        zeros_for_empty_negative: whether the unconditional pass gets zeros instead of embeddings if the negative prompt
            is empty (`force_zeros_for_empty_prompt` of Stable Diffusion XL).
    """

    max_length: int = 77
    vocabulary: list[str] = []
    zeros_for_empty_negative: bool = False


class Memory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The memory that requests with the model's defaults need, in MB of 2^20 bytes: an estimate, by arithmetic."""

    bf16_mb: int
    f32_mb: int


class Approximations(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Work that the OpenVINO engine may skip. Each approximation changes the image and is off unless baked in."""

    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """The fractions of a request's UNet calls between which guidance is on (Kynkäänniemi and others 2024, "Applying
    guidance in a limited interval"). Calls outside the interval cost half."""
    deepcache_interval: Annotated[int, Meta(ge=1)] = 1
    """Every n-th call computes the whole UNet, the others only its outermost layers; see `deepcache.py`."""

    def __post_init__(self) -> None:
        start, stop = self.guidance_interval
        if not 0 <= start < stop <= 1:
            raise ValueError("`guidance_interval=` must be two increasing numbers in 0..1")

    def guides(self, call: int, calls: int) -> bool:
        """Whether call number `call` of a guided request's `calls` UNet calls, counted from 0, is guided.

        Example:
            >>> [Approximations(guidance_interval=(0.0, 0.5)).guides(call, 4) for call in range(4)]
            [True, True, False, False]
        """
        start, stop = self.guidance_interval
        return start <= call / calls < stop


_DESCRIPTIVE: Final = frozenset({"license", "defaults", "limits", "memory", "origin", "notes", "baked_by", "baked_on"})
"""The fields of a manifest that do not change the image of a complete request."""


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that an engine must know about a model folder."""

    format: int
    name: str
    revision: str
    license: str
    engine: EngineName
    precision: str
    defaults: Defaults
    files: list[File]
    family: Family = "stable_diffusion"
    """Which pipeline of the OpenVINO engine runs the model."""
    limits: Limits = Limits()
    diffusion: Diffusion = Diffusion()
    latents: Latents = Latents()
    text: Text = Text()
    native_size: tuple[int, int] | None = None
    """(width, height) of a model that can only generate one size. Other requested sizes are resized from it."""
    static_shapes: bool = False
    """Whether requests of the default size, with or without guidance as in the defaults, use graphs with static shapes:
    faster, and with less memory. Other requests use graphs with dynamic shapes. Only one of the two is in memory, so
    alternating between such requests compiles the graphs again each time; do not use static shapes for an endpoint with
    mixed sizes."""
    inference_precision: InferencePrecision = "auto"
    """The arithmetic: `auto` is bf16 on processors that have it. Small models load faster in f32."""
    winograd: bool = True
    """Whether convolutions in f32 may be rewritten, if the memory allows it; see `winograd.py`."""
    approximations: Approximations = Approximations()
    guidance_embedding: int | None = None
    """The width of the UNet's embedding of the guidance scale (`time_cond_proj_dim`). Models that have one need no
    unconditional pass."""
    inpainting: bool = False
    """Whether the UNet also reads a mask and the latents of what it keeps: 9 channels instead of 4."""
    tiny_decoder: bool = False
    """Whether `decoder` belongs to a tiny autoencoder: faster than the model's own, and slightly softer."""
    memory: Memory | None = None
    """None if it was not estimated."""
    sources: list[SourceFile] = []
    """The checkpoint, LoRAs and embeddings that the model was made from, if it was made from such files."""
    origin: list[str] = []
    notes: str = ""
    baked_by: str = ""
    baked_on: str = ""

    @property
    def identity(self) -> ModelIdentity:
        """The model's name, revision, license and digest, as endpoints report them."""
        return ModelIdentity(name=self.name, revision=self.revision, license=self.license, digest=self.digest)

    @property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal, of everything that decides what an image of a complete request looks like.

        The files count with their hashes. Baking the same files again on another day does not change it, and neither
        do the defaults and limits, which decide what a complete request is.
        """
        given: dict[str, object] = msgspec.json.decode(msgspec.json.encode(self))  # without fields that are defaults
        fields = {name: value for name, value in given.items() if name not in _DESCRIPTIVE}
        return hashlib.sha256(msgspec.json.encode(fields, order="sorted")).hexdigest()

    def to_json(self) -> bytes:
        """Return the content of the manifest's file, indented."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def read(folder: Path) -> Manifest:
    """Read a folder's manifest, and check that every file exists and has the right size.

    Raises:
        ModelError: the manifest is missing or unreadable, a path leads out of the folder, or a file is missing or has
            the wrong size.
    """
    path = folder / FILENAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ModelError(
            f"{folder} is not a baked model: {FILENAME} cannot be read ({error.strerror}).",
            fix="Create one with `lambdiff bake`, or choose another folder with `model_dir=` or LAMBDIFF_MODEL_DIR.",
        ) from None
    except NOT_JSON as error:
        raise ModelError(f"{path} is not a manifest: {error}.", fix="Bake the model again.") from None
    if manifest.format != FORMAT:
        raise ModelError(
            f"{path} has format {manifest.format}; this version reads {FORMAT}.", fix="Bake the model again."
        )
    for file in manifest.files:
        _check_size(folder, file)
    return manifest


def verify(folder: Path) -> Manifest:
    """Read a folder's manifest as `read` does, and also check every file's SHA-256.

    Raises:
        ModelError: as `read`, or a file's content differs.
    """
    manifest = read(folder)
    for file in manifest.files:
        with (folder / file.path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != file.sha256:
            raise ModelError(f"{folder / file.path} is not the file that was baked.", fix="Bake the model again.")
    return manifest


def describe_files(folder: Path) -> list[File]:
    """List every file under `folder` except the manifest, with sizes and hashes, sorted by path."""
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != FILENAME:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            files.append(File(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest))
    return files


def _check_size(folder: Path, file: File) -> None:
    path = folder / file.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"The manifest of {folder} names a file outside the folder.", fix="Bake the model again.")
    try:
        size = path.stat().st_size
    except OSError:
        raise ModelError(f"{path} is missing.", fix="Bake the model again.") from None
    if size != file.size:
        raise ModelError(f"{path} has {size:,} bytes, not {file.size:,}.", fix="Copy or bake the model again.")

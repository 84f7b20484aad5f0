"""A baked model folder's `manifest.json`: what the folder holds and how to draw with it.

`bake.py` writes it, engines read it. Sizes are checked at every load, hashes at bake, deploy and `lambdiff doctor`:
hashing two gigabytes would take longer than loading them.
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
"""The arithmetic: `auto` is bf16 where the processor supports it, else f32."""


class File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the folder: path relative to it, size in bytes, SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str


class Diffusion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The noise process the weights were trained with, in the terms of diffusers' scheduler configurations."""

    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    beta_schedule: Literal["linear", "scaled_linear"] = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    num_train_timesteps: int = 1000
    timestep_spacing: Literal["leading", "linspace", "trailing"] = "leading"
    steps_offset: int = 1
    set_alpha_to_one: bool = False
    original_inference_steps: int = 50
    """Only LCM: the number of steps of the teacher's solver that were skipped in training."""


class Latents(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shape and scale of the latents: `(batch, channels, height / factor, width / factor)`, times `scaling_factor`."""

    channels: int = 4
    factor: int = 8
    scaling_factor: float = 0.18215
    multiple: int = 1
    """Of it the latents' sides must be multiples; a picture of another size is drawn a little larger and cropped."""


class Text(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How prompts become tokens. `vocabulary`, where given, is every word that the model was trained on."""

    max_length: int = 77
    vocabulary: list[str] = []


class Approximations(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Work that the OpenVINO engine leaves out. Each changes the picture: none is taken unless asked for at bake."""

    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """The part of a request's UNet calls, from and up to these fractions, in which guidance is on (Kynkäänniemi and
    others 2024, "Applying guidance in a limited interval"); the others cost half."""
    deepcache_interval: Annotated[int, Meta(ge=1)] = 1
    """Every n-th call computes the whole UNet, those between only its outermost layers: see `deepcache.py`."""

    def __post_init__(self) -> None:
        start, stop = self.guidance_interval
        if not 0 <= start < stop <= 1:
            raise ValueError("guidance_interval must be two rising fractions in 0..1")

    def guides(self, call: int, calls: int) -> bool:
        """Whether the UNet's call number `call` of `calls`, from 0, is guided.

        Example:
            >>> [Approximations(guidance_interval=(0.0, 0.5)).guides(call, 4) for call in range(4)]
            [True, True, False, False]
        """
        start, stop = self.guidance_interval
        return start <= call / calls < stop


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything an engine must know about a model folder."""

    format: int
    name: str
    revision: str
    license: str
    engine: EngineName
    precision: str
    defaults: Defaults
    files: list[File]
    limits: Limits = Limits()
    diffusion: Diffusion = Diffusion()
    latents: Latents = Latents()
    text: Text = Text()
    native_size: tuple[int, int] | None = None
    """(width, height) of a model that draws one size only; other sizes are enlarged from it."""
    static_shapes: bool = False
    """Whether what a request with the defaults runs is compiled for its size and batch alone: faster, and with less
    memory. The first request of another size, or guided where the default is not or the other way round, ends that:
    from then on graphs for all sizes serve."""
    inference_precision: InferencePrecision = "auto"
    """The arithmetic: bf16 where the processor has it, or always f32, with which a small model loads faster."""
    approximations: Approximations = Approximations()
    guidance_embedding: int | None = None
    """Width of the UNet's embedding of the guidance scale (`time_cond_proj_dim`); such models need no second sample."""
    tiny_decoder: bool = False
    """Whether `decoder` is a tiny autoencoder's, faster and a little softer than the model's own."""
    origin: list[str] = []
    notes: str = ""
    baked_by: str = ""
    baked_on: str = ""

    @property
    def identity(self) -> ModelIdentity:
        """What the endpoint says about its weights."""
        return ModelIdentity(name=self.name, revision=self.revision, license=self.license)

    def to_json(self) -> bytes:
        """The file's content, indented for people."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def read(folder: Path) -> Manifest:
    """Read a folder's manifest and check that every file is there with the size that it says.

    Raises:
        ModelError: no manifest, an unreadable one, a path out of the folder, a missing or cut file.
    """
    path = folder / FILENAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ModelError(
            f"{folder} is no baked model: {FILENAME} cannot be read ({error.strerror}).",
            fix="Make one with `lambdiff bake`, or name another folder with LAMBDIFF_MODEL_DIR.",
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
    """`read`, then compare every file's SHA-256.

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
    """Every file under `folder` but the manifest, with sizes and hashes, sorted by path."""
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

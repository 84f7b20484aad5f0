"""From a diffusion model to a folder that an endpoint can serve.

    source (hub id or diffusers folder) --> torch modules --> OpenVINO models --> compared with torch --> folder

Nothing is taken on trust: weights come as safetensors (pickles only from the catalogue, and then without code), every
parameter must have been in the files, and each converted part must give what the original gives. No safety checker is
baked or run; the manifest says so.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from lambdiff._version import __version__
from lambdiff.bake import catalogue, sources
from lambdiff.bake.sources import ModelTraits, Progress
from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import Approximations, Diffusion, Manifest, Text
from lambdiff.errors import InvalidRequest, MissingExtra, ModelError, OutputError
from lambdiff.protocol.contract import Defaults

LEAST_PROMPTS: Final = 8
BY: Final = f"lambdiff {__version__}"
NOTES: Final = "No safety checker is run: pictures are returned as the model draws them."

_SCHEDULERS: Final = {
    "PNDMScheduler": "pndm",
    "DDIMScheduler": "ddim",
    "LCMScheduler": "lcm",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
}
_UNSUPPORTED: Final = ("trained_betas", "rescale_betas_zero_snr", "thresholding", "use_flow_sigmas")
_NEEDED: Final = {
    "openvino": ("torch", "diffusers", "transformers", "safetensors", "nncf", "openvino"),
    "diffusers": ("torch", "diffusers", "transformers", "safetensors"),
}


@dataclass(frozen=True)
class Settings:
    """What the caller decided; None leaves it to the model or the catalogue. `bake` explains the fields."""

    engine: Literal["openvino", "diffusers"] = "openvino"
    precision: Literal["auto", "f32", "f16", "int8", "w8a8"] = "auto"
    calibration: tuple[str, ...] | None = None
    decoder: str = "full"
    revision: str | None = None
    name: str | None = None
    license: str | None = None
    origin: tuple[str, ...] = ()
    notes: str = ""
    vocabulary: tuple[str, ...] = ()
    native_size: tuple[int, int] | None = None
    defaults: dict[str, Any] | None = None
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    deepcache_interval: int = 1
    static_shapes: bool | None = None
    inference_precision: Literal["auto", "f32"] = "auto"


def bake(
    source: str | Path, out: Path, *, force: bool = False, progress: Progress = lambda _: None, **settings: Any
) -> Manifest:
    """Make a model folder.

    Args:
        source: a name or hub id of the catalogue, another hub id (then with `revision`), or a diffusers folder.
        out: the folder to make; it appears only when everything in it is there and has been checked.
        force: replace `out` if it is a model folder.
        progress: told in a few words what is being done.
        **settings: the fields of `Settings`:
            engine: `openvino`, or `diffusers` to keep the files as they are.
            precision: how weights are stored: `f32`, `f16`, `int8` (the decoder's stay f16), `w8a8` (the UNet's
            activations have eight bits too, if it then still draws the same pictures), or `auto`, which is f16. With
            engine `diffusers`, only `auto`.
            calibration: for `w8a8`, at least 8 different prompts like those that will be asked.
            decoder: `full` (the model's own), `tiny` (TAESD from the hub), or the folder of an AutoencoderTiny.
            revision: the hub's commit.
            name, license, origin, notes: for the manifest, where the catalogue does not say it.
            vocabulary: every word that the model was trained on, where that is a short list.
            native_size: (width, height), of a model that draws one size only.
            defaults: fields of `Defaults` that differ from the model's.
            static_shapes: see `Manifest`; on by default, except with w8a8 or a guidance interval, which it slows,
            and for a model of one size, which needs no asking.
            guidance_interval, deepcache_interval, inference_precision: see `Approximations` and `Manifest`.

    Returns:
        The manifest that was written.

    Raises:
        ModelError: the source is no model of a supported shape, or a converted part differs from the original.
        ConfigurationError: the hub cannot be reached, or a revision is missing.
        OutputError: `out` exists or cannot be written.
        MissingExtra: the `bake` extra is not installed.
        InvalidRequest: settings out of range, or that do not go together.

    Example:
        >>> bake("tiny-sd", Path("tiny-sd"), precision="int8", decoder="tiny").precision
        'int8'
    """
    chosen = Settings(**settings)
    approximations = _check_settings(chosen)
    _check_out(out, force=force)
    _check_extra(chosen.engine)
    entry = None if Path(source).is_dir() else catalogue.find(str(source))
    with _folder_beside(out) as work:
        folder = sources.find(str(source), entry, chosen.revision, work, progress)
        index = sources.check(folder, chosen.engine)
        _check_native_size(chosen, folder)
        diffusion, scheduler = _diffusion(folder)
        made = work / "model"
        made.mkdir()
        if chosen.engine == "diffusers":
            facts = _keep(folder, made, index, chosen, progress)
        else:
            facts = _convert(folder, made, chosen, work, progress)
        _write_notice(folder, made, entry, chosen)
        size = facts.sample_size * facts.latents.factor
        width, height = chosen.native_size or (size, size)
        usual = {"num_inference_steps": 25, "guidance_scale": 7.5, "width": width, "height": height}
        defaults = msgspec.to_builtins(entry.defaults) if entry else {**usual, "scheduler": scheduler}
        manifest = Manifest(
            format=manifests.FORMAT,
            name=chosen.name or (entry.name if entry else folder.resolve().name),
            revision=chosen.revision or (entry.revision if entry else "local"),
            license=chosen.license or (entry.license if entry else "unknown"),
            engine=chosen.engine,
            precision=facts.precision,
            defaults=msgspec.convert(defaults | (chosen.defaults or {}), Defaults),
            files=[],
            diffusion=diffusion,
            latents=facts.latents,
            text=Text(max_length=facts.max_length, vocabulary=sorted(chosen.vocabulary)),
            native_size=chosen.native_size,
            static_shapes=_uses_static_shapes(chosen),
            inference_precision=chosen.inference_precision,
            approximations=approximations,
            guidance_embedding=facts.guidance_embedding,
            tiny_decoder=facts.tiny_decoder,
            origin=_origin(entry, chosen),
            notes=" ".join(filter(None, (chosen.notes, NOTES))),
            baked_by=BY,
            baked_on=datetime.now(UTC).date().isoformat(),
        )
        if approximations.guidance_interval != (0.0, 1.0) and (
            facts.guidance_embedding or manifest.defaults.guidance_scale <= 1
        ):
            progress("note: by default this model is not guided, so a guidance interval saves nothing")
        if chosen.precision == "w8a8":
            from lambdiff.bake import quantization

            prompts = tuple(dict.fromkeys(chosen.calibration or quantization.PROMPTS))
            quantization.quantize_unet(made, manifest, prompts, progress)
        progress("hashing")
        manifest = msgspec.structs.replace(manifest, files=manifests.describe_files(made))
        (made / manifests.FILENAME).write_bytes(manifest.to_json())
        _move(made, out)
    return manifest


def _check_settings(chosen: Settings) -> Approximations:
    """What can be seen to be wrong before any work; the approximations."""
    if chosen.calibration is not None and chosen.precision != "w8a8":
        raise InvalidRequest("Only w8a8 is calibrated.", fix="Add --precision w8a8, or leave out --calibration.")
    if chosen.calibration is not None and (count := len(set(chosen.calibration))) < LEAST_PROMPTS:
        raise InvalidRequest(
            f"{count} different prompts are too few to calibrate.", fix=f"Give {LEAST_PROMPTS} or more."
        )
    given = {"guidance_interval": chosen.guidance_interval, "deepcache_interval": chosen.deepcache_interval}
    try:
        approximations = msgspec.convert(given, Approximations)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{error}.", fix="See `lambdiff bake --help`.") from None
    taken = (approximations != Approximations(), chosen.static_shapes, chosen.inference_precision != "auto")
    if chosen.engine == "diffusers" and any(taken):
        raise InvalidRequest(
            "The diffusers engine takes no approximations.",
            fix="Leave out --guidance-interval, --deepcache, --static-shapes and --inference-precision.",
        )
    return approximations


def _uses_static_shapes(chosen: Settings) -> bool:
    if chosen.static_shapes is not None:
        return chosen.static_shapes
    # With an interval the UNet would be compiled twice, for one sample and for two.
    pays = chosen.precision != "w8a8" and chosen.guidance_interval == (0.0, 1.0)
    return chosen.engine == "openvino" and chosen.native_size is None and pays


def _check_native_size(chosen: Settings, folder: Path) -> None:
    if chosen.native_size is None:
        return
    latents, _ = sources.latents(folder / "vae", folder / "unet")
    step = latents.factor * latents.multiple
    if any(side % step for side in chosen.native_size):
        raise InvalidRequest(
            f"This model cannot draw {chosen.native_size[0]}x{chosen.native_size[1]}.", fix=f"Give multiples of {step}."
        )


def _check_out(out: Path, *, force: bool) -> None:
    if not out.exists():
        return
    if not force:
        raise OutputError(f"{out} exists already.", fix="Choose another folder, or replace it with --force.")
    if not (out / manifests.FILENAME).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(f"{out} is not a baked model, so it is not replaced.", fix="Choose another folder.")


def _check_extra(engine: str) -> None:
    # OpenVINO and NNCF report their use to their maker unless this package of theirs cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        for module in _NEEDED[engine]:
            importlib.import_module(module)
    except ImportError:
        raise MissingExtra("What `lambdiff bake` needs", "bake") from None


@contextlib.contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A temporary folder on the same file system as `out`, removed at the end."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise OutputError(f"{out.parent} cannot be written: {error.strerror}.", fix="Choose another folder.") from None
    try:
        yield work
    except OSError as error:
        raise OutputError(f"{out} could not be written: {error}.", fix="Choose another folder.") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move(made: Path, out: Path) -> None:
    """Put the finished folder in its place; what was there goes only when the new one is ready."""
    if out.exists():
        out.rename(made.parent / "replaced")
    made.rename(out)


def _convert(folder: Path, made: Path, chosen: Settings, work: Path, progress: Progress) -> ModelTraits:
    from lambdiff.bake.convert import convert

    tiny = None
    if chosen.decoder == "tiny":
        entry = catalogue.TINY_DECODER
        tiny = sources.find(entry.hub_id, entry, None, work, progress)
    elif chosen.decoder != "full":
        tiny = Path(chosen.decoder)
    precision = "f16" if chosen.precision == "auto" else chosen.precision
    return convert(folder, made, precision, tiny, chosen.deepcache_interval > 1, progress)


def _keep(folder: Path, made: Path, index: dict[str, Any], chosen: Settings, progress: Progress) -> ModelTraits:
    """The files as they are, for the diffusers engine."""
    if chosen.precision != "auto" or chosen.decoder != "full":
        raise ModelError(
            "The diffusers engine keeps the files as they are.", fix="Leave out --precision and --decoder."
        )
    progress("copying")
    sources.copy(folder, made, index)
    latents, tiny = sources.latents(made / "vae", made / "unet")
    unet = sources.read_json(made / "unet" / "config.json", "sample_size")
    tokenizer = sources.read_json(made / "tokenizer" / "tokenizer_config.json", "model_max_length")
    return ModelTraits(
        precision="f32",
        latents=latents,
        max_length=int(tokenizer["model_max_length"]),
        sample_size=unet["sample_size"],
        guidance_embedding=unet.get("time_cond_proj_dim"),
        tiny_decoder=tiny,
    )


def _diffusion(folder: Path) -> tuple[Diffusion, str]:
    """The noise process and the contract's name of a pipeline's scheduler; what it leaves open is its class's own."""
    import diffusers

    stated = sources.read_json(folder / "scheduler" / "scheduler_config.json")
    kind = str(stated.get("_class_name"))
    try:
        config = dict(getattr(diffusers, kind).from_config(stated).config)
        diffusion = msgspec.convert({k: config[k] for k in Diffusion.__struct_fields__ if k in config}, Diffusion)
    except (AttributeError, ValueError, NotImplementedError, msgspec.ValidationError) as error:
        raise ModelError(f"The scheduler {kind} of {folder} is not supported: {error}", fix=_OTHER) from None
    if unsupported := [key for key in _UNSUPPORTED if config.get(key)]:
        raise ModelError(f"The scheduler of {folder} sets {unsupported[0]}, which is not supported.", fix=_OTHER)
    return diffusion, _SCHEDULERS.get(kind, "euler")


_OTHER: Final = "Bake a model trained with a linear or scaled linear noise schedule."


def _origin(entry: catalogue.Model | None, chosen: Settings) -> list[str]:
    own = list(chosen.origin) or ([entry.url] if entry else [])
    return [*own, catalogue.TINY_DECODER.url] if chosen.decoder == "tiny" else own


def _write_notice(folder: Path, made: Path, entry: catalogue.Model | None, chosen: Settings) -> None:
    """The model's own license file if it has one, and where the weights are from."""
    for path in sorted(folder.glob("LICENSE*")):
        shutil.copyfile(path, made / path.name)
    lines = [
        f"Model: {chosen.name or (entry.name if entry else folder.resolve().name)}",
        f"License: {chosen.license or (entry.license if entry else 'unknown')}",
        *([f"License text: {entry.license_url}"] if entry else []),
        *(f"From: {place}" for place in _origin(entry, chosen)),
    ]
    if chosen.decoder == "tiny":
        tiny = catalogue.TINY_DECODER
        lines.append(f"Decoder: {tiny.name}, license {tiny.license}, {tiny.license_url}")
    lines += [f"Prepared by {BY}; the weights were stored anew, not trained further.", NOTES]
    (made / "NOTICE.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

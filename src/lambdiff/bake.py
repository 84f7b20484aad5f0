"""From a diffusion model to a folder that an endpoint can serve: fetch, convert, compress, compare, describe.

    source (hub id or diffusers folder) --> torch modules --> OpenVINO models --> compared with torch --> folder

Nothing is taken on trust: weights come as safetensors (pickles only from the catalogue, and then without code), every
parameter must have been in the files, and each converted part must give what the original gives.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from lambdiff import models
from lambdiff._version import __version__
from lambdiff.contract import Defaults
from lambdiff.errors import ConfigurationError, MissingExtra, ModelError, OutputError
from lambdiff.handler import manifest as manifests
from lambdiff.handler.manifest import Diffusion, Latents, Manifest, Text

Precision = Literal["auto", "f32", "f16", "int8"]
Engine = Literal["openvino", "diffusers"]
Progress = Callable[[str], None]

FETCHED: Final = ("*.json", "*.txt", "*.safetensors", "*.bin", "LICENSE*", "*.md")
_NOT_FETCHED: Final = ("safety_checker/*", "feature_extractor/*", "vae_encoder/*", "*.fp16.*", "*.non_ema.*")
_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PIPELINES: Final = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline")
_SCHEDULERS: Final = {
    "PNDMScheduler": "pndm",
    "DDIMScheduler": "ddim",
    "LCMScheduler": "lcm",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
}
NOTES: Final = "No safety checker is run: pictures are returned as the model draws them."


@dataclass(frozen=True)
class Settings:
    """What the caller decided; None leaves it to the model or the catalogue."""

    engine: Engine = "openvino"
    precision: Precision = "auto"
    decoder: str = "full"
    name: str | None = None
    revision: str | None = None
    licence: str | None = None
    origin: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    native_size: tuple[int, int] | None = None
    defaults: dict[str, Any] | None = None
    notes: str = ""


def bake(
    source: str | Path, out: Path, *, force: bool = False, progress: Progress = lambda _: None, **settings: Any
) -> Manifest:
    """Make a model folder.

    Args:
        source: a name or hub id of the catalogue, another hub id (then with `revision`), or a diffusers folder.
        out: the folder to make; it appears only when everything in it is there and has been checked.
        force: replace `out` if it exists.
        progress: told in a few words what is being done.
        engine: `openvino`, or `diffusers` to keep the files as they are.
        precision: how weights are stored: `f32`, `f16`, `int8`, or `auto`, which is f16.
        decoder: `full` (the model's own), `tiny` (TAESD from the hub), or the folder of an AutoencoderTiny.
        name, revision, licence, origin, notes: for the manifest.
        vocabulary: every word the model was trained on, if that is a short list.
        native_size: (width, height), if the model draws one size only.
        defaults: fields of `Defaults` that differ from the model's.

    Returns:
        The manifest that was written.

    Raises:
        ModelError: the source is no model of a supported shape, or a converted part differs from the original.
        ConfigurationError: the hub cannot be reached, or a revision is missing.
        OutputError: `out` exists or cannot be written.
        MissingExtra: the `bake` extra is not installed.

    Example:
        >>> bake("tiny-sd", Path("tiny-sd"), precision="int8", decoder="tiny").precision
        'int8'
    """
    chosen = Settings(**settings)
    if out.exists() and not force:
        raise OutputError(f"{out} exists already.", fix="Choose another folder, or replace it with --force.")
    _check_extra(chosen.engine)
    with _folder_beside(out) as work:
        entry = None if Path(source).is_dir() else models.find(str(source))
        folder = Path(source) if Path(source).is_dir() else _fetch(str(source), entry, chosen.revision, work, progress)
        _check_pipeline(folder, chosen.engine, pickles_allowed=bool(entry and entry.pickled))
        made = work / "model"
        made.mkdir()
        if chosen.engine == "diffusers":
            facts = _copy(folder, made, chosen, progress)
        else:
            from lambdiff import convert

            facts = convert.convert(folder, made, chosen, _tiny_decoder(chosen.decoder, work, progress), progress)
        _write_notice(folder, made, entry, chosen)
        progress("hashing")
        manifest = _describe(folder, made, entry, chosen, facts)
        (made / manifests.FILENAME).write_bytes(manifest.to_json())
        _move(made, out)
    return manifest


@dataclass(frozen=True)
class Facts:
    """What converting a model taught about it."""

    precision: str
    latents: Latents
    max_length: int
    sample_size: int
    guidance_embedding: int | None
    tiny_decoder: bool


def _check_extra(engine: str) -> None:
    try:
        import diffusers  # noqa: F401 -- is it there?
        import torch
        import transformers  # noqa: F401 -- is it there?

        if engine == "openvino":
            sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
            import nncf  # noqa: F401 -- is it there?
            import openvino  # noqa: F401 -- is it there?
    except ImportError:
        raise MissingExtra("What `lambdiff bake` needs", "bake") from None
    torch.set_grad_enabled(False)


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
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move(made: Path, out: Path) -> None:
    """Put the finished folder in its place; what was there goes only when the new one is ready."""
    made.chmod(0o755)
    if out.exists():
        out.rename(made.parent / "replaced")
    made.rename(out)


def _fetch(source: str, entry: models.Model | None, revision: str | None, work: Path, progress: Progress) -> Path:
    """Download a model at one commit; its pickles, if it may have any, are rewritten as safetensors."""
    hub_id = entry.hub_id if entry else source
    revision = revision or (entry.revision if entry else None)
    if "/" not in hub_id:
        raise ConfigurationError(
            f"{source!r} is neither a folder nor a model of the catalogue.",
            fix=f"Known names: {', '.join(models.CATALOGUE)}; or give a hub id such as owner/model with --revision.",
        )
    if revision is None:
        raise ConfigurationError(
            f"{hub_id} is not in the catalogue, so its revision must be given.",
            fix="Pass --revision with the commit's hash from the model's page; a branch may change under you.",
        )
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import huggingface_hub

    progress(f"downloading {hub_id} at {revision[:12]}")
    try:
        path = huggingface_hub.snapshot_download(
            hub_id, revision=revision, allow_patterns=list(FETCHED), ignore_patterns=list(_NOT_FETCHED)
        )
    except Exception as error:  # the hub's client raises errors of several libraries
        raise ConfigurationError(
            f"{hub_id} could not be downloaded: {str(error).splitlines()[0][:200]}",
            fix="Check the network, the name and the revision; HF_ENDPOINT and HF_TOKEN are respected.",
        ) from error
    return _without_pickles(Path(path), work / "source") if entry and entry.pickled else Path(path)


def _without_pickles(folder: Path, target: Path) -> Path:
    """A copy of a pipeline in which every torch pickle is a safetensors file; pickled code is not run."""
    import torch
    from safetensors.torch import save_file

    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.bin"), symlinks=False)
    for path in folder.rglob("*.bin"):
        name = path.name.replace("pytorch_model", "model") if path.name.startswith("pytorch_model") else path.name
        goal = (target / path.relative_to(folder)).with_name(name).with_suffix(".safetensors")
        if not goal.exists():
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            save_file({key: value.clone().contiguous() for key, value in tensors.items()}, goal, {"format": "pt"})
    return target


def _tiny_decoder(decoder: str, work: Path, progress: Progress) -> Path | None:
    """The folder of the tiny decoder to use, or None for the model's own."""
    if decoder == "full":
        return None
    if decoder == "tiny":
        entry = models.TINY_DECODER
        return _fetch(entry.hub_id, entry, None, work, progress)
    if not (Path(decoder) / "config.json").is_file():
        raise ModelError(f"{decoder} holds no decoder.", fix="Name `full`, `tiny` or the folder of an AutoencoderTiny.")
    return Path(decoder)


def _check_pipeline(folder: Path, engine: str, *, pickles_allowed: bool) -> None:
    """Refuse what is no pipeline, is of another shape, or holds pickles."""
    index = read_json(folder / "model_index.json")
    if engine == "openvino" and index.get("_class_name") not in _PIPELINES:
        raise ModelError(
            f"{folder} is a {index.get('_class_name')}; the OpenVINO engine draws with {' or '.join(_PIPELINES)}.",
            fix="Bake it with --engine diffusers.",
        )
    for component in components(index):
        files = list((folder / component).glob("*")) if (folder / component).is_dir() else []
        weights = [path for path in files if path.suffix in _WEIGHTS]
        if weights and not any(path.suffix == ".safetensors" for path in weights) and not pickles_allowed:
            raise ModelError(
                f"{weights[0]} is a pickle, which can run code when it is read.",
                fix="Save the pipeline with safe_serialization=True and bake that.",
            )


def components(index: dict[str, Any]) -> list[str]:
    """The components of a `model_index.json` that drawing needs."""
    return [
        name
        for name, value in index.items()
        if isinstance(value, list) and value[0] and name not in {"safety_checker", "feature_extractor"}
    ]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        ModelError: the file is missing or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ModelError(f"{path} is missing.", fix="Name a folder that diffusers' save_pretrained made.") from None
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}.", fix="Download or save the model again.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object.", fix="Download or save the model again.")
    return content


def _copy(folder: Path, made: Path, chosen: Settings, progress: Progress) -> Facts:
    """Keep a pipeline's needed files as they are, for the diffusers engine."""
    index = read_json(folder / "model_index.json")
    progress("copying")
    for component in components(index):
        (made / component).mkdir()
        for path in sorted((folder / component).iterdir()):
            if path.suffix in {".safetensors", ".json", ".txt"}:
                shutil.copyfile(path, made / component / path.name)
    for name in ("safety_checker", "feature_extractor"):
        if name in index:
            index[name] = [None, None]
    (made / "model_index.json").write_text(json.dumps(index | {"requires_safety_checker": False}, indent=2))
    vae, unet = read_json(made / "vae" / "config.json"), read_json(made / "unet" / "config.json")
    tokenizer = read_json(made / "tokenizer" / "tokenizer_config.json")
    tiny = vae["_class_name"] == "AutoencoderTiny"
    return Facts(
        precision="f32" if chosen.precision == "auto" else chosen.precision,
        latents=latents_of(vae),
        max_length=int(tokenizer["model_max_length"]),
        sample_size=int(unet["sample_size"]),
        guidance_embedding=unet.get("time_cond_proj_dim"),
        tiny_decoder=tiny,
    )


def latents_of(vae: dict[str, Any]) -> Latents:
    """Shape and scale of the latents, from an autoencoder's configuration."""
    blocks = vae.get("block_out_channels") or vae["decoder_block_out_channels"]
    return Latents(
        channels=vae["latent_channels"], factor=2 ** (len(blocks) - 1), scaling_factor=vae.get("scaling_factor", 1.0)
    )


def _diffusion(folder: Path) -> tuple[Diffusion, str]:
    """The noise process and the scheduler's name, from a pipeline's scheduler with its class's own defaults."""
    import diffusers

    stated = read_json(folder / "scheduler" / "scheduler_config.json")
    cls = getattr(diffusers, str(stated.get("_class_name")), None)
    if cls is None:
        raise ModelError(f"{folder} has a scheduler that diffusers does not know.", fix="Bake another model.")
    config = dict(cls.from_config(stated).config)
    for key in ("trained_betas", "rescale_betas_zero_snr", "thresholding", "use_flow_sigmas"):
        if config.get(key):
            raise ModelError(
                f"The scheduler of {folder} sets {key}, which is not supported.", fix="Bake another model."
            )
    known = {key: config[key] for key in Diffusion.__struct_fields__ if key in config}
    try:
        diffusion = manifests.msgspec.convert(known, Diffusion)
    except manifests.msgspec.ValidationError as error:
        raise ModelError(f"The scheduler of {folder} is not supported: {error}.", fix="Bake another model.") from None
    return diffusion, _SCHEDULERS.get(str(stated["_class_name"]), "euler")


def _describe(folder: Path, made: Path, entry: models.Model | None, chosen: Settings, facts: Facts) -> Manifest:
    diffusion, scheduler = _diffusion(folder)
    size = facts.sample_size * facts.latents.factor
    width, height = chosen.native_size or (size, size)
    stated: dict[str, Any] = {"num_inference_steps": 25, "guidance_scale": 7.5, "width": width, "height": height}
    stated["scheduler"] = scheduler
    if entry:
        stated = manifests.msgspec.to_builtins(entry.defaults)
    origin = list(chosen.origin) or ([entry.url] if entry else [])
    if chosen.decoder == "tiny":
        origin.append(models.TINY_DECODER.url)
    return Manifest(
        format=manifests.FORMAT,
        name=chosen.name or (entry.name if entry else folder.resolve().name),
        revision=chosen.revision or (entry.revision if entry else "local"),
        licence=chosen.licence or (entry.licence if entry else "unknown"),
        engine=chosen.engine,
        precision=facts.precision,
        defaults=manifests.msgspec.convert(stated | (chosen.defaults or {}), Defaults),
        files=manifests.describe_files(made),
        diffusion=diffusion,
        latents=facts.latents,
        text=Text(max_length=facts.max_length, vocabulary=sorted(chosen.vocabulary)),
        native_size=chosen.native_size,
        guidance_embedding=facts.guidance_embedding,
        tiny_decoder=facts.tiny_decoder,
        origin=origin,
        notes=" ".join(filter(None, (chosen.notes, NOTES))),
        baked_by=f"lambdiff {__version__}",
        baked_on=datetime.now(UTC).date().isoformat(),
    )


def _write_notice(folder: Path, made: Path, entry: models.Model | None, chosen: Settings) -> None:
    """The model's own licence file if it has one, and where the weights are from."""
    for path in sorted(folder.glob("LICENSE*")):
        shutil.copyfile(path, made / path.name)
    lines = [chosen.name or (entry.name if entry else folder.resolve().name)]
    lines += [f"Licence: {chosen.licence or (entry.licence if entry else 'unknown')}"]
    if entry:
        lines += [f"Licence text: {entry.licence_url}", f"From: {entry.url}"]
    if chosen.decoder == "tiny":
        tiny = models.TINY_DECODER
        lines += [f"Decoder: {tiny.name} from {tiny.url}, licence {tiny.licence}, {tiny.licence_url}"]
    lines += [f"From: {origin}" for origin in chosen.origin]
    lines += [f"Converted by lambdiff {__version__}; the weights were stored anew, not trained further.", NOTES]
    (made / "NOTICE.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

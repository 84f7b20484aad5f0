"""Turn a diffusion model into a folder that an endpoint can serve.

    source (folder, one file or hub id) + LoRAs, embeddings
        --> torch modules --> OpenVINO models --> compared with torch --> model folder

Weights are read from safetensors (pickles only for the catalogue, and then without code), every parameter must be in
the files, and every converted part must reproduce the output of the original. No safety checker is baked or run; the
manifest says so.
"""

# Annotations are evaluated here, so that `help()` shows the values of a Literal and not the name of its alias.
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lambdiff.bake import (
    additions,
    complete_weights,
    families,
    manifest_builder,
    output_folder,
    parameters,
    pipeline_folder,
    provenance,
    scheduler_config,
    sources,
    text_models,
    tiny_decoders,
    trial,
    unconverted,
)
from lambdiff.bake.additions import Additions
from lambdiff.bake.defaults import choose as choose_defaults
from lambdiff.bake.manifest_builder import Choices
from lambdiff.bake.parameters import DefaultOverrides, EmbeddingFile, LoraFile, Precision, Prediction, Progress
from lambdiff.bake.pipeline_folder import PipelineConfig
from lambdiff.bake.sources import Source
from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import EngineName, InferencePrecision, Manifest
from lambdiff.protocol.contract import Limits


def bake(
    source: str | Path,
    out: Path,
    *,
    engine: EngineName = "openvino",
    precision: Precision = "auto",
    calibration: Sequence[str] | None = None,
    decoder: str | Path = "full",
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    deepcache_interval: int = 1,
    static_shapes: bool | None = None,
    inference_precision: InferencePrecision = "auto",
    winograd: bool = True,
    native_size: tuple[int, int] | None = None,
    defaults: DefaultOverrides | None = None,
    prediction: Prediction | None = None,
    image_to_image: bool | None = None,
    loras: Sequence[LoraFile] = (),
    embeddings: Sequence[EmbeddingFile] = (),
    revision: str | None = None,
    name: str | None = None,
    license: str | None = None,
    origin: Sequence[str] = (),
    notes: str = "",
    vocabulary: Sequence[str] = (),
    force: bool = False,
    progress: Progress = parameters.discard,
) -> Manifest:
    """Convert a model to a folder that an engine can load.

    Args:
        source: a folder saved by diffusers, a `.safetensors` checkpoint of Stable Diffusion 1, 2 or XL, a name or hub
            id in the catalogue, or another hub id with `revision`.
        out: the folder to create. It appears only when everything in it is complete and checked.
        engine: `openvino`, or `diffusers` to keep the files as they are.
        precision: how weights are stored: `f32`, `f16`, `int8` (the decoder stays f16), `w8a8` (eight-bit activations
            in the UNet as well, provided that it still generates nearly the same images), or `auto`, which is f16. With
            the diffusers engine, only `auto`.
        calibration: for `w8a8`, at least 8 distinct prompts like those that the endpoint will receive; by default
            `quantization.PROMPTS`.
        decoder: `full` (the model's own), `tiny` (TAESD or TAESDXL, downloaded from the hub), or the folder of an
            AutoencoderTiny.
        guidance_interval: the part of the steps that use guidance, as two fractions; see `Approximations`.
        deepcache_interval: run the whole UNet only on every n-th step; see `Approximations`.
        static_shapes: whether the engine compiles graphs for the default size; see `Manifest`. None means yes, except
            with w8a8 or a guidance interval, which static shapes slow down, and for a model with a native size, whose
            shapes are always static.
        inference_precision: the arithmetic: `auto` (bf16 where the processor supports it) or `f32`.
        winograd: whether the engine may compute convolutions in f32 with fewer multiplications, which takes more memory
            for the weights; see `Manifest`.
        native_size: (width, height) in pixels of a model that can only generate one size.
        defaults: fields of the contract's `Defaults` that differ from the model's own.
        prediction: what the UNet of a checkpoint predicts, `epsilon` (the noise) or `v`, if the file does not say:
            required for Stable Diffusion 2.
        image_to_image: whether to add the image encoder that start images and masks need, which is small. None means
            yes. A model for inpainting needs it.
        loras: LoRAs that are merged into the weights: (`.safetensors` file, weight) for each.
        embeddings: textual inversion embeddings: (word, `.safetensors` file) for each. None as the word takes the
            file's name without its suffix.
        revision: the hub's commit; required for a hub id outside the catalogue.
        name: the model's name in replies; by default the catalogue's or the folder's.
        license: the license of the weights; by default the catalogue's, else `unknown`.
        origin: where the weights and their training data come from, one line each.
        notes: further text for the manifest.
        vocabulary: every word the model was trained on, if that is a short list.
        force: replace `out` if it is a model folder.
        progress: called with a short message when a step begins.

    Returns:
        The manifest that was written.

    Raises:
        ModelError: the source is not a supported model, a converted part differs from the original, or the result
            cannot generate an image.
        ConfigurationError: the hub cannot be reached, or a revision is missing.
        OutputError: `out` exists or cannot be written.
        MissingExtra: the `bake` extra is not installed.
        InvalidRequest: a parameter is out of range, or two of them exclude each other.

    Example:
        >>> bake("tiny-sd", Path("tiny-sd"), precision="int8", decoder="tiny").precision  # doctest: +SKIP
        'int8'
    """
    parameters.check_calibration(calibration, precision)
    overrides = parameters.check_defaults(defaults)
    approximations = parameters.make_approximations(guidance_interval, deepcache_interval)
    if engine == "diffusers":
        parameters.check_unconverted(precision, decoder, approximations, static_shapes, inference_precision, winograd)
    output_folder.check_destination(out, force=force)
    parameters.check_libraries(engine)
    choices = Choices(
        engine=engine,
        approximations=approximations,
        static_shapes=parameters.choose_static_shapes(static_shapes, engine, precision, approximations, native_size),
        inference_precision=inference_precision,
        winograd=winograd,
        native_size=native_size,
        vocabulary=vocabulary,
        notes=notes,
    )

    with output_folder.scratch_folder(out) as scratch:
        model = sources.locate(source, revision, scratch, progress, prediction=prediction)
        # 1. Everything that can be refused, from the configuration files alone.
        index = pipeline_folder.read_index(model.folder)
        families.check_engine(model.path, index, engine)
        pipeline = pipeline_folder.read(model.folder)
        text_models.check_unet(pipeline, model.folder)
        pipeline_folder.check_native_size(pipeline, native_size)
        pipeline_folder.check_normalization(pipeline, model.folder, engine)
        tiny_entry = tiny_decoders.choose(pipeline, decoder)
        tiny_decoder = sources.download(tiny_entry, scratch, progress) if tiny_entry else _folder_of(decoder)
        pipeline_folder.check_tiny_decoder(pipeline, model.folder, tiny_decoder)
        scheduler = scheduler_config.read(model.folder, index, engine)
        added = additions.read([*sources.fetch_loras(model, progress), *loras], embeddings, model.folder, pipeline)
        said = [*(model.checkpoint.notes if model.checkpoint else ()), *added.notes]
        if few_steps := added.few_steps or model.few_steps:
            said.append(few_steps.note(overrides))
            scheduler, overrides = few_steps.apply(scheduler), {**few_steps.defaults, **overrides}
        inferred = choose_defaults(
            model.entry,
            pipeline,
            scheduler,
            native_size,
            overrides,
            vocabulary,
            parameters.choose_pictures(image_to_image, pipeline),
        )
        said += [*scheduler.replaced, *inferred.notes]
        for note in said:
            progress(f"note: {note}")
        # 2. The files of the model.
        model = sources.fetch(model, scratch, progress)
        _check_weights(model, index, tiny_decoder)
        files = [*model.describe(), *added.describe()]
        model = _prepare(model, added, scratch, pipeline, progress)
        pipeline = pipeline_folder.read(model.folder)
        (folder := scratch / "model").mkdir()
        if engine == "diffusers":
            traits = unconverted.copy(model.folder, folder, pipeline, progress)
        else:
            traits = families.converter(pipeline.pipeline_class)(
                model.folder,
                folder,
                pipeline,
                precision="f16" if precision == "auto" else precision,
                tiny_decoder=tiny_decoder,
                deepcache=approximations.deepcache_interval > 1,
                progress=progress,
            )
            _convert_encoder(tiny_decoder or model.folder / "vae", folder, traits.precision, inferred.limits, progress)
        # 3. The manifest.
        facts = provenance.complete(model, name, revision, license, origin, tiny_entry, files)
        provenance.write_notice(facts, model, folder)
        manifest = manifest_builder.build_manifest(facts, pipeline, traits, scheduler, inferred, said, choices)
        _warn_if_unguided(manifest, progress)
        if precision == "w8a8":
            _quantize(folder, manifest, calibration, progress)
        manifest = _write_manifest(folder, _with_memory(folder, manifest, progress), progress)
        # 4. Nothing is baked that cannot generate.
        trial.generate(folder, manifest, progress)
        output_folder.move_into_place(folder, out)
    return manifest


def _check_weights(model: Source, index: dict[str, Any], tiny_decoder: Path | None) -> None:
    """Check that all files are complete; those of a checkpoint have been, when it was opened."""
    if not model.checkpoint:
        complete_weights.check(model.folder, index)
    if tiny_decoder:
        complete_weights.check_component(tiny_decoder, "AutoencoderTiny")


def _folder_of(decoder: str | Path) -> Path | None:
    return None if decoder == "full" else Path(decoder)


def _convert_encoder(autoencoder: Path, folder: Path, precision: str, limits: Limits, progress: Progress) -> None:
    """Convert the autoencoder's other half, if requests may have start images."""
    if limits.image != "unsupported":
        from lambdiff.bake import image_encoder  # imports torch

        image_encoder.convert(autoencoder, folder, precision=precision, progress=progress)


def _prepare(model: Source, added: Additions, scratch: Path, pipeline: PipelineConfig, progress: Progress) -> Source:
    """Return the model as a folder with all weights: those of a checkpoint, and with LoRAs and embeddings merged."""
    if model.checkpoint:
        model.checkpoint.write_weights(model.folder, progress)
    elif added:
        model = dataclasses.replace(model, folder=additions.copy(model.folder, scratch / "copy", pipeline, progress))
    added.merge(model.folder, pipeline, progress)
    return model


def _warn_if_unguided(manifest: Manifest, progress: Progress) -> None:
    if manifest.approximations.guidance_interval == (0.0, 1.0):
        return
    if manifest.guidance_embedding or manifest.defaults.guidance_scale <= 1:
        progress("note: this model does not use guidance by default, so a guidance interval saves nothing")


def _quantize(folder: Path, manifest: Manifest, calibration: Sequence[str] | None, progress: Progress) -> None:
    from lambdiff.bake import quantization  # imports NNCF

    prompts = tuple(dict.fromkeys(calibration or quantization.PROMPTS))
    quantization.quantize_unet(folder, manifest, prompts, progress)


def _with_memory(folder: Path, manifest: Manifest, progress: Progress) -> Manifest:
    """Estimate the memory that the model needs, and say whether it fits a Lambda function."""
    if manifest.engine != "openvino":
        return manifest
    from lambdiff.bake import memory  # imports OpenVINO

    needed = memory.estimate(folder, manifest)
    size = f"{manifest.defaults.width}x{manifest.defaults.height}"
    amounts = f"about {needed.bf16_mb:,} MB where the processor has bf16, {needed.f32_mb:,} MB elsewhere"
    progress(f"memory for an image of {size}: {amounts}")
    for where, megabytes in (("", needed.bf16_mb), (" on processors without bf16", needed.f32_mb)):
        if megabytes > memory.LAMBDA_MB:
            progress(
                f"note: the model does not fit a Lambda function{where}, which has at most {memory.LAMBDA_MB:,} MB"
            )
            break
    return msgspec.structs.replace(manifest, memory=needed)


def _write_manifest(folder: Path, manifest: Manifest, progress: Progress) -> Manifest:
    """Write the manifest with the hashes of all other files, and return it."""
    progress("hashing")
    manifest = msgspec.structs.replace(manifest, files=manifests.describe_files(folder))
    (folder / manifests.FILENAME).write_bytes(manifest.to_json())
    return manifest

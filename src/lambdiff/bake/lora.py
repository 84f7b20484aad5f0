"""LoRAs: checked against the model before any long work, then merged into its weights by diffusers and peft.

Names as kohya's scripts, diffusers and peft write them are read, for the UNet and the text encoders, linear layers and
convolutions.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from lambdiff.bake import empty_models, families_by_keys, few_steps, output_folder, pipeline_folder, safetensors_file
from lambdiff.bake.families_by_keys import NAMES, WIDTHS, CheckpointFamily
from lambdiff.bake.few_steps import FewSteps
from lambdiff.bake.parameters import Progress
from lambdiff.bake.pipeline_folder import PipelineConfig
from lambdiff.bake.safetensors_file import SafetensorsFile, Shape
from lambdiff.errors import InvalidRequest, ModelError

MAX_WEIGHT: Final = 10.0
_SHOWN: Final = 3
_FIX_NAMES: Final = "Pass a LoRA with the names of kohya's scripts or of diffusers."
_FIX: Final = "Pass a LoRA that was trained for this model's family."
# A pattern of a name -> the method, none of which diffusers can merge into these models.
_OTHER_METHODS: Final = {
    r"\.hada_w\d": "a LoHa",
    r"\.lokr_w\d": "a LoKr",
    r"\.lora_mid\.": "a LoCon with a Tucker decomposition",
    r"\.dora_scale$|lora_magnitude_vector": "a DoRA",
    r"\.oft_(blocks|diag|r|s)\b": "an OFT",
    r"\.vera_lambda": "a VeRA",
    r"\.on_input$": "an IA3",
    r"\.(diff|diff_b|w_norm|b_norm)$": "a set of full weight differences",
    r"\.(a1|a2|b1|b2)\.weight$": "a GLoRA",
}
_OTHER_FAMILIES: Final = (
    (r"double_blocks|single_blocks|single_transformer_blocks", "FLUX"),
    (r"joint_blocks|context_block|text_encoder_3|lora_te3_", "Stable Diffusion 3"),
    (r"^(transformer|diffusion_model|lora_transformer)[._]|caption_projection", "a transformer model"),
    (r"lora_prior_|^prior\.", "Stable Cascade"),
)
_DOWN: Final = re.compile(r"(lora_down|lora_A|lora\.down|lora_linear_layer\.down|_lora\.down)(\.default)?\.weight$")


@dataclass(frozen=True)
class Lora:
    """A LoRA that fits the model.

    Attributes:
        file: its header.
        weight: the factor of its changes.
        few_steps: how to generate with it, if it makes the model generate in a few steps.
    """

    file: SafetensorsFile
    weight: float
    few_steps: FewSteps | None

    @property
    def note(self) -> str:
        """One sentence that says how it is used."""
        return f"{self.file.path.name} is merged at {self.weight:g}."


def check_weight(path: Path, weight: float) -> None:
    """Refuse a weight without an effect or without a meaning.

    Raises:
        InvalidRequest: it is zero, too large or not a number.
    """
    if not math.isfinite(weight) or not 0 < abs(weight) <= MAX_WEIGHT:
        raise InvalidRequest(
            f"The weight of {path} must be {-MAX_WEIGHT:g}..{MAX_WEIGHT:g} and not 0, not {weight:g}.",
            fix="Most LoRAs are made for weights between 0.5 and 1.",
        )


def read(path: Path, weight: float, folder: Path, pipeline: PipelineConfig) -> Lora:
    """Read a LoRA, and check that every one of its matrices has a place in the model.

    Args:
        path: a `.safetensors` file.
        weight: the factor of its changes.
        folder: the model's folder, of which only the configuration is read.
        pipeline: the model's configuration.

    Raises:
        InvalidRequest: the weight is out of range.
        ModelError: the file is damaged, is not a LoRA, uses another method, or belongs to another model.
    """
    check_weight(path, weight)
    file = safetensors_file.read(path)
    _check_kind(file)
    shapes = {name: tuple(tensor.shape) for name, tensor in _matrices(file, pipeline).items()}
    for component in _components(pipeline):
        own = {name.removeprefix(f"{component}."): shape for name, shape in shapes.items() if _is_in(component, name)}
        _check_component(file, component, own, folder, pipeline)
    return Lora(file, weight, few_steps.of_lora(path, file.metadata))


def fuse(loras: Sequence[Lora], folder: Path, pipeline: PipelineConfig, progress: Progress) -> None:
    """Merge LoRAs into the UNet and the text encoders of a folder, in f32, and keep the precision of the weights.

    Args:
        loras: LoRAs that fit the model, in any order.
        folder: the model's folder, whose weights are replaced.
        pipeline: the model's configuration.
        progress: called before each LoRA.

    Raises:
        ModelError: a library cannot merge one.
    """
    import diffusers
    import torch

    pipeline_class = getattr(diffusers, pipeline.pipeline_class)
    stored = {name: _stored_type(folder / name) for name in _components(pipeline)}
    try:
        model = pipeline_class.from_pretrained(
            folder,
            vae=None,
            **{name: None for name in pipeline.index if name in ("safety_checker", "feature_extractor")},
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
        )
        for lora in loras:
            progress(f"merging {lora.file.path.name} at {lora.weight:g}")
            model.load_lora_weights(_matrices(lora.file, pipeline))
            model.fuse_lora(lora_scale=lora.weight)
            model.unload_lora_weights()
    except Exception as error:  # diffusers, peft and transformers share no narrower class
        names = ", ".join(lora.file.path.name for lora in loras)
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{names} cannot be merged: {reason[:200]}", fix=_FIX) from error
    for name, precision in stored.items():
        for path in (folder / name).glob("*.safetensors*"):
            path.unlink()
        with output_folder.library_writes(name):
            getattr(model, name).to(precision).save_pretrained(folder / name, safe_serialization=True)


def _is_in(component: str, name: str) -> bool:
    return name.startswith(f"{component}.")


def _components(pipeline: PipelineConfig) -> list[str]:
    names = ("unet", "text_encoder", "text_encoder_2")
    return [name for name in pipeline_folder.required_components(pipeline.index) if name in names]


def _stored_type(folder: Path) -> Any:
    """Return the type of a component's weights; f32 for bf16, whose rounding would swallow the LoRA's changes."""
    import torch
    from safetensors import safe_open

    path = next(iter(sorted(folder.glob("*.safetensors"))))
    with safe_open(path, framework="pt") as file:
        types = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    return torch.float16 if types == {"F16"} else torch.float32


def _check_kind(file: SafetensorsFile) -> None:
    names = file.shapes
    for pattern, method in _OTHER_METHODS.items():
        if any(map(re.compile(pattern).search, names)):
            raise ModelError(
                f"{file.path} is {method}, which diffusers cannot merge.", fix="Pass a LoRA or LoCon without it."
            )
    for pattern, family in _OTHER_FAMILIES:
        if any(map(re.compile(pattern).search, names)):
            raise ModelError(f"{file.path} is a LoRA for {family}.", fix=_FIX)
    if not families_by_keys.is_lora(names):
        raise ModelError(
            f"{file.path} is not a LoRA: none of its {len(names)} tensors is named like one.",
            fix="Pass a checkpoint as the source, and an embedding with `embeddings=`.",
        )
    file.check_numbers(name for name in names if not name.endswith(".alpha"))


def _matrices(file: SafetensorsFile, pipeline: PipelineConfig) -> dict[str, Any]:
    """Read the matrices under the names `unet.LAYER.lora_A.weight` and so on, multiplied by alpha over their rank.

    Raises:
        ModelError: diffusers does not understand a name, or matrices belong to no part of the model.
    """
    import diffusers
    from diffusers.utils import state_dict_utils

    pipeline_class = getattr(diffusers, pipeline.pipeline_class)
    layout = types.SimpleNamespace(layers_per_block=pipeline.unet.get("layers_per_block", 2))
    tensors = _scaled(file)
    expected = sum(bool(_DOWN.search(name)) for name in tensors)
    try:
        options = {"unet_config": layout} if pipeline.pipeline_class == "StableDiffusionXLPipeline" else {}
        converted, _ = pipeline_class.lora_state_dict(tensors, **options)
    except Exception as error:  # unusual names end in errors of many kinds
        raise ModelError(
            f"{file.path} has names that diffusers does not understand ({type(error).__name__}).", fix=_FIX_NAMES
        ) from error
    unet, text = state_dict_utils.UNET_TO_DIFFUSERS, _text_names(state_dict_utils)
    matrices: dict[str, Any] = {}
    for component in _components(pipeline):
        prefix = f"{component}."
        own = {name: converted.pop(name) for name in list(converted) if name.startswith(prefix)}
        matrices |= state_dict_utils.convert_state_dict(own, unet if component == "unet" else text)
    if converted:
        _refuse_unplaced(file, pipeline, sorted(converted))
    if (found := sum(name.endswith(".lora_A.weight") for name in matrices)) != expected:
        raise ModelError(f"Of the {expected} layers in {file.path}, diffusers reads {found}.", fix=_FIX_NAMES)
    _apply_metadata(file, matrices)
    return matrices


def _apply_metadata(file: SafetensorsFile, matrices: dict[str, Any]) -> None:
    """Multiply by alpha over the rank where alpha is in the metadata, as diffusers' own training scripts write it.

    Raises:
        ModelError: the metadata is damaged, or describes another method.
    """
    text = file.metadata.get("lora_adapter_metadata")
    if text is None:
        return
    try:
        settings = dict(json.loads(text))
        for name in [name for name in matrices if name.endswith(".lora_A.weight")]:
            component, _, layer = name.removesuffix(".lora_A.weight").partition(".")
            alpha = settings.get(f"{component}.lora_alpha")
            for pattern, value in (settings.get(f"{component}.alpha_pattern") or {}).items():
                if re.match(rf"(.*\.)?({pattern})$", layer):
                    alpha = value
            if alpha is not None:
                rank = matrices[name].shape[0]
                matrices[name] *= alpha / (math.sqrt(rank) if settings.get(f"{component}.use_rslora") else rank)
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise ModelError(f"The metadata of {file.path} is damaged: {error}.", fix="Download the file again.") from None
    if any(value for name, value in settings.items() if name.endswith(".use_dora")):
        raise ModelError(f"{file.path} is a DoRA, which diffusers cannot merge.", fix="Pass a plain LoRA.")


def _scaled(file: SafetensorsFile) -> dict[str, Any]:
    """Read the tensors in f32, with alpha multiplied into one of the two matrices of each layer.

    Raises:
        ModelError: a layer lacks a matrix.
    """
    tensors = {name: tensor.float() for name, tensor in file.tensors().items()}
    for name in [name for name in tensors if name.endswith(".alpha")]:
        alpha = float(tensors.pop(name))
        layer = name.removesuffix(".alpha")
        down = next((key for key in (f"{layer}.lora_down.weight", f"{layer}.lora_A.weight") if key in tensors), None)
        if down is None:
            raise ModelError(f"{file.path} has no matrices for {layer}.", fix=_FIX_NAMES)
        tensors[down] *= alpha / tensors[down].shape[0]
    return tensors


def _text_names(state_dict_utils: Any) -> dict[str, str]:
    """Return the names in a text encoder; diffusers guesses the convention by one name, and then drops the others."""
    return {**state_dict_utils.DIFFUSERS_OLD_TO_PEFT, **state_dict_utils.DIFFUSERS_TO_PEFT}


def _refuse_unplaced(file: SafetensorsFile, pipeline: PipelineConfig, names: Sequence[str]) -> NoReturn:
    if names[0].startswith("text_encoder_2."):
        _refuse_family(file, pipeline, "it changes a second text encoder")
    raise ModelError(
        f"{len(names)} tensors of {file.path} belong to no part of the model, for example {names[0]}.", fix=_FIX_NAMES
    )


def _refuse_family(file: SafetensorsFile, pipeline: PipelineConfig, reason: str) -> NoReturn:
    """Refuse a LoRA of another family, and name both families if they can be told.

    Raises:
        ModelError: always.
    """
    theirs, ours = _lora_family(file.shapes), _model_family(pipeline)
    if theirs is None or theirs == ours:
        raise ModelError(f"{file.path} does not fit this {NAMES[ours]}: {reason}.", fix=_FIX)
    raise ModelError(f"{file.path} is a LoRA for {NAMES[theirs]}, and the model is {NAMES[ours]}: {reason}.", fix=_FIX)


def _model_family(pipeline: PipelineConfig) -> CheckpointFamily:
    if "text_encoder_2" in pipeline.index:
        return "sdxl"
    return "sd2" if pipeline.unet.get("use_linear_projection") else "sd1"


def _lora_family(shapes: Mapping[str, Shape]) -> CheckpointFamily | None:
    """Return the family that a LoRA was trained for, by its names, by the width of the text, or by its projections."""
    if any(re.search(r"lora_te[12]_|text_encoder_2\.|transformer_blocks[._][1-9]", name) for name in shapes):
        return "sdxl"
    for name, shape in shapes.items():
        if re.search(r"attn2[._](processor\.)?to_k.*down|attn2\.to_k\.lora_A", name) and shape[1] in WIDTHS:
            return WIDTHS[shape[1]]
    projections = {len(shape) for name, shape in shapes.items() if re.search(r"proj_in\.lora", name)}
    return "sd1" if projections == {4} else "sd2" if projections == {2} else None


def _check_component(
    file: SafetensorsFile, component: str, shapes: Mapping[str, Shape], folder: Path, pipeline: PipelineConfig
) -> None:
    """Check that each matrix belongs to a layer of the component, and fits it.

    Raises:
        ModelError: it does not; the message names both families if it belongs to another one.
    """
    if not shapes:
        return
    layers = _layers(folder / component, component)
    unplaced = []
    for name in sorted(shapes):
        layer, _, matrix = name.removeprefix("text_model.").rpartition(".lora_")
        weight = layers.get(layer)
        if weight is None:
            unplaced.append(layer or name)
            continue
        place = 1 if matrix == "A.weight" else 0
        if matrix not in ("A.weight", "B.weight") or len(shapes[name]) != len(weight):
            _refuse_family(
                file, pipeline, f"its {layer} has {len(weight)} dimensions, and the LoRA {len(shapes[name])}"
            )
        if shapes[name][place] != weight[place] or (place and shapes[name][2:] != weight[2:]):
            sizes = f"{layer} has {weight[place]} channels, and the LoRA {shapes[name][place]}"
            _refuse_family(file, pipeline, sizes)
    if unplaced:
        shown = ", ".join(unplaced[:_SHOWN])
        _refuse_family(file, pipeline, f"its {component} lacks {len(unplaced)} layers of the LoRA, for example {shown}")


def _layers(folder: Path, component: str) -> dict[str, Shape]:
    """Return the shape of the weights of each layer that a LoRA can change."""
    import torch

    config = pipeline_folder.read_json(folder / "config.json")
    with_projection = "CLIPTextModelWithProjection" in config.get("architectures", ())
    text = "CLIPTextModelWithProjection" if with_projection else "CLIPTextModel"
    model = empty_models.make("UNet2DConditionModel" if component == "unet" else text, config)
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return {
        name.removeprefix("text_model."): tuple(module.weight.shape)
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    }

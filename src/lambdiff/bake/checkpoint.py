"""A one-file checkpoint, as Civitai and others distribute them, turned into a folder as diffusers saves it.

    header --> family, configurations, every tensor's name and shape checked --> weights

Everything is checked before any weights are read: the header's tensors are converted as if they were weights, and must
be exactly those that diffusers' models expect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from lambdiff.bake import (
    checkpoint_configs,
    clip_tokenizer,
    empty_models,
    families_by_keys,
    output_folder,
    safetensors_file,
)
from lambdiff.bake.families_by_keys import NAMES, CheckpointFamily
from lambdiff.bake.parameters import Prediction, Progress
from lambdiff.bake.safetensors_file import SafetensorsFile
from lambdiff.errors import ModelError

_Tensors = dict[str, Any]
_IGNORED: Final = re.compile(
    # Schedules and counters of the training code, averaged weights beside the plain ones, and buffers without weights.
    r"^(betas|alphas|sqrt_|log_one|posterior_|lvlb_|logvar|model_ema\.|denoiser\.|v_pred$|ztsnr$|global_step)"
    r"|position_ids$|logit_scale$|cond_stage_model\.model\.(text_projection|attn_mask)$|\.attn_mask$"
    r"|^first_stage_model\.(loss|model_ema)\."
)
_FIX: Final = "Pass a folder that diffusers saved, if there is one for this model."
_SHOWN: Final = 3
_ONE_TO_ONE: Final = ("UNet2DConditionModel", "AutoencoderKL")
"""Classes whose conversion drops tensors with unknown names."""


@dataclass(frozen=True)
class _Part:
    """One component of the pipeline.

    Attributes:
        class_name: its class in diffusers or transformers.
        config: its configuration.
        prefix: the beginning of its tensors' names in the checkpoint.
        convert: names and shapes of the checkpoint -> those of the class.
    """

    class_name: str
    config: dict[str, Any]
    prefix: str
    convert: Callable[[_Tensors, Any], _Tensors]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that can be baked.

    Attributes:
        file: its header.
        family: its family.
        prediction: what its UNet predicts.
        parts: its components by their names in the pipeline.
        scheduler: the configuration of its scheduler.
        notes: one sentence for each assumption, and for what is left out.
    """

    file: SafetensorsFile
    family: CheckpointFamily
    prediction: Prediction
    parts: Mapping[str, _Part]
    scheduler: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the file without its suffix."""
        return self.file.path.stem

    def write_configuration(self, folder: Path) -> None:
        """Write everything but the weights: the index, the configurations and the tokenizers."""
        from lambdiff._version import __version__

        folder.mkdir()
        index: dict[str, Any] = {
            "_class_name": "StableDiffusionXLPipeline" if self.family == "sdxl" else "StableDiffusionPipeline",
            "_lambdiff_version": __version__,
            "scheduler": ["diffusers", self.scheduler["_class_name"]],
            "tokenizer": ["transformers", "CLIPTokenizer"],
        }
        for name, part in self.parts.items():
            library = "transformers" if part.class_name.startswith("CLIP") else "diffusers"
            index[name] = [library, part.class_name]
            _write_json(folder / name / "config.json", _described(part))
        _write_json(folder / "scheduler" / "scheduler_config.json", self.scheduler)
        first_pad, second_pad = ("!", "!") if self.family == "sd2" else ("<|endoftext|>", "!")
        clip_tokenizer.make(pad_token=first_pad).save_pretrained(folder / "tokenizer")
        if self.family == "sdxl":
            index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
            clip_tokenizer.make(pad_token=second_pad).save_pretrained(folder / "tokenizer_2")
            index["force_zeros_for_empty_prompt"] = True
        else:
            index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
            index["requires_safety_checker"] = False
        _write_json(folder / "model_index.json", index)

    def write_weights(self, folder: Path, progress: Progress) -> None:
        """Write the weights of every component, in the precision of the checkpoint.

        Raises:
            ModelError: the file cannot be read.
        """
        for name, part in self.parts.items():
            progress(f"reading {name} of {self.file.path.name}")
            model = empty_models.make(part.class_name, part.config)
            tensors = self.file.tensors(lambda key, prefix=part.prefix: key.startswith(prefix))  # type: ignore[misc]
            model.load_state_dict(part.convert(_known(tensors), model), strict=True, assign=True)
            with output_folder.library_writes(name):
                model.save_pretrained(folder / name, safe_serialization=True)


def read(path: Path, prediction: Prediction | None) -> Checkpoint:
    """Read the header of a checkpoint, and check that it is a complete model of a supported family.

    Args:
        path: a `.safetensors` file.
        prediction: what the UNet predicts, if the file does not say.

    Raises:
        ModelError: the file is damaged, is something else, or lacks a part.
    """
    file = safetensors_file.read(path)
    family = families_by_keys.recognize(file)
    file.check_numbers(_known(file.shapes))
    chosen = _prediction(file, family, prediction)
    zero_snr = "ztsnr" in file.shapes
    try:
        parts = _parts(file, family, _sample_size(file, family, chosen))
    except (KeyError, StopIteration, ValueError, IndexError, TypeError) as error:
        reason = f"without {error.args[0]}" if isinstance(error, KeyError) else "of an unusual form"
        raise ModelError(f"{path} is a checkpoint of {NAMES[family]} {reason}.", fix=_FIX) from None
    _check_parts(file, family, parts)
    texts = [part.config for name, part in parts.items() if name.startswith("text_encoder")]
    if (fewest := min(text["vocab_size"] for text in texts)) < clip_tokenizer.TOKENS:
        raise ModelError(
            f"The text encoder of {path} knows {fewest:,} tokens, and CLIP's vocabulary has {clip_tokenizer.TOKENS:,}.",
            fix=_FIX,
        )
    notes = [f"{path.name} is a checkpoint of {NAMES[family]} that predicts {_called(chosen)}."]
    if checkpoint_configs.assumes_heads(parts["unet"].config, *texts):
        notes.append("The file does not say how many attention heads it has; heads of 64 channels are assumed.")
    notes += _left_out(file, parts)
    scheduler = checkpoint_configs.scheduler(family, chosen, zero_snr=zero_snr)
    return Checkpoint(file, family, chosen, parts, scheduler, tuple(notes))


def _called(prediction: Prediction) -> str:
    return "v" if prediction == "v" else "noise"


def _prediction(file: SafetensorsFile, family: CheckpointFamily, given: Prediction | None) -> Prediction:
    """Return what the UNet predicts: the file's own statement, else the caller's, else that of the family.

    Raises:
        ModelError: the two contradict each other, or a Stable Diffusion 2 checkpoint comes with neither.
    """
    stated = _stated_prediction(file)
    if stated and given and stated != given:
        raise ModelError(
            f"{file.path} says that it predicts {_called(stated)}, not {_called(given)}.",
            fix="Leave out `prediction=`.",
        )
    if family == "sd2" and not (stated or given):
        raise ModelError(
            f"{file.path} is a checkpoint of Stable Diffusion 2 and does not say whether it predicts noise or v.",
            fix='Pass `prediction="v"` for models with 768 pixels, `prediction="epsilon"` for models with 512; see its '
            "page.",
        )
    return stated or given or "epsilon"


def _stated_prediction(file: SafetensorsFile) -> Prediction | None:
    if "v_pred" in file.shapes:
        return "v"
    stated = file.metadata.get("modelspec.prediction_type", "").lower()
    if stated in ("v", "v_prediction", "v-prediction", "vpred"):
        return "v"
    if stated in get_args(Prediction) or stated in ("eps", "noise"):
        return "epsilon"
    return {"stable-diffusion-v2-768-v": "v", "stable-diffusion-v2-512": "epsilon"}.get(  # type: ignore[return-value]
        file.metadata.get("modelspec.architecture", "").lower()
    )


def _sample_size(file: SafetensorsFile, family: CheckpointFamily, prediction: Prediction) -> int:
    """Return the size of the latents that the model was trained on."""
    if found := re.fullmatch(r"(\d{3,4})(?:x\1)?", file.metadata.get("modelspec.resolution", "")):
        return int(found[1]) // 8
    return {"sd1": 64, "sd2": 96 if prediction == "v" else 64, "sdxl": 128}[family]


def _parts(file: SafetensorsFile, family: CheckpointFamily, sample_size: int) -> dict[str, _Part]:
    unet = checkpoint_configs.unet(file.named(families_by_keys.UNET), family, sample_size)
    vae = checkpoint_configs.vae(file.named(families_by_keys.VAE), family)
    parts = {
        "unet": _Part("UNet2DConditionModel", unet, families_by_keys.UNET, _convert_unet),
        "vae": _Part("AutoencoderKL", vae, families_by_keys.VAE, _convert_vae),
    }
    if family == "sd2":
        shapes = file.named(families_by_keys.OPEN_CLIP)
        # The UNet was trained on the output of the last layer but one.
        layers = checkpoint_configs.open_clip_layers(shapes) - 1
        config = checkpoint_configs.open_clip(shapes, layers=layers)
        parts["text_encoder"] = _Part("CLIPTextModel", config, families_by_keys.OPEN_CLIP, _convert_open_clip)
        return parts
    prefix = families_by_keys.XL_CLIP if family == "sdxl" else families_by_keys.CLIP
    config = checkpoint_configs.clip(_with_text_model(file.named(prefix)))
    parts["text_encoder"] = _Part("CLIPTextModel", config, prefix, _convert_clip)
    if family == "sdxl":
        shapes = file.named(families_by_keys.XL_OPEN_CLIP)
        config = checkpoint_configs.open_clip(shapes, layers=checkpoint_configs.open_clip_layers(shapes))
        class_name = "CLIPTextModelWithProjection"
        parts["text_encoder_2"] = _Part(class_name, config, families_by_keys.XL_OPEN_CLIP, _convert_open_clip)
        pooled = (unet["projection_class_embeddings_input_dim"] - config["projection_dim"]) // 6
        unet["addition_time_embed_dim"] = pooled
    return parts


def _check_parts(file: SafetensorsFile, family: CheckpointFamily, parts: Mapping[str, _Part]) -> None:
    """Check that the file has every tensor of the model, in its shape.

    Raises:
        ModelError: one is missing, has another shape, or is unknown.
    """
    import torch

    for name, part in parts.items():
        with torch.device("meta"):
            found = {
                key: torch.empty(shape) for key, shape in _known(file.shapes).items() if key.startswith(part.prefix)
            }
        expected: dict[str, tuple[int, ...]] = {}
        try:
            model = empty_models.make(part.class_name, part.config)
            expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
            converted = {key: tuple(value.shape) for key, value in part.convert(found, model).items()}
        except (KeyError, AttributeError, IndexError, RuntimeError, ValueError) as error:
            reason = f"its sizes or names are unusual ({error})"
        else:
            reason = _difference(expected, converted)
            if not reason and part.class_name in _ONE_TO_ONE and len(found) > len(converted):
                reason = f"{len(found) - len(converted)} of its {len(found)} tensors have unknown names"
        if reason:
            raise ModelError(
                f"{file.path} looks like a checkpoint of {NAMES[family]}, but its {name} differs: {reason}.", fix=_FIX
            )


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    for what, names in (
        ("missing", expected.keys() - found.keys()),
        ("unknown", found.keys() - expected.keys()),
        ("of another shape", {key for key in expected.keys() & found.keys() if expected[key] != found[key]}),
    ):
        if names:
            shown = ", ".join(sorted(names)[:_SHOWN])
            return f"{len(names)} tensors are {what}, for example {shown}"
    return ""


def _left_out(file: SafetensorsFile, parts: Mapping[str, _Part]) -> list[str]:
    prefixes = tuple(part.prefix for part in parts.values())
    unused = [name for name in file.shapes if not name.startswith(prefixes) and not _IGNORED.search(name)]
    notes = []
    if any(name.startswith("model_ema.") for name in file.shapes):
        notes.append("The averaged (EMA) weights in the file are left out.")
    if unused:
        notes.append(f"{len(unused)} tensors are not part of the model and are left out, for example {min(unused)}.")
    return notes


def _known(tensors: Mapping[str, Any]) -> _Tensors:
    return {name: tensor for name, tensor in tensors.items() if not _IGNORED.search(name)}


def _described(part: _Part) -> dict[str, Any]:
    model_type = {"model_type": "clip_text_model", "architectures": [part.class_name]}
    return part.config | (model_type if part.class_name.startswith("CLIP") else {})


def _convert_unet(tensors: _Tensors, model: Any) -> _Tensors:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    return dict(convert_ldm_unet_checkpoint(tensors, model.config))


def _convert_vae(tensors: _Tensors, model: Any) -> _Tensors:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    return dict(convert_ldm_vae_checkpoint(tensors, model.config))


def _convert_clip(tensors: _Tensors, model: Any) -> _Tensors:
    prefixes = (families_by_keys.CLIP, families_by_keys.XL_CLIP)
    plain = {name.removeprefix(prefixes[0]).removeprefix(prefixes[1]): tensor for name, tensor in tensors.items()}
    return _fit_text_model(_with_text_model(plain), model)


def _convert_open_clip(tensors: _Tensors, model: Any) -> _Tensors:
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    # diffusers drops the last layer of Stable Diffusion 2 by its number in the published model; here, by its place.
    last = rf"\.transformer\.resblocks\.{model.config.num_hidden_layers}\."
    kept = {name: tensor for name, tensor in tensors.items() if not re.search(last, name)}
    is_xl = any(name.startswith(families_by_keys.XL_OPEN_CLIP) for name in kept)
    prefix = families_by_keys.XL_OPEN_CLIP if is_xl else families_by_keys.OPEN_CLIP
    return _fit_text_model(convert_open_clip_checkpoint(model, kept, prefix=prefix), model)


def _with_text_model(tensors: Mapping[str, Any]) -> _Tensors:
    """Add the prefix that some old checkpoints lack."""
    return {name if name.startswith("text_") else f"text_model.{name}": tensor for name, tensor in tensors.items()}


def _fit_text_model(tensors: _Tensors, model: Any) -> _Tensors:
    """Remove the prefix where transformers' class has none: `CLIPTextModel` since 5.6."""
    if hasattr(model, "text_model"):
        return tensors
    return {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

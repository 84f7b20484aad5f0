"""Checks of a diffusers folder before any weights are loaded (bake/pipeline_folder.py, bake/families.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lambdiff.bake import families, pipeline_folder, text_models, unconverted
from lambdiff.errors import InvalidRequest, ModelError
from support import tiny_pipeline


def rename_to_variant(source: Path, variant: str) -> None:
    """Give all weights the names of a variant, as `save_pretrained(variant=...)` does."""
    for path in list(source.rglob("*.safetensors")):
        path.rename(path.with_name(path.name.replace(".safetensors", f".{variant}.safetensors")))


def copied(source: Path, destination: Path) -> set[str]:
    """Copy a pipeline for the diffusers engine, and return the paths of its files."""
    destination.mkdir()
    unconverted.copy(source, destination, pipeline_folder.read(source), lambda _: None)
    return {str(path.relative_to(destination)) for path in destination.rglob("*") if path.is_file()}


def test_weights_of_a_variant_are_copied_under_the_usual_names(source: Path, tmp_path: Path) -> None:
    """With only `*.fp16.safetensors`, the copy has the names that diffusers looks for without `variant=`."""
    expected = copied(source, tmp_path / "usual")
    rename_to_variant(source, "fp16")
    assert copied(source, tmp_path / "fp16") == expected
    name = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "fp16" / name).read_bytes() == (tmp_path / "usual" / name).read_bytes()


def test_a_variant_beside_the_usual_weights_is_not_copied(source: Path, tmp_path: Path) -> None:
    """If there are both, the usual weights are used, and the variant's are not copied."""
    expected = copied(source, tmp_path / "usual")
    (source / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"half")
    assert copied(source, tmp_path / "both") == expected


def test_sharded_weights_of_a_variant_are_copied(source: Path, tmp_path: Path) -> None:
    """The index of sharded weights names the files of the copy."""
    unet = source / "unet"
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    for number in (1, 2):
        (unet / f"diffusion_pytorch_model.fp16-0000{number}-of-00002.safetensors").write_bytes(b"%d" % number)
    index = {"weight_map": {"a": "diffusion_pytorch_model.fp16-00001-of-00002.safetensors"}}
    (unet / "diffusion_pytorch_model.safetensors.index.fp16.json").write_text(json.dumps(index))
    files = copied(source, tmp_path / "copy")
    assert "unet/diffusion_pytorch_model-00002-of-00002.safetensors" in files
    plain = json.loads((tmp_path / "copy" / "unet" / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert plain == {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors"}}


@pytest.mark.parametrize(("stored", "found"), [(None, (64, 64)), (96, (96, 96)), ([48, 96], (48, 96))])
def test_the_sample_size_is_a_number_or_two(source: Path, stored: object, found: tuple[int, int]) -> None:
    """`sample_size` may be missing, one number, or height and width."""
    tiny_pipeline.edit_json(source / "unet" / "config.json", sample_size=stored)
    assert pipeline_folder.read(source).sample_size == found


@pytest.mark.parametrize("stored", [-1, "64", [64], [64, 0], [64, 64, 64], 1.5, {"height": 64}])
def test_other_sample_sizes_are_refused(source: Path, stored: object) -> None:
    """A `sample_size` of another kind is refused before any weights are loaded."""
    tiny_pipeline.edit_json(source / "unet" / "config.json", sample_size=stored)
    with pytest.raises(ModelError, match="sample_size"):
        pipeline_folder.read(source)


def test_a_tiny_decoder_must_read_the_models_latents(source: Path) -> None:
    """A tiny decoder of another factor or another class is refused; both would decode to noise."""
    tiny = tiny_pipeline.folder(name="tiny_decoder", tiny_decoder=True) / "vae"
    pipeline = pipeline_folder.read(source)
    pipeline_folder.check_tiny_decoder(pipeline, source, tiny)
    with pytest.raises(ModelError, match="is not an AutoencoderTiny"):
        pipeline_folder.check_tiny_decoder(pipeline, source, source / "vae")
    tiny_pipeline.edit_json(source / "vae" / "config.json", block_out_channels=[16, 32, 32, 32])
    with pytest.raises(ModelError, match=r"at 1/4 of the size; the model has 4 channels at 1/8"):
        pipeline_folder.check_tiny_decoder(pipeline_folder.read(source), source, tiny)


def test_a_native_size_must_fit_the_latents(source: Path) -> None:
    """A native size that the UNet cannot halve evenly is refused."""
    with pytest.raises(InvalidRequest, match="cannot generate 72x64"):
        pipeline_folder.check_native_size(pipeline_folder.read(source), (72, 64))


@pytest.mark.parametrize(
    ("pipeline_class", "engine", "fix"),
    [
        ("OnlyForDiffusersPipeline", "openvino", '`engine="diffusers"`'),
        ("StableDiffusionInstructPix2PixPipeline", "openvino", "text-to-image"),
        ("StableDiffusionDepth2ImgPipeline", "diffusers", "text-to-image"),
        ("StableDiffusionControlNetPipeline", "openvino", "text-to-image"),
        ("FluxPipeline", "diffusers", "text-to-image"),
        ("None", "openvino", "text-to-image"),
    ],
)
def test_pipelines_that_an_engine_cannot_run_are_refused(
    pipeline_class: str, engine: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The advice names an engine only if it runs the pipeline."""
    monkeypatch.setitem(families.ENGINES, "OnlyForDiffusersPipeline", ("diffusers",))
    with pytest.raises(ModelError, match=pipeline_class) as caught:
        families.check_engine(Path("model"), {"_class_name": pipeline_class}, engine)  # type: ignore[arg-type]
    assert fix in caught.value.fix


def index_of(pipeline_class: str, **changes: object) -> dict[str, object]:
    """Return the content of a `model_index.json` of a complete pipeline."""
    index = {
        "_class_name": pipeline_class,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": [None, None],
        "requires_safety_checker": True,
    }
    if pipeline_class == "StableDiffusionXLPipeline":
        index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
    return index | changes


@pytest.mark.parametrize("pipeline_class", ["StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"])
def test_pipelines_with_pictures_count_as_text_to_image(pipeline_class: str) -> None:
    """The classes for image to image and inpainting are accepted if their components are the usual ones."""
    for engine in families.ENGINES["StableDiffusionPipeline"]:
        families.check_engine(Path("model"), index_of(pipeline_class), engine)
        with pytest.raises(ModelError, match=f"unlike other {pipeline_class}s"):
            families.check_engine(Path("model"), index_of(pipeline_class, controlnet=["diffusers", "X"]), engine)


@pytest.mark.parametrize("pipeline_class", families.ENGINES)
def test_every_pipeline_of_the_table_has_its_engines(pipeline_class: str) -> None:
    """The engines of the table are accepted, and a class for OpenVINO has a converter."""
    for engine in families.ENGINES[pipeline_class]:
        families.check_engine(Path("model"), index_of(pipeline_class), engine)
    if "openvino" in families.ENGINES[pipeline_class]:
        assert callable(families.converter(pipeline_class))


@pytest.mark.parametrize(
    ("component", "found", "message"),
    [
        ("text_encoder", ["transformers", "T5EncoderModel"], "text_encoder of model is a T5EncoderModel"),
        ("text_encoder", ["transformers", "CLIPTextModelWithProjection"], "is a CLIPTextModelWithProjection"),
        ("text_encoder", ["my_code", "CLIPTextModel2"], "is a CLIPTextModel2"),
        ("vae", ["diffusers", "ConsistencyDecoderVAE"], "vae of model is a ConsistencyDecoderVAE"),
        ("unet", ["diffusers", "UNetMotionModel"], "unet of model is a UNetMotionModel"),
        ("tokenizer", ["transformers", "T5Tokenizer"], "tokenizer of model is a T5Tokenizer"),
        ("controlnet", ["diffusers", "ControlNetModel"], "has the component controlnet"),
        ("scheduler", None, "lacks the component scheduler"),
        ("vae", [None, None], "lacks the component vae"),
    ],
)
def test_unusual_components_are_refused(component: str, found: object, message: str) -> None:
    """A component that is missing, additional or of another class is named before any weights are read."""
    index = index_of("StableDiffusionPipeline", **{component: found})
    for engine in ("openvino", "diffusers"):
        with pytest.raises(ModelError, match=message):
            families.check_engine(Path("model"), index, engine)  # type: ignore[arg-type]


def spoil_blocks(source: Path) -> None:
    """Use layers that do not fit together."""
    config = source / "unet" / "config.json"
    tiny_pipeline.edit_json(config, down_block_types=["KDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnDownBlock2D"])


def spoil_attention(source: Path) -> None:
    """Use a kind of attention that the installed diffusers cannot run."""
    tiny_pipeline.edit_json(source / "unet" / "config.json", dual_cross_attention=True)


@pytest.mark.parametrize("spoil", [spoil_blocks, spoil_attention])
def test_a_unet_that_cannot_be_run_is_refused(source: Path, spoil: Callable[[Path], None]) -> None:
    """Configurations that can be read but not run are refused before any weights are read."""
    spoil(source)
    with pytest.raises(ModelError, match=r"UNet of .* cannot be run"):
        text_models.check_unet(pipeline_folder.read(source), source)


def test_the_width_of_the_text_may_be_given_for_each_level(source: Path) -> None:
    """One number or one for each level, if all of them fit the text encoder."""
    config = source / "unet" / "config.json"
    tiny_pipeline.edit_json(config, cross_attention_dim=[32, 32, 32])
    text_models.check_unet(pipeline_folder.read(source), source)
    tiny_pipeline.edit_json(config, cross_attention_dim=[32, 32, 48])
    with pytest.raises(ModelError, match=r"cross_attention_dim is \[32, 32, 48\], not 32"):
        text_models.check_unet(pipeline_folder.read(source), source)


@pytest.mark.parametrize(("stated", "length"), [(12, 12), (77, 16), (10**30, 16), (1e30, 16), (None, 16), (0, 16)])
def test_a_prompt_is_as_long_as_every_part_reads(source: Path, stated: float | None, length: int) -> None:
    """A tokenizer without a limit, or with a larger one than its text encoder, gets that of the encoder."""
    tiny_pipeline.edit_json(source / "tokenizer" / "tokenizer_config.json", model_max_length=stated)
    assert text_models.prompt_length(source, pipeline_folder.read_index(source)) == length
    (source / "tokenizer" / "tokenizer_config.json").unlink()
    assert text_models.prompt_length(source, pipeline_folder.read_index(source)) == 16

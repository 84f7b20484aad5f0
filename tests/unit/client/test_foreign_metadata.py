"""Parameters in images of other tools (client/foreign_metadata), in files built as those tools write them."""

from __future__ import annotations

import contextlib
import copy
import json
import time
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lambdiff.client import foreign_metadata
from lambdiff.client.foreign_metadata import samplers, webui
from lambdiff.client.foreign_metadata.user_comment import decodings
from lambdiff.errors import MetadataError
from lambdiff.protocol import a1111, image_texts
from lambdiff.protocol.contract import MAX_SEED, Generation
from lambdiff.protocol.metadata import ImageMetadata
from support.foreign_images import (
    COMFY,
    COMFY_WORKFLOW,
    SETTINGS,
    WEBUI,
    chunk,
    draw_things_xmp,
    exif,
    jpeg,
    png,
    png_with,
    text_chunk,
    user_comment,
    webp,
)

SWARM = {
    "sui_image_params": {
        "prompt": "a photo of a cat", "negativeprompt": "dog", "model": "OfficialStableDiffusion/sd_xl_base_1.0",
        "seed": 2042464333, "steps": 25, "cfgscale": 7.0, "width": 512, "height": 768, "sampler": "euler",
        "scheduler": "normal", "loras": ["detail"], "swarm_version": "0.9.6.1",
    },
    "sui_extra_data": {"date": "2025-01-25", "generation_time": "4.84 sec"},
}  # fmt: skip
FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "juggernautXL_v8", "base_model_hash": "aeb7e9e689",
    "full_prompt": ["a cat", "cinematic still"], "guidance_scale": 4, "loras": [["offset", 0.1, "1f"]],
    "negative_prompt": "blurry", "performance": "Speed", "prompt": "a cat", "resolution": "(896, 640)",
    "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "seed": "1234567890123", "sharpness": 2, "steps": 30,
    "styles": "['Fooocus V2']", "vae": "Default (model)", "version": "Fooocus v2.5.5",
}  # fmt: skip
RUINED_FOOOCUS = {
    "Prompt": "a cat", "Negative": "blurry", "steps": 30, "cfg": 8.0, "width": 896, "height": 640, "seed": 5,
    "sampler_name": "dpmpp_2m", "scheduler": "karras", "base_model_name": "crystalClearXL.safetensors",
    "base_model_hash": "0a", "loras": [], "denoise": None, "clip_skip": 1, "software": "RuinedFooocus",
}  # fmt: skip
INVOKE_3 = {
    "app_version": "4.2.7", "generation_mode": "txt2img", "positive_prompt": "a cat", "negative_prompt": "dog",
    "width": 512, "height": 512, "seed": 42, "rand_device": "cpu", "cfg_scale": 7.5, "steps": 30,
    "scheduler": "dpmpp_2m_k", "clip_skip": 0,
    "model": {"key": "k", "hash": "h", "name": "dreamshaper", "base": "sd-1"},
    "loras": [{"model": {"name": "detail"}, "weight": 0.75}],
}  # fmt: skip
INVOKE_2 = {
    "model": "stable diffusion", "model_weights": "stable-diffusion-1.5", "app_version": "2.3.5",
    "image": {"prompt": [{"prompt": "a cat [dog, blurry]", "weight": 1.0}], "steps": 50, "cfg_scale": 7.5, "width": 512,
              "height": 512, "seed": 42, "sampler": "k_euler"},
}  # fmt: skip
NOVELAI = {
    "prompt": "1girl, cat ears", "steps": 28, "height": 1216, "width": 832, "scale": 5.0, "cfg_rescale": 0.0,
    "seed": 3455003881, "n_samples": 1, "noise_schedule": "karras", "sampler": "k_euler_ancestral", "uc": "lowres",
    "controlnet_strength": 1.0, "request_type": "PromptGenerateRequest",
}  # fmt: skip
DRAW_THINGS = {
    "c": "a cat <at> home & away", "uc": "dog", "model": "sd_v1.5_f16.ckpt", "sampler": "DPM++ 2M Karras", "scale": 7,
    "seed": 42, "size": "512x768", "steps": 20, "strength": 1, "v2": {"steps": 99, "prompt": "no"},
}  # fmt: skip
EASY = {
    "prompt": "a cat", "seed": 42, "negative_prompt": "dog", "num_inference_steps": 25, "guidance_scale": 7.5,
    "width": 512, "height": 512, "sampler_name": "ddim", "use_stable_diffusion_model": "models/sd-v1-4.ckpt",
    "clip_skip": False,
}  # fmt: skip


def comfy(**changes: Any) -> dict[str, Any]:
    """Return ComfyUI's first graph with other nodes, or with other inputs of the sampler."""
    graph = copy.deepcopy(COMFY)
    for name, value in changes.items():
        if name.startswith("n"):
            graph[name[1:]] = value
        else:
            graph["3"]["inputs"][name] = value
    return graph


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """Return a node of a graph."""
    return {"class_type": kind, "inputs": inputs}


def sampler(**changes: Any) -> dict[str, Any]:
    """Return the sampler of that graph with other inputs."""
    return {**COMFY["3"], "inputs": {**COMFY["3"]["inputs"], **changes}}


def custom_sampler() -> dict[str, Any]:
    """Return a graph of the kind that Flux uses, with a node for each setting."""
    graph = {name: copy.deepcopy(COMFY[name]) for name in ("4", "5", "6", "7", "8", "9")}
    graph["3"] = node(
        "SamplerCustomAdvanced",
        noise=["10", 0],
        guider=["11", 0],
        sampler=["12", 0],
        sigmas=["13", 0],
        latent_image=["5", 0],
    )
    graph["10"] = node("RandomNoise", noise_seed=["15", 0])
    graph["11"] = node("CFGGuider", cfg=3.5, model=["4", 0], positive=["14", 0], negative=["7", 0])
    graph["12"] = node("KSamplerSelect", sampler_name="dpmpp_2m")
    graph["13"] = node("BasicScheduler", scheduler="karras", steps=12, denoise=1.0, model=["4", 0])
    graph["14"] = node("FluxGuidance", guidance=3.5, conditioning=["6", 0])
    graph["15"] = node("PrimitiveInt", value=7)
    return graph


def xmp(text: str) -> bytes:
    """Return an XMP document with a text as the comment."""
    settings = draw_things_xmp({}).partition("{}")
    return (settings[0] + text + settings[2]).encode()


def raw_profile(data: bytes) -> str:
    """Return EXIF data as ImageMagick stores it in a PNG file."""
    digits = (b"Exif\0\0" + data).hex()
    lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    return f"\nexif\n{len(data) + 6:8}\n{lines}\n"


def comfy_webp() -> bytes:
    """Return what `SaveAnimatedWEBP` writes: the graphs in the fields for the camera's maker and model."""
    fields = Image.Exif()
    fields[0x0110] = f"prompt:{json.dumps(COMFY)}"
    fields[0x010F] = f"workflow:{json.dumps(COMFY_WORKFLOW)}"
    return webp(fields.tobytes())


def fooocus_jpeg() -> bytes:
    """Return what Fooocus writes: the comment as text and in the wrong directory, by Pillow."""
    fields = Image.Exif()
    fields[0x9286] = json.dumps(dict(sorted(FOOOCUS.items())))
    fields[0x0131] = "Fooocus v2.5.5"
    fields[0x927C] = "fooocus"
    return jpeg(fields.tobytes().removeprefix(b"Exif\0\0"))


BOTTLE = {
    "tool": "ComfyUI", "prompt": "a glass bottle, galaxy", "negative_prompt": "text, watermark",
    "num_inference_steps": 20, "guidance_scale": 8.0, "seed": 156680208700286, "width": 512, "height": 768,
    "scheduler": "euler", "model": "v1-5-pruned-emaonly.ckpt",
}  # fmt: skip
CAT_FOOOCUS = {
    "tool": "Fooocus", "prompt": "a cat", "negative_prompt": "blurry", "num_inference_steps": 30, "guidance_scale": 4.0,
    "seed": 1234567890123, "width": 896, "height": 640, "scheduler": "dpmpp_2m_sde",
    "sigma_schedule": "karras", "model": "juggernautXL_v8",
}  # fmt: skip
CAT_SWARM = {
    "tool": "SwarmUI", "prompt": "a photo of a cat", "negative_prompt": "dog", "num_inference_steps": 25,
    "guidance_scale": 7.0, "seed": 2042464333, "width": 512, "height": 768, "scheduler": "euler",
}  # fmt: skip
CAT_INVOKE = {
    "tool": "InvokeAI", "prompt": "a cat", "num_inference_steps": 50, "guidance_scale": 7.5, "seed": 42, "width": 512,
    "height": 512,
}  # fmt: skip
CAT_EASY = {
    "tool": "Easy Diffusion", "prompt": "a cat", "negative_prompt": "dog", "num_inference_steps": 25,
    "guidance_scale": 7.5, "seed": 42, "width": 512, "height": 512, "scheduler": "ddim", "model": "models/sd-v1-4.ckpt",
}  # fmt: skip
NIGHT = {
    "prompt": "masterpiece, night\nsecond line", "negative_prompt": "lowres, bad hands", "num_inference_steps": 30,
    "guidance_scale": 5.5, "seed": 1960802277, "width": 768, "height": 512, "scheduler": "euler", "model": "v1-5",
}  # fmt: skip
IMAGES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "web UI, PNG": (png_with({"parameters": WEBUI}, "tEXt"), {**NIGHT, "tool": "the web UI of AUTOMATIC1111"}),
    "web UI, compressed text": (png_with({"parameters": WEBUI}, "zTXt"), NIGHT),
    "web UI, compressed international text": (png_with({"parameters": WEBUI}, "iTXt+"), NIGHT),
    "web UI, JPEG": (jpeg(exif(user_comment(WEBUI))), NIGHT),
    "web UI, WebP": (webp(exif(user_comment(WEBUI))), NIGHT),
    "web UI, GIF's way": (jpeg(comment=WEBUI.encode()), NIGHT),
    "Forge": (
        png_with({"parameters": f"a cat\n{SETTINGS}, Distilled CFG Scale: 3.5, Version: f2.0.1v1.10.1, Module 1: ae"}),
        {"tool": "Forge", "prompt": "a cat", "note": "Distilled CFG Scale 3.5, Module 1 ae"},
    ),
    "stable-diffusion.cpp": (
        png_with({"parameters": "a cät\nNegative prompt: dog\nSteps: 20, CFG scale: 7.000000, Guidance: 3.5, Seed: 42, "
                  "Size: 512x512, Model: sd.gguf, RNG: cuda, Sampler: dpm++2m, Version: stable-diffusion.cpp"}),
        {"tool": "stable-diffusion.cpp", "prompt": "a cät", "guidance_scale": 7.0, "scheduler": "dpmpp_2m"},
    ),
    "ComfyUI": (png_with({"prompt": COMFY, "workflow": COMFY_WORKFLOW}), BOTTLE),
    "ComfyUI, the graph that ran": (png_with({"prompt": COMFY}), BOTTLE),
    "ComfyUI, the editor's graph": (png_with({"workflow": COMFY_WORKFLOW}), BOTTLE),
    "ComfyUI, WebP": (comfy_webp(), BOTTLE),
    "ComfyUI, graphs in a UserComment": (
        jpeg(exif(user_comment(json.dumps({"prompt": COMFY, "workflow": COMFY_WORKFLOW})))), BOTTLE),
    "ComfyUI, a node for each setting": (
        png_with({"prompt": custom_sampler()}),
        {"prompt": "a glass bottle, galaxy", "negative_prompt": "text, watermark", "num_inference_steps": 12, "seed": 7,
         "guidance_scale": 3.5, "width": 512, "scheduler": "dpmpp_2m", "sigma_schedule": "karras"},
    ),
    "ComfyUI, with the web UI's text": (png_with({"prompt": COMFY, "parameters": WEBUI}), NIGHT),
    "SwarmUI, PNG": (png_with({"parameters": SWARM}), {**CAT_SWARM, "note": 'loras ["detail"]'}),
    "SwarmUI, JPEG": (jpeg(exif(user_comment(json.dumps(SWARM, indent=2), "<"), order="<")), CAT_SWARM),
    "SwarmUI, before 0.6": (jpeg(exif(root={0x0110: json.dumps(SWARM).encode() + b"\0"}, order="<")), CAT_SWARM),
    "Fooocus, PNG": (
        png_with({"parameters": FOOOCUS, "fooocus_scheme": "fooocus"}), CAT_FOOOCUS),
    "Fooocus, JPEG": (fooocus_jpeg(), CAT_FOOOCUS),
    "Fooocus, web UI's scheme": (
        png_with({"parameters": "a cat, cinematic\nNegative prompt: blurry\nSteps: 30, Sampler: DPM++ 2M SDE Karras, "
                  "Seed: 1234567890123, Size: 896x640, CFG scale: 4, Sharpness: 2, ADM Guidance: \"(1.5, 0.8, 0.3)\", "
                  "Model: juggernautXL_v8, Scheduler: karras, Version: Fooocus v2.5.5", "fooocus_scheme": "a1111"}),
        {**CAT_FOOOCUS, "prompt": "a cat, cinematic", "note": "Sharpness 2"},
    ),
    "RuinedFooocus": (
        png_with({"parameters": RUINED_FOOOCUS}),
        {"tool": "RuinedFooocus", "prompt": "a cat", "negative_prompt": "blurry", "num_inference_steps": 30,
         "guidance_scale": 8.0, "seed": 5, "width": 896, "height": 640, "scheduler": "dpmpp_2m",
         "sigma_schedule": "karras", "model": "crystalClearXL.safetensors"},
    ),
    "InvokeAI 3": (
        png_with({"invokeai_metadata": INVOKE_3, "invokeai_graph": {"nodes": {}}}),
        {**CAT_INVOKE, "num_inference_steps": 30, "negative_prompt": "dog", "scheduler": "dpmpp_2m",
         "model": "dreamshaper", "sigma_schedule": "karras"},
    ),
    "InvokeAI 2": (
        png_with({"sd-metadata": INVOKE_2, "Dream": '"a dog" -s 1'}),
        {**CAT_INVOKE, "negative_prompt": "dog, blurry", "scheduler": "euler", "model": "stable-diffusion-1.5"},
    ),
    "InvokeAI 1": (
        png_with({"Dream": '"a cat [dog]" -s 50 -S 42 -W 512 -H 512 -C 7.5 -A k_lms'}),
        {**CAT_INVOKE, "negative_prompt": "dog", "scheduler": None, "note": "k_lms"},
    ),
    "NovelAI": (
        png_with({"Title": "AI generated image", "Description": "1girl, cat ears", "Software": "NovelAI",
                  "Source": "NovelAI Diffusion V4 37442FCA", "Generation time": "5.4", "Comment": NOVELAI}, "tEXt"),
        {"tool": "NovelAI", "prompt": "1girl, cat ears", "negative_prompt": "lowres", "num_inference_steps": 28,
         "guidance_scale": 5.0, "seed": 3455003881, "width": 832, "height": 1216, "scheduler": "euler_ancestral",
         "model": "NovelAI Diffusion V4 37442FCA", "note": '"karras" is not supported with euler_ancestral'},
    ),
    "NovelAI, first model": (
        png(text_chunk("Description", "1girl"), text_chunk("Software", "NovelAI"),
            text_chunk("Comment", '{"steps": 28, "sampler": "plms", "seed": 5, "scale": 11.0, "uc": "lowres"}'),
            width=512, height=768),
        {"prompt": "1girl", "width": 512, "height": 768, "scheduler": "pndm", "guidance_scale": 11.0},
    ),
    "NovelAI, WebP": (
        webp(exif(user_comment(json.dumps({"Comment": json.dumps(NOVELAI), "Description": "1girl"})))),
        {"tool": "NovelAI", "prompt": "1girl, cat ears", "seed": 3455003881},
    ),
    "Draw Things, PNG": (
        png_with({"XML:com.adobe.xmp": draw_things_xmp(DRAW_THINGS)}),
        {"tool": "Draw Things", "prompt": "a cat <at> home & away", "negative_prompt": "dog", "num_inference_steps": 20,
         "guidance_scale": 7.0, "seed": 42, "width": 512, "height": 768, "scheduler": "dpmpp_2m",
         "sigma_schedule": "karras"},
    ),
    "Draw Things, JPEG": (jpeg(xmp=draw_things_xmp(DRAW_THINGS).encode()), {"tool": "Draw Things", "seed": 42}),
    "Draw Things, WebP": (webp(xmp=draw_things_xmp(DRAW_THINGS).encode()), {"tool": "Draw Things", "seed": 42}),
    "InvokeAI, UserComment": (jpeg(exif(user_comment(json.dumps(INVOKE_3)))), {"tool": "InvokeAI", "seed": 42}),
    "ComfyUI, graph in `parameters`": (png_with({"parameters": COMFY}), BOTTLE),
    "ComfyUI, graphs in `parameters`": (png_with({"parameters": {"prompt": COMFY, "workflow": {}}}), BOTTLE),
    "web UI, XMP": (jpeg(xmp=xmp(WEBUI)), NIGHT),
    "web UI, XMP attribute": (
        webp(xmp=xmp("").replace(b"xmlns:exif", b'exif:UserComment="a cat&#10;' + SETTINGS.encode() + b'" xmlns:exif')),
        {"prompt": "a cat", "seed": 1960802277},
    ),
    "web UI, by ImageMagick": (png_with({"Raw profile type exif": raw_profile(exif(user_comment(WEBUI)))}), NIGHT),
    "web UI, few settings": (
        jpeg(exif(user_comment("кот\nSteps: 4, Seed: 1"))), {"prompt": "кот", "num_inference_steps": 4, "seed": 1}),
    "web UI, no settings": (
        jpeg(exif(user_comment("кот\nNegative prompt: собака"))), {"prompt": "кот", "negative_prompt": "собака"}),
    "Easy Diffusion, PNG": (png_with({name: str(value) for name, value in EASY.items()}, "tEXt"), CAT_EASY),
    "Easy Diffusion, JPEG": (jpeg(exif(user_comment(json.dumps(EASY)))), CAT_EASY),
    "Easy Diffusion, in words": (
        png_with({"Prompt": "a cat", "Seed": "42", "Negative Prompt": "dog", "Steps": "25", "Guidance Scale": "7.5",
                  "Width": "512", "Height": "512", "Sampler": "ddim", "Stable Diffusion model": "models/sd-v1-4.ckpt"}),
        CAT_EASY,
    ),
}  # fmt: skip


def check(found: ImageMetadata, expected: dict[str, Any]) -> None:
    """Compare attributes, fields of the request, and the text of the notes."""
    for name, value in expected.items():
        if name == "note":
            assert value in "\n".join(found.notes)
        else:
            assert getattr(found if name in ("tool", "model") else found.request, name) == value, name


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_every_tool_are_read(name: str) -> None:
    """Prompt, negative prompt and settings are read from a file as the tool writes it, and the tool is named."""
    content, expected = IMAGES[name]
    found = foreign_metadata.read(content)
    check(found, expected)
    assert not found.exact
    assert found.tool in found.notes[0]
    assert found.reusable()["prompt"] == found.request.prompt


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("text", [WEBUI, f"Катя, 猫, 😀, café\n{SETTINGS}", f"\u2100\u2100\n{SETTINGS}"])
def test_every_encoding_of_a_user_comment_is_read(order: str, text: str) -> None:
    """The prompt is read in each encoding, declared rightly, wrongly or not at all, from EXIF of either byte order."""
    prompt = text[: min(text.index("\n" + label) for label in ("Negative", "Steps") if label in text)]
    comments = [
        b"UNICODE\0" + text.encode("utf-16-le"),
        b"UNICODE\0" + text.encode("utf-16-be"),
        b"UNICODE\0\xff\xfe" + text.encode("utf-16-le"),
        b"UNICODE\0\xfe\xff" + text.encode("utf-16-be"),
        b"UNICODE\0" + text.encode(),
        b"UNICODE\0" + text.encode("utf-32-le"),
        b"UNICODE\0" + text.encode("utf-32-be"),
        b"UNICODE\0" + text.encode("utf-32"),
        text.encode("utf-32-le"),
        b"UNICODE\0\xef\xbb\xbf" + text.encode(),
        b"Unicode\0" + text.encode("utf-16-le") + bytes(7),
        b"ASCII\0\0\0" + text.encode(),
        b"ASCII\0\0\0" + text.encode("utf-16-le"),
        b"JIS\0\0\0\0\0" + text.encode(),
        bytes(8) + text.encode(),
        bytes(8) + text.encode("utf-16-be"),
        text.encode(),
        b"\xff\xfe" + text.encode("utf-16-le"),
        b"ASCII\0\0\0" + text.encode() + bytes(100),
    ]
    for comment in comments:
        for container in (jpeg, webp):
            for kind in (1, 2, 7):
                found = foreign_metadata.read(container(exif(comment, order=order, kind=kind)))
                assert (found.request.prompt, found.request.seed) == (prompt, 1960802277), comment[:10]


@pytest.mark.parametrize("encoding", ["iso2022_jp", "shift_jis", "euc_jp"])
def test_japanese_encodings_are_read(encoding: str) -> None:
    """`JIS` stands for ISO-2022-JP, and in practice for its relatives as well."""
    comment = b"JIS\0\0\0\0\0" + f"猫と帽子\n{SETTINGS}".encode(encoding)
    assert foreign_metadata.read(jpeg(exif(comment))).request.prompt == "猫と帽子"


@pytest.mark.parametrize("options", [{}, {"sub_folder_first": True}, {"comment_in_root": True}, {"kind": 129}])
def test_exif_is_read_in_any_order(options: dict[str, Any]) -> None:
    """The comment is found if the directories are in another order, and in the wrong directory."""
    for order in ("<", ">"):
        fields = {0x010E: b"a photo\0", 0x0131: b"x"}
        data = exif(user_comment(WEBUI, order), order=order, root=fields, **options)
        for content in (jpeg(data), webp(data), webp(b"Exif\0\0" + data), png(chunk(b"eXIf", data))):
            assert foreign_metadata.read(content).request.seed == 1960802277


def test_long_exif_continues_in_further_segments() -> None:
    """EXIF data of more than 64 KiB, as graphs need, is put together again."""
    graph = comfy(n10=node("Note", text="x" * 200_000))
    assert foreign_metadata.read(jpeg(exif(root={0x0110: f"prompt:{json.dumps(graph)}".encode()}))).request.width == 512


def test_of_several_exif_blocks_the_one_with_texts_is_read() -> None:
    """Some editors add EXIF data beside the existing one."""
    blocks = jpeg(exif(), comment=b"x")[:2] + jpeg(exif(user_comment(WEBUI)))[2:]
    first = jpeg(exif())
    both = first[: first.index(b"\xff\xe0")] + jpeg(exif(user_comment(WEBUI)))[2:]
    for content in (blocks, both):
        assert foreign_metadata.read(content).request.seed == 1960802277


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@given(TEXT, st.sampled_from(["little", "big"]), st.booleans())
@settings(deadline=None)
def test_any_text_comes_back_from_any_declared_encoding(text: str, byte_order: Any, bom: bool) -> None:
    """The first decoding of a UserComment is its text: UTF-16 in EXIF's order or with a mark, ASCII, JIS."""
    text = text.removeprefix("\ufeff")
    utf16 = "utf-16-le" if byte_order == "little" else "utf-16-be"
    assert next(decodings(b"UNICODE\0" + text.encode(utf16), byte_order)) == text
    if bom:
        for encoding in ("utf-16-le", "utf-16-be"):
            comment = b"UNICODE\0" + ("\ufeff" + text).encode(encoding)
            assert next(decodings(comment, byte_order)) == text
    assert next(decodings(b"ASCII\0\0\0" + text.encode(), byte_order)) == text
    assert next(decodings(bytes(8) + text.encode(), byte_order)) == text
    with contextlib.suppress(UnicodeEncodeError):
        assert next(decodings(b"JIS\0\0\0\0\0" + text.encode("iso2022_jp"), byte_order)) == text


@given(TEXT.filter(str.strip), st.sampled_from(["<", ">"]), st.sampled_from(["<", ">"]))
@settings(deadline=None)
def test_any_prompt_comes_back_whatever_the_byte_order(prompt: str, order: str, comment_order: str) -> None:
    """A prompt with settings is read even if the byte order of the comment is not that of the EXIF data."""
    prompt = " ".join(prompt.split()) or "x"
    text = f"{prompt}\n{SETTINGS}"
    found = foreign_metadata.read(jpeg(exif(user_comment(text, comment_order), order=order)))
    if "Negative prompt:" not in prompt:
        assert found.request.prompt == prompt


LINES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=30).map(str.strip)
LINES = LINES.filter(lambda line: line and not line.startswith(("Negative prompt:", "Template:", "Negative Template:")))


@given(st.lists(LINES, min_size=1, max_size=4), st.lists(LINES, max_size=3), st.lists(LINES, max_size=3))
@settings(deadline=None)
def test_the_settings_are_found_wherever_they_are(prompt: list[str], negative: list[str], template: list[str]) -> None:
    """Prompts and negative prompts of several lines, and templates before or after the settings, keep their places."""
    parts = ["\n".join(prompt)]
    if negative:
        parts.append("Negative prompt: " + "\n".join(negative))
    parts.append(SETTINGS)
    if template:
        parts.append("Template: " + "\n".join(template))
        parts.append("Negative Template: " + "\n".join(template))
    found = webui.read("\n".join(parts), require_settings=True)
    assert found is not None
    assert found.request.prompt == "\n".join(prompt)
    assert found.request.negative_prompt == ("\n".join(negative) or None)
    assert found.request.seed == 1960802277
    assert found.settings.get("Template", "") == "\n".join(template)


@pytest.mark.parametrize(
    "parts",
    [
        ["a cat", "Negative prompt: dog", SETTINGS],
        ["a cat", SETTINGS, "Negative prompt: dog"],
        [SETTINGS, "a cat", "Negative prompt: dog"],
        ["a cat", SETTINGS, "Negative prompt: dog", "Template: __animal__", "Negative Template: x"],
    ],
)
def test_lines_are_read_in_any_order(parts: list[str]) -> None:
    """Prompt, negative prompt and settings are told apart by their labels, not by their order."""
    found = webui.read("\n".join(parts), require_settings=True)
    assert found is not None
    assert found.request.prompt == "a cat"
    assert (found.request.negative_prompt, found.request.num_inference_steps) == ("dog", 30)


@given(
    TEXT.map(str.strip).filter(bool),
    TEXT.map(str.strip),
    st.sampled_from([*a1111.SAMPLERS]),
    st.integers(0, MAX_SEED),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(str.strip),
)
@settings(deadline=None)
def test_our_own_text_comes_back(prompt: str, negative: str, scheduler: Any, seed: int, model: str) -> None:
    """The text that lambdiff writes is read back without its exact record, for any prompt and any name of a model."""
    generation = Generation(
        prompt=prompt.replace("\r\n", "\n").replace("Template:", ""), negative_prompt=negative.replace("\r\n", "\n"),
        num_inference_steps=20, guidance_scale=7.5, width=512, height=768, seed=seed, scheduler=scheduler,
    )  # fmt: skip
    found = webui.read(a1111.to_text(generation, model), require_settings=True)
    assert found is not None
    read = found.request
    assert (read.scheduler, read.seed, read.width, read.height) == (scheduler, seed, 512, 768)
    assert (read.num_inference_steps, read.guidance_scale, found.model, found.tool) == (20, 7.5, model, "lambdiff")
    if "Negative prompt:" not in prompt:
        assert read.prompt == generation.prompt.strip()
        assert (read.negative_prompt or "") == generation.negative_prompt.strip()


def test_a_denoising_strength_is_that_of_a_start_image() -> None:
    """The web UI's denoising strength is read, with a note; that of its upscaling is not supported."""
    start = webui.read(f"a cat\n{SETTINGS}, Denoising strength: 0.45, Mask blur: 4", require_settings=True)
    assert start is not None
    assert start.request.strength == 0.45
    assert any("start image" in note and "`image=`" in note for note in start.notes)
    assert start.notes[-1] == "Not supported: Mask blur 4."
    upscaled = webui.read(
        f"a cat\n{SETTINGS}, Denoising strength: 0.45, Hires upscale: 2, Hires upscaler: Latent", require_settings=True
    )
    assert upscaled is not None
    assert upscaled.request.strength is None
    assert "Denoising strength 0.45" in upscaled.notes[-1]
    far = webui.read(f"a cat\n{SETTINGS}, Denoising strength: 7", require_settings=True)
    assert far is not None
    assert "strength" not in far.reusable()


TEMPLATE = "\nTemplate:a {red|blue} __animal__, large: yes, small: no\nSteps: 9, Sampler: X, Seed: 1, Size: 8x8\nmore"


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        (WEBUI + TEMPLATE, "masterpiece, night\nsecond line", "lowres, bad hands"),
        (WEBUI + TEMPLATE + "\nNegative Template:bad, {a|b}", "masterpiece, night\nsecond line", "lowres, bad hands"),
        (f"a cat\n{SETTINGS}\nTemplate: a\nNegative prompt: not this", "a cat", None),
        (f"a cat\nSteps: 4, Seed: 1\n{SETTINGS}", "a cat\nSteps: 4, Seed: 1", None),
        (f"Steps: 4, Sampler: X, Seed: 1\n{SETTINGS}", "Steps: 4, Sampler: X, Seed: 1", None),
        (f"12 Steps: up, the Negative prompt: kind\n{SETTINGS}", "12 Steps: up, the Negative prompt: kind", None),
        (f"a\nNegative prompt: b\nc, d: e\n{SETTINGS}", "a", "b\nc, d: e"),
        (f"Negative prompt: b\n{SETTINGS}", "", "b"),
        (f"a cat\r\nNegative prompt: dog\r\n{SETTINGS}\r\n", "a cat", "dog"),
        (f"a cat Negative prompt: dog {SETTINGS}", "a cat", "dog"),
        (f"{SETTINGS}", "", None),
        (f"\ufeffa\0 cat\n{SETTINGS}\0\0", "a cat", None),
        (f"{{red|blue}} cat\n{SETTINGS}", "{red|blue} cat", None),
    ],
)
def test_prompts_and_further_lines_do_not_hide_the_settings(text: str, prompt: str, negative: str | None) -> None:
    """Neither appended lines nor prompts that look like settings change what is read."""
    request = foreign_metadata.read(png_with({"parameters": text})).request
    assert (request.prompt.removeprefix("\ufeff"), request.negative_prompt) == (prompt, negative)
    assert (request.num_inference_steps, request.seed, request.width) == (30, 1960802277, 768)


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        ("just a prompt", "just a prompt", None),
        ("a prompt: with a colon, and a comma", "a prompt: with a colon, and a comma", None),
        ("a\nNegative prompt: b", "a", "b"),
        ("Negative prompt: b\nSteps: 1, Sampler: Foo, Seed: 2", "", "b"),
        ("a\nSteps: many, Sampler: Foo, CFG scale: x, Seed: -1, Size: huge", "a", None),
    ],
)
def test_incomplete_texts_are_read_as_far_as_possible(text: str, prompt: str, negative: str | None) -> None:
    """Values that are missing or unreadable stay None, and the others are read."""
    request = foreign_metadata.read(png_with({"parameters": text})).request
    assert (request.prompt, request.negative_prompt) == (prompt, negative)
    assert request.width is None
    assert request.scheduler is None


def test_values_may_contain_anything_that_is_quoted() -> None:
    """Quotes, JSON and commas belong to the value, and every setting is kept as text."""
    line = (
        'Steps: 20, Sampler: Euler, Seed: 1, Lora hashes: "a: 1, b: 2", Hires prompt: "one\\ntwo, \\"three\\"", '
        'Hashes: {"model": "1f, 2"}, Civitai resources: [{"type": "lora", "weight": 1}], Clip skip: 2, Note: x, y'
    )
    found = foreign_metadata.read(png_with({"parameters": f"a cat\n{line}"}))
    assert found.settings == {
        "Steps": "20", "Sampler": "Euler", "Seed": "1", "Lora hashes": "a: 1, b: 2",
        "Hires prompt": 'one\ntwo, "three"', "Hashes": '{"model": "1f, 2"}',
        "Civitai resources": '[{"type": "lora", "weight": 1}]', "Clip skip": "2", "Note": "x, y",
    }  # fmt: skip
    (note,) = [note for note in found.notes if note.startswith("Not supported")]
    assert note == 'Not supported: Lora hashes a: 1, b: 2, Hires prompt one\ntwo, "three", Clip skip 2, Note x, y.'


@pytest.mark.parametrize(
    ("sampler", "schedule", "scheduler", "sigma_schedule", "noted"),
    [
        ("DPM++ 2M", "", "dpmpp_2m", "normal", ""),
        ("DPM++ 2M", "Automatic", "dpmpp_2m", "normal", ""),
        ("DPM++ 2M", "Karras", "dpmpp_2m", "karras", ""),
        ("DPM++ 2M Karras", "", "dpmpp_2m", "karras", ""),
        ("DPM++ 2M SDE Karras", "", "dpmpp_2m_sde", "karras", ""),
        ("DPM++ 2M SDE", "Exponential", "dpmpp_2m_sde", "exponential", ""),
        ("DPM++ SDE Karras", "", None, None, "DPM++ SDE Karras"),
        ("DPM++ 3M SDE", "Karras", None, None, "DPM++ 3M SDE, Karras"),
        ("Euler", "Normal", "euler", "normal", ""),
        ("Euler", "SGM Uniform", "euler", "normal", "SGM Uniform"),
        ("Euler a", "", "euler_ancestral", "normal", ""),
        ("Euler A", "", "euler_ancestral", "normal", ""),
        ("k_euler", "", "euler", "normal", ""),
        ("k_euler_a", "", "euler_ancestral", "normal", ""),
        ("euler_ancestral", "karras", "euler_ancestral", "normal", "karras"),
        ("dpmpp_2m", "karras", "dpmpp_2m", "karras", ""),
        ("dpmpp_2m_k", "", "dpmpp_2m", "karras", ""),
        ("dpmpp_2m_sde_gpu", "normal", "dpmpp_2m_sde", "normal", ""),
        ("dpm++2m", "", "dpmpp_2m", "normal", ""),
        ("dpm++2mv2", "", None, None, "dpm++2mv2"),
        ("Heun", "Karras", "heun", "karras", ""),
        ("PLMS", "", "pndm", "normal", ""),
        ("pndm", "", "pndm", "normal", ""),
        ("LMS", "", None, None, "LMS"),
        ("LCM", "sgm_uniform", "lcm", "normal", ""),
        ("TCD", "Simple", "tcd", "normal", ""),
        ("DDIM", "", "ddim", "normal", ""),
        ("DDIM CFG++", "", None, None, "DDIM CFG++"),
        ("UniPC", "", "unipc", "normal", ""),
        ("uni_pc_bh2", "exponential", "unipc", "exponential", ""),
        ("", "", None, None, ""),
        ("k", "", None, None, "k"),
        ("-", "", None, None, "-"),
    ],
)
def test_samplers_are_translated_or_named(
    sampler: str, schedule: str, scheduler: str | None, sigma_schedule: str | None, noted: str
) -> None:
    """A sampler becomes lambdiff's scheduler, or a note names it; so does a noise schedule that lambdiff lacks."""
    found = samplers.translate(sampler, schedule)
    assert (found.scheduler, found.sigma_schedule) == (scheduler, sigma_schedule)
    assert (f'"{noted}"' in "".join(found.notes)) if noted else found.notes == []


def test_values_out_of_range_are_named_and_left_out() -> None:
    """`--like` works with an image whose seed, size or steps lambdiff does not support."""
    text = "a cat\nSteps: 150, Sampler: Euler, CFG scale: 55, Seed: 18446744073709551615, Size: 1216x832"
    found = foreign_metadata.read(png_with({"parameters": text}))
    assert found.request.seed == 2**64 - 1
    assert found.reusable() == {"prompt": "a cat", "scheduler": "euler", "sigma_schedule": "normal"}
    for value in (
        "num_inference_steps is 150",
        "seed is 18446744073709551615",
        "guidance_scale is 55",
        "size is 1216x832",
    ):
        assert value in "\n".join(found.notes)


@pytest.mark.parametrize("prompt", ["a (cat:1.2)", "a cat <lora:x:0.5>", "[cat:dog:0.5]", "a cat BREAK a dog"])
def test_prompt_syntax_is_named(prompt: str) -> None:
    """A note shows the first part of a prompt that another tool would not have taken literally."""
    found = foreign_metadata.read(png_with({"parameters": f"{prompt}\n{SETTINGS}"}))
    assert any("plain text" in note for note in found.notes)


def test_our_own_record_comes_first() -> None:
    """lambdiff's record is used if it is valid; otherwise the web UI's text is."""
    record = '{"generation":{"prompt":"a","num_inference_steps":99999}}'
    found = foreign_metadata.read(png_with({"lambdiff": record, "parameters": WEBUI}))
    assert (found.exact, found.request.num_inference_steps) == (False, 30)


# Graphs


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (comfy(seed=["20", 0], n20=node("Seed (rgthree)", seed=99)), {"seed": 99}),
        (comfy(steps=["20", 0], n20=node("INTConstant", value=12)), {"num_inference_steps": 12, "note": "INTConstant"}),
        (comfy(n6=node("CLIPTextEncode", text=["20", 0]), n20=node("PrimitiveString", value="dog")), {"prompt": "dog"}),
        (
            comfy(n6=node("CLIPTextEncodeSDXL", text_g="a cat", text_l="a cat", width=1024)),
            {"prompt": "a cat"},
        ),
        (comfy(n7=node("ConditioningZeroOut", conditioning=["6", 0])), {"negative_prompt": None}),
        (
            comfy(
                positive=["20", 0],
                negative=["20", 1],
                n20=node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["21", 0]),
                n21=node("ControlNetLoader", control_net_name="x"),
            ),
            {"prompt": "a glass bottle, galaxy", "negative_prompt": "text, watermark", "note": "ControlNetApply"},
        ),
        (
            comfy(model=["20", 0], n20=node("LoraLoader", lora_name="x", model=["4", 0], clip=["4", 1])),
            {"model": "v1-5-pruned-emaonly.ckpt", "note": "LoraLoader"},
        ),
        (
            comfy(latent_image=["20", 0], n20=node("VAEEncode", pixels=["21", 0]), n21=node("LoadImage", image="x")),
            {"width": None, "note": "an input image"},
        ),
        (comfy(denoise=0.5), {"note": "denoise 0.5"}),
        (
            comfy(  # a second sampler refines the enlarged image
                n20=node("LatentUpscale", samples=["3", 0], width=1024, height=1024),
                n21=sampler(steps=8, denoise=0.5, latent_image=["20", 0]),
                n8=node("VAEDecode", samples=["21", 0], vae=["4", 2]),
            ),
            {"num_inference_steps": 20, "width": 512, "note": "further samplers"},
        ),
        (
            comfy(n21=sampler(positive=["7", 0])),  # not connected
            {"prompt": "a glass bottle, galaxy"},
        ),
        (
            comfy(
                n21=sampler(steps=8),
                n22=node("VAEDecode", samples=["21", 0], vae=["4", 2]),
            ),
            {"prompt": "a glass bottle, galaxy", "num_inference_steps": None, "note": "several values for steps"},
        ),
        (comfy(cfg=float("nan")), {"guidance_scale": None}),
        ({**COMFY, "x": 1, "y": None, "z": {"class_type": 5}}, {"prompt": "a glass bottle, galaxy"}),
    ],
)  # fmt: skip
def test_graphs_are_read_where_they_leave_no_doubt(graph: dict[str, Any], expected: dict[str, Any]) -> None:
    """Values are followed through links; what differs between samplers is left out, and other nodes are named."""
    check(foreign_metadata.read(png_with({"prompt": graph})), expected)


@pytest.mark.parametrize(
    "graph",
    [
        comfy(
            n6=node("ConditioningCombine", conditioning_1=["7", 0], conditioning_2=["20", 0]), n20=node("X", text="b")
        ),
        comfy(n6=node("CLIPTextEncodeFlux", clip_l="a", t5xxl="b")),
        comfy(n6=node("CLIPTextEncode", text=["20", 0]), n20=node("Concatenate", a="x", b="y")),
        comfy(n6=node("CLIPTextEncode", text=["6", 0])),
        comfy(positive=["6", 0], n6=node("Loop", conditioning=["6", 0])),
        comfy(positive=None),
        comfy(
            n21=sampler(positive=["7", 0]),
            n22=node("VAEDecode", samples=["21", 0], vae=["4", 2]),
        ),
    ],
)
def test_an_ambiguous_graph_is_refused(graph: dict[str, Any]) -> None:
    """If it is not clear which prompt generated the image, none is guessed."""
    with pytest.raises(MetadataError, match="unclear which prompt"):
        foreign_metadata.read(png_with({"prompt": graph}))


def test_muted_nodes_of_the_editor_are_ignored() -> None:
    """A sampler that is switched off in the editor does not make the graph ambiguous."""
    workflow = copy.deepcopy(COMFY_WORKFLOW)
    workflow["nodes"].append(
        {**workflow["nodes"][3], "id": 33, "mode": 4, "widgets_values": [1, "fixed", 2, 3, "lms", "x", 1]}
    )
    assert foreign_metadata.read(png_with({"workflow": workflow})).request.num_inference_steps == 20


# Files without parameters, and hostile ones

SETTINGS_LIKE = "Steps: 30, Sampler: Euler, CFG scale: 5.5"
NOTHING: dict[str, bytes] = {
    "a camera's comment": jpeg(exif(b"ASCII\0\0\0" + b"Shot on a rainy day: f/2.8, ISO 100, 1/60")),
    "a camera's padding": jpeg(exif(b"ASCII\0\0\0" + bytes(200))),
    "a camera's spaces": jpeg(exif(bytes(8) + b" " * 200, order="<")),
    "a camera's other fields": jpeg(exif(root={0x010F: b"Canon\0", 0x0110: b"Canon EOS R5\0", 0x010E: b"     \0"})),
    "a Japanese camera": jpeg(exif(b"JIS\0\0\0\0\0" + "写真".encode("iso2022_jp"))),
    "binary data in the comment": jpeg(exif(bytes(range(256)))),
    "NUL as a prompt": png_with({"parameters": "\0\0\0"}),
    "JSON of an unknown tool": png_with({"parameters": {"version": 3, "words": "a cat"}}),
    "a JSON list": png_with({"parameters": "[1, 2]"}),
    "JSON that is cut off": png_with({"parameters": json.dumps(SWARM)[:100]}),
    "JSON in a comment": jpeg(exif(user_comment(json.dumps({"a": 1})))),
    "deeply nested JSON": png_with({"parameters": "[" * 100_000}),
    "a number of 5,000 digits": png_with({"parameters": '{"seed": ' + "9" * 5_000 + "}"}),
    "SwarmUI without a prompt": png_with({"parameters": {"sui_image_params": {"steps": 20}}}),
    "SwarmUI with a wrong type": png_with({"parameters": {"sui_image_params": {"prompt": ["a"]}}}),
    "InvokeAI with several prompts": png_with(
        {"sd-metadata": {"image": {"prompt": [{"prompt": "a", "weight": 1}, {"prompt": "b", "weight": 1}]}}}
    ),
    "a graph without a sampler": png_with({"prompt": {"9": COMFY["9"]}}),
    "a graph of 3,000 nodes": png_with({"prompt": {**COMFY, **{f"x{i}": node("Note") for i in range(3_000)}}}),
    "a prompt that is not a graph": png_with({"prompt": "a cat"}),
    "XMP with entities": png_with({"XML:com.adobe.xmp": '<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'}),
    "XMP that is cut off": png_with({"XML:com.adobe.xmp": draw_things_xmp(DRAW_THINGS)[:300]}),
    "a description": png_with(
        {"Title": "A photo", "Description": "a cat", "Software": "GIMP", "Comment": "Made with GIMP"}
    ),
    "a description of steps": jpeg(exif(root={0x010E: b"Ten Steps: how to draw, Seed: none\0"})),
    "no texts": png(),
}


@pytest.mark.parametrize("name", NOTHING)
def test_other_texts_are_not_taken_for_parameters(name: str) -> None:
    """Comments of cameras, unknown JSON and padding are not prompts."""
    with pytest.raises(MetadataError, match="no generation parameters") as caught:
        foreign_metadata.read(NOTHING[name])
    assert caught.value.fix
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iTXt+"])
def test_texts_after_the_pixels_are_found(kind: str) -> None:
    """A text behind the image data is read, even if the chunk after it is damaged or missing."""
    text = text_chunk("parameters", WEBUI, kind)
    broken = chunk(b"tEXt", b"x\0y")[:-4] + b"oops"
    for content in (png(after=text), png(after=text + broken), png(after=text)[:-12], png(after=text) + b"trailing"):
        assert foreign_metadata.read(content).request.seed == 1960802277
    assert foreign_metadata.read(png(text, after=broken)[:-20]).request.seed == 1960802277


def test_a_damaged_text_is_not_used() -> None:
    """A text whose checksum is wrong is skipped, and the message says that the file is damaged."""
    text = bytearray(text_chunk("parameters", WEBUI))
    text[30] ^= 1
    with pytest.raises(MetadataError, match="damaged"):
        foreign_metadata.read(png(bytes(text)))


def test_latin_1_and_utf_8_are_told_apart() -> None:
    """tEXt is Latin-1 by the standard; UTF-8, which several tools write into it, is recognized."""
    for encoding in ("latin-1", "utf-8"):
        content = png(text_chunk("parameters", f"größer, café\n{SETTINGS}".encode(encoding)))
        assert foreign_metadata.read(content).request.prompt == "größer, café"


BOMB = zlib.compress(bytes(80_000_000), 9)
HOSTILE: dict[str, bytes] = {
    "bomb in zTXt": png(chunk(b"zTXt", b"parameters\0\0" + BOMB)),
    "bomb in iTXt": png(chunk(b"iTXt", b"parameters\0\1\0\0\0" + BOMB)),
    "many bombs": png(*[chunk(b"zTXt", b"k%d\0\0" % index + BOMB) for index in range(200)]),
    "many texts": png(*[chunk(b"tEXt", b"k%d\0x" % index) for index in range(20_000)]),
    "EXIF fields that overlap": jpeg(
        exif(b"x" * 60_000).replace(b"\0\1\x87\x69", b"\xff\xff\x87\x69", 1)
    ),
    "an endless directory": webp(b"MM\0*\0\0\0\x08\xff\xff" + b"\x87\x69\0\4\0\0\0\1\0\0\0\x08" * 65_535),
    "a lot of settings": png_with({"parameters": ("Steps: 1, " + 'a: "x, ' * 3_000 + "\n") * 8}),
    "a line of brackets": png_with({"parameters": "Steps: 1, " + "a: [[[[[[[[, " * 2_000}),
    "XMP of many elements": png_with({"XML:com.adobe.xmp": "<a>" * 80_000}),
    "graph of many links": png_with(
        {"prompt": {**COMFY, **{f"x{i}": sampler(latent_image=[f"x{i + 1}", 0]) for i in range(1_900)}}}
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_cost_little(name: str) -> None:
    """A hostile file is read or refused within a second of processor time and 100 MB."""
    content = HOSTILE[name]
    tracemalloc.start()
    started = time.process_time()
    with contextlib.suppress(MetadataError):
        foreign_metadata.read(content)
    seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000
    assert seconds < 10  # with the tracing; a quadratic reader takes minutes


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["3", "6", "steps"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SHAPES: list[dict[str, Any]] = [COMFY, COMFY_WORKFLOW, SWARM, FOOOCUS, INVOKE_3, INVOKE_2, NOVELAI, DRAW_THINGS, EASY]


@pytest.mark.slow
@given(st.sampled_from(SHAPES), st.lists(st.integers(0, 50), min_size=1, max_size=6), JSON)
@settings(deadline=None, max_examples=100)
def test_any_value_in_any_place_is_read_or_refused(shape: dict[str, Any], path: list[int], value: Any) -> None:
    """A tool's JSON with one value replaced by anything is read, or refused with a `MetadataError`."""
    document: Any = copy.deepcopy(shape)
    place = document
    for step in path:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        if not keys:
            break
        key = keys[step % len(keys)]
        if step == path[-1] or not isinstance(place[key], dict | list):
            place[key] = value
            break
        place = place[key]
    content = json.dumps(document)
    names = ("parameters", "prompt", "workflow", "invokeai_metadata", "sd-metadata", "Comment", "Dream")
    for name in names:
        with contextlib.suppress(MetadataError):
            found = foreign_metadata.read(png_with({name: content}))
            assert isinstance(found.reusable(), dict)


SAMPLES = [content for content, _ in IMAGES.values()]


@pytest.mark.slow
@given(st.sampled_from(SAMPLES), st.integers(0, 10_000), st.binary(min_size=1, max_size=8), st.booleans())
@settings(deadline=None, max_examples=100)
def test_damaged_files_are_read_or_refused(content: bytes, position: int, damage: bytes, truncate: bool) -> None:
    """Reading a file with overwritten bytes, or without its end, succeeds or raises a `MetadataError`."""
    position %= len(content)
    damaged = content[:position] + damage + (b"" if truncate else content[position + len(damage) :])
    with contextlib.suppress(MetadataError):
        foreign_metadata.read(damaged)


def test_limits_are_those_of_real_files() -> None:
    """A graph of a megabyte, as large workflows have, is within the limits."""
    graph = comfy(n10=node("Note", text="x" * 1_500_000))
    for kind in ("tEXt", "zTXt", "iTXt+"):
        assert foreign_metadata.read(png_with({"prompt": graph}, kind)).request.width == 512
    assert image_texts.MAX_TEXT > 1_500_000

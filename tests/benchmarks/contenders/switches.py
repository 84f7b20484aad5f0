"""Changes to lambdiff's engine, one at a time, by which `ablation.py` measures what each feature gains.

Each function is called once, after the engine is imported and before the model is loaded.
"""

from __future__ import annotations

from typing import Any

import common


def disable_prompt_cache(job: common.Job) -> None:
    """Encode the prompt and the empty negative prompt for every request."""
    from lambdiff.engine.pipelines import clip_text

    _replace(clip_text, "CACHED_PROMPTS", 0)


def repeat_prompt(job: common.Job) -> None:
    """Send the same prompt in every request."""
    common.PROMPTS = common.PROMPTS[:1]


def keep_pages(job: common.Job) -> None:
    """Do not release the weight pages after OpenVINO has copied them."""
    import contextlib

    from lambdiff.engine.mapped_weights import MappedWeights

    _replace(MappedWeights, "releasing_pages", lambda self: contextlib.nullcontext())


def compress_at_level_6(job: common.Job) -> None:
    """Compress PNG at Pillow's default, zlib level 6."""
    from PIL import Image

    save = Image.Image.save
    Image.Image.save = lambda self, *where, **how: save(self, *where, **how | {"compress_level": 6})


def pin_threads(job: common.Job) -> None:
    """Pin each of OpenVINO's threads to a processor."""
    _compile_with({"ENABLE_CPU_PINNING": True})


def cache_compiled_models(job: common.Job) -> None:
    """Read compiled models from a folder next to the image, where an earlier process has stored them."""
    _compile_with({"CACHE_DIR": str(job.image.with_suffix(".compiled"))})


def _replace(owner: Any, name: str, value: Any) -> None:
    """Replace an existing attribute; fail if it has been renamed."""
    getattr(owner, name)
    setattr(owner, name, value)


def _compile_with(settings: dict[str, Any]) -> None:
    import openvino

    compile_model = openvino.Core.compile_model

    def compiled(self: Any, model: Any, device: str, config: dict[str, Any]) -> Any:
        return compile_model(self, model, device, config | settings)

    openvino.Core.compile_model = compiled

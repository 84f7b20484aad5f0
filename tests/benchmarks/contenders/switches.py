"""Things that lambdiff's engine does, done otherwise, so that `ablation.py` can say what each is worth.

Each function is called once, after the engine was imported and before the model is loaded.
"""

from __future__ import annotations

from typing import Any

import common


def forget_prompts(job: common.Job) -> None:
    """Encode the prompt and the empty negative prompt for every request."""
    from lambdiff.engine.pipelines import stable_diffusion

    _replace(stable_diffusion, "CACHED_PROMPTS", 0)


def repeat_prompt(job: common.Job) -> None:
    """Every request has the first one's prompt."""
    common.PROMPTS = common.PROMPTS[:1]


def keep_pages(job: common.Job) -> None:
    """Leave the weights' file in the process's memory once OpenVINO has copied it."""
    import contextlib

    from lambdiff.engine.mapped_weights import MappedWeights

    _replace(MappedWeights, "releasing_pages", lambda self: contextlib.nullcontext())


def pillows_png(job: common.Job) -> None:
    """Compress as Pillow does by itself: zlib's level 6."""
    from PIL import Image

    save = Image.Image.save
    Image.Image.save = lambda self, *where, **how: save(self, *where, **how | {"compress_level": 6})


def pin(job: common.Job) -> None:
    """Hold each of OpenVINO's threads to a processor."""
    _compile_with({"ENABLE_CPU_PINNING": True})


def do_not_pin(job: common.Job) -> None:
    """Let the kernel move OpenVINO's threads."""
    _compile_with({"ENABLE_CPU_PINNING": False})


def cache_compiled(job: common.Job) -> None:
    """Read compiled models from a folder beside the picture, where an earlier process left them."""
    _compile_with({"CACHE_DIR": str(job.picture.with_suffix(".compiled"))})


def _replace(owner: Any, name: str, value: Any) -> None:
    """Set what is there already: a switch of something that has another name by now must fail."""
    getattr(owner, name)
    setattr(owner, name, value)


def _compile_with(settings: dict[str, Any]) -> None:
    import openvino

    compile_model = openvino.Core.compile_model

    def compiled(self: Any, model: Any, device: str, config: dict[str, Any]) -> Any:
        return compile_model(self, model, device, config | settings)

    openvino.Core.compile_model = compiled

"""One small generation at the end of a bake: nothing is baked that cannot generate."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from lambdiff.bake.parameters import Progress
from lambdiff.engine.base import Engine
from lambdiff.engine.manifest import Manifest
from lambdiff.errors import LambdiffError, ModelError
from lambdiff.protocol.pictures import WHITE

_STEPS: Final = 2


def generate(folder: Path, manifest: Manifest, progress: Progress) -> None:
    """Generate one image of the smallest size in two steps, with the model's scheduler and guidance.

    If the model takes pictures, generate another one from a start image and a mask.

    Args:
        folder: a complete model folder.
        manifest: its manifest.
        progress: called before.

    Raises:
        ModelError: the model cannot generate.
    """
    progress("trying to generate")
    side = manifest.limits.min_size
    defaults = msgspec.structs.replace(manifest.defaults, num_inference_steps=_STEPS, width=side, height=side)
    # Graphs with static shapes would be compiled for this size only.
    small = msgspec.structs.replace(manifest, defaults=defaults, static_shapes=False)
    request = defaults.sample_request("a cat in a top hat", manifest.limits)
    try:
        engine = _engine(folder, small)
        engine.generate(request.resolve(defaults))
        if manifest.limits.image == "optional":
            pictures = {"image": WHITE, "mask": WHITE}
            engine.generate(msgspec.structs.replace(request, **pictures).resolve(defaults))
    except Exception as error:  # the libraries share no narrower class
        reason = error.message if isinstance(error, LambdiffError) else f"{type(error).__name__}: {error}"
        raise ModelError(
            f"The baked model cannot generate an image: {reason.splitlines()[0][:300]}",
            fix="Check the files of the model, or bake another one.",
        ) from error


def _engine(folder: Path, manifest: Manifest) -> Engine:
    if manifest.engine == "diffusers":
        from lambdiff.engine.diffusers import DiffusersEngine

        return DiffusersEngine(folder, manifest)
    from lambdiff.engine.openvino import OpenVinoEngine

    return OpenVinoEngine(folder, manifest)

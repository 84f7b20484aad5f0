"""Which tiny decoder reads a model's latents (bake/tiny_decoders.py)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lambdiff.bake import tiny_decoders
from lambdiff.bake.pipeline_folder import PipelineConfig
from lambdiff.engine.manifest import Latents
from lambdiff.errors import ModelError


def pipeline(*, own_is_tiny: bool = False, **latents: float) -> PipelineConfig:
    """Return the configuration of a pipeline with these latents."""
    return PipelineConfig(
        index={},
        unet={},
        latents=msgspec.structs.replace(Latents(), **latents),
        sample_size=(64, 64),
        guidance_embedding=None,
        tiny_decoder=own_is_tiny,
    )


@pytest.mark.parametrize(
    ("scaling_factor", "hub_id"), [(0.18215, "madebyollin/taesd"), (0.13025, "madebyollin/taesdxl")]
)
def test_the_scale_of_the_latents_decides(scaling_factor: float, hub_id: str) -> None:
    """Stable Diffusion 1 and 2 get TAESD, and XL gets TAESDXL."""
    found = tiny_decoders.choose(pipeline(scaling_factor=scaling_factor), "tiny")
    assert found is not None
    assert found.hub_id == hub_id


@pytest.mark.parametrize("latents", [{"scaling_factor": 0.5}, {"channels": 16}, {"factor": 4}, {"scaling_factor": 1.0}])
def test_other_latents_are_refused(latents: dict[str, float]) -> None:
    """No decoder is guessed."""
    with pytest.raises(ModelError, match="No tiny decoder is known"):
        tiny_decoders.choose(pipeline(**latents), "tiny")


def test_a_model_with_a_tiny_decoder_has_one() -> None:
    """A decoder that is tiny already is not replaced: its latents do not tell their family."""
    with pytest.raises(ModelError, match="own decoder is a tiny one"):
        tiny_decoders.choose(pipeline(own_is_tiny=True, scaling_factor=1.0), "tiny")


@pytest.mark.parametrize("decoder", ["full", "folder", Path("folder")])
def test_nothing_is_downloaded_for_others(decoder: str | Path) -> None:
    """The model's own decoder, and one in a folder, are not in this table."""
    assert tiny_decoders.choose(pipeline(scaling_factor=0.5), decoder) is None

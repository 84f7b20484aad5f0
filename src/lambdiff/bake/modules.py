"""Load and trace torch modules, with the inputs and outputs that the OpenVINO engine expects."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lambdiff.bake import weight_files
from lambdiff.errors import ModelError


class TextEncoder(nn.Module):  # type: ignore[misc]
    """input_ids (b, tokens) -> hidden states (b, tokens, width)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the last layer's hidden states."""
        return self.model(input_ids, return_dict=False)[0]


class InnerTextEncoder(TextEncoder):
    """input_ids (b, tokens) -> hidden states before the last layer (b, tokens, width)."""

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the hidden states before the last layer, without the final norm."""
        return self.model(input_ids, output_hidden_states=True).hidden_states[-2]


class PooledTextEncoder(TextEncoder):
    """input_ids (b, tokens) -> hidden states before the last layer (b, tokens, width), pooled and projected (b, n)."""

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden states before the last layer, and the projected output of the last layer."""
        outputs = self.model(input_ids, output_hidden_states=True)
        return outputs.hidden_states[-2], outputs.text_embeds


class UNet(nn.Module):  # type: ignore[misc]
    """sample (b, channels, h, w), timestep (1,), text embeddings (b, tokens, width) -> (b, channels, h, w)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, timestep_cond: Tensor | None = None
    ) -> Tensor:
        """Return the model's prediction; `timestep_cond` (b, n) embeds the guidance scale, for models that need it."""
        return self.model(sample, timestep, encoder_hidden_states, timestep_cond=timestep_cond, return_dict=False)[0]


class ConditionedUNet(nn.Module):  # type: ignore[misc]
    """A UNet that also takes pooled text (b, n) and sizes (b, 6), as that of Stable Diffusion XL."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_embeds: Tensor,
        time_ids: Tensor,
        timestep_cond: Tensor | None = None,
    ) -> Tensor:
        """Return the model's prediction."""
        return self.model(
            sample,
            timestep,
            encoder_hidden_states,
            timestep_cond=timestep_cond,
            added_cond_kwargs={"text_embeds": text_embeds, "time_ids": time_ids},
            return_dict=False,
        )[0]


class Decoder(nn.Module):  # type: ignore[misc]
    """latents (b, channels, h, w), already divided by the scaling factor -> (b, 3, factor * h, factor * w) in -1..1."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: Tensor) -> Tensor:
        """Return the images."""
        return self.model.decode(latents, return_dict=False)[0]


class Encoder(nn.Module):  # type: ignore[misc]
    """image (b, 3, factor * h, factor * w) in -1..1 -> (b, 2 * channels, h, w) or, if it is tiny, (b, channels, h, w).

    The first half of the channels are the means of the latents, the second the logarithms of their variances. Without
    such, they are the latents. Neither is multiplied by the scaling factor.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Return the latents' distribution, or the latents."""
        (encoded,) = self.model.encode(image, return_dict=False)
        return encoded if isinstance(encoded, Tensor) else encoded.parameters


def load(model_class: Any, folder: Path) -> Any:
    """Load a diffusers or transformers model in f32, with every parameter read from the folder's safetensors.

    Raises:
        ModelError: the folder cannot be read, or lacks a parameter, which the library would initialize randomly.
    """
    try:
        model, report = model_class.from_pretrained(
            folder,
            use_safetensors=True,
            variant=weights.variant if (weights := weight_files.choose_in(folder)) else None,
            output_loading_info=True,
            local_files_only=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{folder} cannot be read: {str(error).splitlines()[0][:200]}", fix="Download or save the model again."
        ) from error
    if missing := [*report["missing_keys"], *(str(key) for key in report.get("mismatched_keys", []))]:
        raise ModelError(
            f"{folder} lacks {len(missing)} of the model's parameters, for example {min(missing)}.",
            fix="Save the pipeline with the installed versions of diffusers and transformers.",
        )
    return model.float().eval().requires_grad_(False)


def trace(module: nn.Module, inputs: dict[str, Tensor]) -> Any:
    """Trace a module with example inputs, in the order of its `forward`."""
    with warnings.catch_warnings():
        # The tracer warns about every Python branch that it freezes. `convert.py` compares the result with the
        # original on inputs of another size, which catches the branches that matter.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        # It also reads the deprecated attributes of transformers' models.
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.trace(module, tuple(inputs.values()), check_trace=False)

"""The same output from fewer operations: modules that are replaced before a pipeline's parts are converted.

    upsampling    each pixel repeated into 2x2 and a 3x3 convolution, where several weights of a kernel meet the same
                  pixel: added up beforehand they are four 2x2 convolutions, 4/9 of the work
    guidance      the samples of a call are the same latents, told apart by their texts only: the residual block and the
                  self-attention before the UNet first reads a text are computed once

Both are exact but for rounding. `convert.py` compares what comes of them with the original modules.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional


class Upsampling(nn.Module):  # type: ignore[misc]
    """Enlarges by 2 and convolves: (b, channels, h, w) -> (b, out, 2 h, 2 w).

    A pixel of the result at an even row sees, of the enlarged rows above, at and below it, one input row once and the
    next one twice; at an odd row it is the other way round. Columns alike.

    Args:
        convolution: what follows the enlargement, 3x3 with a padding of 1.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        kernels = (half for rows in _halves(convolution.weight, 2) for half in _halves(rows, 3))
        self.kernels = nn.ParameterList(nn.Parameter(kernel, requires_grad=False) for kernel in kernels)
        self.bias = convolution.bias

    def forward(self, hidden_states: Tensor, *_: Any) -> Tensor:
        """As the class says; further arguments of `Upsample2D` are for sizes that are not doubled."""
        batch, _, height, width = hidden_states.shape
        blocks = torch.stack(
            [
                functional.conv2d(functional.pad(hidden_states, (1 - column, column, 1 - row, row)), kernel, self.bias)
                for (row, column), kernel in zip(product((0, 1), repeat=2), self.kernels, strict=True)
            ],
            dim=2,
        )
        rows_first = blocks.reshape(batch, -1, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        return rows_first.reshape(batch, -1, 2 * height, 2 * width)


class _OfOneSample(nn.Module):  # type: ignore[misc]
    """A residual block that keeps the first of its samples."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden_states: Tensor, temb: Tensor) -> Tensor:
        return self.block(hidden_states[:1], temb[:1])


class _UntilTheText(nn.Module):  # type: ignore[misc]
    """A transformer whose self-attention sees one sample, and which goes on with as many as there are texts."""

    def __init__(self, transformer: Transformer2DModel) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
        whole = self.transformer
        tokens, width = whole._operate_on_continuous_inputs(hidden_states)
        first, *others = whole.transformer_blocks
        tokens = first.attn1(first.norm1(tokens)) + tokens
        tokens = tokens.expand(encoder_hidden_states.shape[0], -1, -1)
        tokens = first.attn2(first.norm2(tokens), encoder_hidden_states) + tokens
        tokens = first.ff(first.norm3(tokens)) + tokens
        for block in others:
            tokens = block(tokens, encoder_hidden_states=encoder_hidden_states)
        height, across = hidden_states.shape[2:]
        batch = encoder_hidden_states.shape[0]
        return (whole._get_output_for_continuous_inputs(tokens, hidden_states, batch, height, across, width),)


def merge_upsampling(model: nn.Module) -> None:
    """Replace every enlargement with its convolution, in diffusers' blocks and in sequences as AutoencoderTiny's."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Upsample2D) and _doubles(child):
                setattr(parent, name, Upsampling(child.conv))
        if isinstance(parent, nn.Sequential):
            for number, (one, other) in enumerate(pairwise(parent)):
                if isinstance(one, nn.Upsample) and (one.mode, one.scale_factor) == ("nearest", 2) and _is_3x3(other):
                    parent[number], parent[number + 1] = Upsampling(other), nn.Identity()


def share_guidance(unet: nn.Module) -> None:
    """Let a UNet compute what is before its first cross-attention once, if it begins as Stable Diffusion's does."""
    block = unet.down_blocks[0]
    # With an additional embedding even the timestep's tells the texts apart.
    if not isinstance(block, CrossAttnDownBlock2D) or unet.config.addition_embed_type is not None:
        return
    transformer = block.attentions[0]
    if not (isinstance(transformer, Transformer2DModel) and transformer.is_input_continuous):
        return
    first = transformer.transformer_blocks[0]
    if first.norm_type == "layer_norm" and first.pos_embed is None and not first.only_cross_attention:
        block.resnets[0] = _OfOneSample(block.resnets[0])
        block.attentions[0] = _UntilTheText(transformer)


def _doubles(layer: Upsample2D) -> bool:
    plain = layer.use_conv and layer.interpolate and not layer.use_conv_transpose
    return bool(plain and layer.norm is None and layer.name == "conv" and _is_3x3(layer.conv))


def _is_3x3(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and (
        (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)
        == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
    )


def _halves(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """A kernel's three weights along a dimension as two: for even places of the result, and for odd ones."""
    first, middle, last = weight.split(1, dim)
    return torch.cat([first, middle + last], dim), torch.cat([first + middle, last], dim)

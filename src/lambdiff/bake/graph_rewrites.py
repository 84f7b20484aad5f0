"""Replace modules before a model is converted, for the same output from fewer operations.

    upsampling    If each pixel is repeated into 2x2 and then convolved with 3x3, it meets several weights of a kernel.
                  Summing those weights beforehand gives four 2x2 convolutions, with 4/9 of the multiplications.
    guidance      The samples of one UNet call are the same latents with different texts. The residual block and the
                  self-attention before the first cross-attention are computed once.

Both are exact except for rounding. `convert.py` compares every rewritten module with the original.
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
    """Upsample by 2 (nearest) and convolve, in one step: (b, channels, h, w) -> (b, out, 2 h, 2 w).

    The 3x3 window of an output pixel in an even row covers the input row above once and the pixel's own input row
    twice; in an odd row, its own input row twice and the row below once. The same holds for columns.

    Args:
        convolution: the convolution that follows the upsampling, 3x3 with a padding of 1.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        kernels = (half for rows in _halves(convolution.weight, 2) for half in _halves(rows, 3))
        self.kernels = nn.ParameterList(nn.Parameter(kernel, requires_grad=False) for kernel in kernels)
        self.bias = convolution.bias

    def forward(self, hidden_states: Tensor, *_: Any) -> Tensor:
        """Return the upsampled and convolved input. The output size, which `Upsample2D` accepts, is not needed."""
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


class _FirstSampleBlock(nn.Module):  # type: ignore[misc]
    """A residual block that computes only the first sample of a batch."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden_states: Tensor, temb: Tensor) -> Tensor:
        return self.block(hidden_states[:1], temb[:1])


class _SharedSelfAttention(nn.Module):  # type: ignore[misc]
    """A transformer that runs its first self-attention on one sample, and the rest once for each text.

    Follows diffusers' `Transformer2DModel.forward` and `BasicTransformerBlock.forward`.
    """

    def __init__(self, transformer: Transformer2DModel) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
        transformer = self.transformer
        tokens, inner_dim = transformer._operate_on_continuous_inputs(hidden_states)
        first, *others = transformer.transformer_blocks
        tokens = first.attn1(first.norm1(tokens)) + tokens
        tokens = tokens.expand(encoder_hidden_states.shape[0], -1, -1)
        tokens = first.attn2(first.norm2(tokens), encoder_hidden_states) + tokens
        tokens = first.ff(first.norm3(tokens)) + tokens
        for block in others:
            tokens = block(tokens, encoder_hidden_states=encoder_hidden_states)
        height, width = hidden_states.shape[2:]
        batch = encoder_hidden_states.shape[0]
        return (transformer._get_output_for_continuous_inputs(tokens, hidden_states, batch, height, width, inner_dim),)


def merge_upsampling(model: nn.Module) -> None:
    """Merge every upsampling layer with the convolution after it, for diffusers' blocks and AutoencoderTiny."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Upsample2D) and _doubles(child):
                setattr(parent, name, Upsampling(child.conv))
        if isinstance(parent, nn.Sequential):
            for index, (layer, following) in enumerate(pairwise(parent)):
                if not isinstance(layer, nn.Upsample) or not _is_3x3(following):
                    continue
                if (layer.mode, layer.scale_factor) == ("nearest", 2):
                    parent[index], parent[index + 1] = Upsampling(following), nn.Identity()


def share_guidance(unet: nn.Module) -> None:
    """Compute the layers before the first cross-attention once for all samples of a call.

    UNets that do not begin like Stable Diffusion's, with attention in the first block, stay as they are.
    """
    block = unet.down_blocks[0]
    # With an addition embedding, the timestep embedding depends on the text.
    if not isinstance(block, CrossAttnDownBlock2D) or unet.config.addition_embed_type is not None:
        return
    transformer = block.attentions[0]
    if not (isinstance(transformer, Transformer2DModel) and transformer.is_input_continuous):
        return
    first = transformer.transformer_blocks[0]
    if first.norm_type == "layer_norm" and first.pos_embed is None and not first.only_cross_attention:
        block.resnets[0] = _FirstSampleBlock(block.resnets[0])
        block.attentions[0] = _SharedSelfAttention(transformer)


def _doubles(layer: Upsample2D) -> bool:
    interpolates = layer.use_conv and layer.interpolate and not layer.use_conv_transpose
    return bool(interpolates and layer.norm is None and layer.name == "conv" and _is_3x3(layer.conv))


def _is_3x3(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and (
        (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)
        == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
    )


def _halves(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Sum a kernel's three weights along a dimension to two, once for even and once for odd positions of the output."""
    first, middle, last = weight.split(1, dim)
    return torch.cat([first, middle + last], dim), torch.cat([first + middle, last], dim)

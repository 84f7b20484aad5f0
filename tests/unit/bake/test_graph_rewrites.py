"""Rewritten modules compute the same output with fewer operations (bake/graph_rewrites.py)."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from lambdiff.bake import graph_rewrites
from support import tiny_pipeline

pytestmark = pytest.mark.engine


def flops(module, *inputs):
    """Count the floating-point operations of one call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops()


def difference(one, other):
    """Return the largest difference, relative to the largest value."""
    return float((one - other).abs().max() / one.abs().max())


@pytest.fixture(
    params=[{}, {"layers_per_block": 2, "transformer_layers_per_block": 2, "use_linear_projection": True}],
    ids=["1.x", "deeper"],
)
def unet(request):
    """A UNet that begins with attention, and inputs for it: the same latents with two texts."""
    folder = tiny_pipeline.folder(**tiny_pipeline.LIKE_STABLE_DIFFUSION)
    config = UNet2DConditionModel.load_config(folder / "unet")
    torch.manual_seed(0)
    model = UNet2DConditionModel.from_config(config, **request.param).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 16, 24, generator=random).repeat(2, 1, 1, 1)
    return model, (latents, torch.tensor([500.0]), torch.randn(2, 16, 32, generator=random))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (9, 8)])
@pytest.mark.parametrize("bias", [True, False])
def test_merged_upsampling_equals_upsampling_and_convolution(height, width, bias):
    """Four 2x2 convolutions equal a 3x3 convolution of repeated pixels, at edges too, with 4/9 of the operations."""
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(6, 5, 3, padding=1, bias=bias).requires_grad_(False)
    plain = torch.nn.Sequential(torch.nn.Upsample(scale_factor=2), convolution)
    merged = graph_rewrites.Upsampling(convolution)
    image = torch.randn(2, 6, height, width)
    assert difference(plain(image), merged(image)) < 1e-5
    assert flops(merged, image) * 9 == flops(plain, image) * 4


@pytest.mark.parametrize(
    "autoencoder",
    [
        AutoencoderKL(
            up_block_types=("UpDecoderBlock2D",) * 3,
            down_block_types=("DownEncoderBlock2D",) * 3,
            block_out_channels=(8, 8, 8),
            norm_num_groups=4,
        ),
        AutoencoderTiny(decoder_block_out_channels=(8, 8, 8, 8), encoder_block_out_channels=(8, 8, 8, 8)),
    ],
    ids=["KL", "tiny"],
)
def test_every_upsampling_of_a_decoder_is_merged(autoencoder):
    """Every upsampling in both kinds of decoder is merged, and the output stays the same."""
    autoencoder = autoencoder.eval().requires_grad_(False)
    latents = torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    before, cost = autoencoder.decode(latents).sample, flops(autoencoder.decode, latents)
    graph_rewrites.merge_upsampling(autoencoder)
    assert difference(before, autoencoder.decode(latents).sample) < 1e-5
    assert flops(autoencoder.decode, latents) < cost
    layers = [layer for layer in autoencoder.modules() if isinstance(layer, graph_rewrites.Upsampling)]
    assert len(layers) == (3 if isinstance(autoencoder, AutoencoderTiny) else 2)


def test_other_upsamplings_are_left_alone():
    """Other modes, other convolutions, and pairs with a layer in between are left alone."""
    nearest, smooth = torch.nn.Upsample(scale_factor=2), torch.nn.Upsample(scale_factor=2, mode="bilinear")
    three, five = torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 5, padding=2)
    for layers in ((smooth, three), (nearest, five), (nearest, torch.nn.ReLU(), three)):
        model = torch.nn.Sequential(*layers)
        graph_rewrites.merge_upsampling(model)
        assert tuple(model) == layers


def test_layers_before_the_text_run_once_for_both_samples(unet):
    """The output stays the same, and the first residual block and self-attention process a single sample."""
    model, inputs = unet
    before, cost = model(*inputs).sample, flops(model, *inputs)
    block = model.down_blocks[0]
    shared = [block.resnets[0], block.attentions[0].transformer_blocks[0].attn1]
    batches = []
    for layer in shared:
        layer.register_forward_hook(lambda _, inputs, __: batches.append(len(inputs[0])))
    graph_rewrites.share_guidance(model)
    after = model(*inputs).sample
    assert difference(before, after) < 1e-5
    assert difference(after[0], after[1]) > 1e-3
    assert batches == [1, 1]
    assert flops(model, *inputs) < cost
    single = (inputs[0][:1], inputs[1], inputs[2][:1])
    assert difference(model(*single).sample, before[:1]) < 1e-5


@pytest.mark.parametrize("kind", [{}, tiny_pipeline.LIKE_STABLE_DIFFUSION | {"addition_embed_type": "text"}])
def test_other_unets_are_left_alone(kind):
    """A UNet without attention in its first block, or with a text-dependent timestep embedding, is not changed."""
    config = UNet2DConditionModel.load_config(tiny_pipeline.folder(**kind | {"name": f"unshared-{len(kind)}"}) / "unet")
    model = UNet2DConditionModel.from_config(config)
    before = copy.copy(dict(model.named_modules()))
    graph_rewrites.share_guidance(model)
    assert dict(model.named_modules()) == before

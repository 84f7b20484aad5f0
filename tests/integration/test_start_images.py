"""Start images and masks: both engines generate what diffusers' own pipelines do, for every sampler, end to end."""

from __future__ import annotations

import base64
import io
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from PIL import Image

from lambdiff.auth.credentials import Keys
from lambdiff.bake.bake import bake
from lambdiff.client.client import Client
from lambdiff.engine import manifest as manifests
from lambdiff.engine.diffusers import DiffusersEngine
from lambdiff.engine.factory import open_engine
from lambdiff.engine.manifest import Diffusion
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.errors import EndpointRefused, InvalidRequest
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from lambdiff.protocol.contract import Generation, SchedulerName
from lambdiff.protocol.pictures import Kind, Picture
from support import tiny_pipeline, tiny_xl

pytestmark = pytest.mark.engine

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SCHEDULERS = get_args(SchedulerName)
INPAINTING: dict[str, Any] = {"name": "inpainting", "in_channels": 9}


def picture(pixels: np.ndarray, kind: Kind) -> Picture:
    """Return pixels as a request carries them."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return Picture(base64.b64encode(stream.getvalue()).decode(), kind)


def start_image(width: int, height: int) -> Picture:
    """Return blocks of random colors."""
    blocks = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return picture(blocks.repeat(8, axis=0).repeat(8, axis=1), "image")


def mask_of(width: int, height: int) -> Picture:
    """Return a mask that redraws the right part, with a soft edge that is not on the latents' grid."""
    ramp = np.clip((np.arange(width) - width / 2.2) * 16, 0, 255).astype(np.uint8)
    return picture(np.repeat(ramp[None], height, axis=0), "mask")


def request_with(**changes: Any) -> Generation:
    """Return a small request from a start image."""
    fields = {
        "prompt": "a cat in the top hat",
        "negative_prompt": "dog",
        "num_inference_steps": 8,
        "guidance_scale": 4.0,
        "width": 64,
        "height": 64,
        "seed": 7,
        "scheduler": "euler",
        "image": start_image(64, 64),
        "strength": 0.6,
    }
    return Generation(**fields | changes)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Use one thread, because in networks this small additional threads only wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdiff.engine.cpu.threads", lambda: 1)
        yield


def engines(precision: str = "auto", **changes: Any) -> tuple[OpenVinoEngine, DiffusersEngine]:
    """Return both engines with the same weights, computing in f32."""
    one, other = (
        tiny_pipeline.baked(precision=precision, **changes),
        tiny_pipeline.baked("diffusers", **changes),
    )
    return (
        OpenVinoEngine(one, manifests.read(one), precision="f32"),
        DiffusersEngine(other, manifests.read(other)),
    )


@pytest.fixture(scope="module")
def both():
    """Both engines with weights in f32."""
    return engines("f32")


@pytest.fixture(scope="module")
def inpainting():
    """Both engines with a UNet for inpainting."""
    return engines("f32", **INPAINTING)


def psnr(one, other):
    """Return the peak signal-to-noise ratio in dB; infinite for equal images."""
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


def agreement(pair, request):
    """Return the engines' agreement in dB."""
    one, other = (engine.generate(request).pixels for engine in pair)
    assert one.shape == other.shape == (request.height, request.width, 3)
    assert one.std() > 2
    return psnr(one, other)


@pytest.mark.parametrize("mask", [None, mask_of(64, 64)], ids=["image", "mask"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_sampler_agrees_with_diffusers(both, scheduler, mask):
    """Images agree to 60 dB for every sampler, whether one step runs, some, or all."""
    for strength, steps in ((0.13, 8), (0.75, 5)) if mask is None else ((0.3, 8), (1.0, 3)):
        request = request_with(scheduler=scheduler, strength=strength, num_inference_steps=steps, mask=mask)
        assert agreement(both, request) >= 60, (strength, steps)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_unets_for_inpainting_agree_with_diffusers(inpainting, scheduler):
    """The same holds for UNets that read the mask and the masked image."""
    for strength in (0.5, 1.0):
        request = request_with(scheduler=scheduler, strength=strength, num_inference_steps=4, mask=mask_of(64, 64))
        assert agreement(inpainting, request) >= 60, strength


@pytest.mark.parametrize("size", [(104, 72), (64, 96)], ids=str)
def test_pictures_of_another_size_agree(both, inpainting, size):
    """Pictures of other sizes are resized alike, also where the image is generated larger and cropped."""
    width, height = size
    changes = {"width": width, "height": height, "image": start_image(160, 112), "mask": mask_of(208, 144)}
    for pair in (both, inpainting):
        request = request_with(**changes)
        assert agreement(pair, request) >= 60
        warnings = pair[0].generate(request).warnings
        assert warnings == pair[1].generate(request).warnings
        assert ("The mask was stretched" in "".join(warnings)) == (size == (64, 96))


@pytest.mark.parametrize("task", ["image", "mask"])
def test_diffusers_resizes_alike(both, task):
    """diffusers' own pipeline gives the same image for a PIL image of another size, which it resizes itself."""
    import diffusers
    import torch

    from lambdiff.engine import latents
    from lambdiff.engine.diffusers import DiagonalGaussianDistribution, _seeded, make_scheduler

    request = request_with(image=start_image(160, 96), mask=mask_of(96, 40) if task == "mask" else None)
    fast, _ = both
    pipeline_class = diffusers.StableDiffusionInpaintPipeline if task == "mask" else None
    pipeline = (pipeline_class or diffusers.StableDiffusionImg2ImgPipeline).from_pretrained(
        tiny_pipeline.folder(), safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_scheduler("euler", fast.manifest.diffusion)
    picture = Image.fromarray(request.image.pixels)
    arguments = {"image": picture if task == "mask" else picture.resize((64, 64), Image.Resampling.LANCZOS)}
    if request.mask:
        arguments |= {"mask_image": Image.fromarray(request.mask.pixels), "width": 64, "height": 64}
    noises = {
        type(pipeline): lambda _: latents.initial_latents(request, fast.manifest),
        DiagonalGaussianDistribution: lambda shape: latents.posterior_noise(request.seed, shape),
    }
    with _seeded(noises), torch.inference_mode():
        (expected,) = pipeline(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            strength=request.strength,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            **arguments,
        ).images
    assert psnr(fast.generate(request).pixels, np.asarray(expected)) >= 60


@pytest.mark.parametrize(
    ("changes", "request_changes", "least"),
    [
        ({}, {}, 40),
        ({"name": "guided-embedding", "time_cond_proj_dim": 32}, {"scheduler": "lcm"}, 40),
        ({"name": "tiny-decoder", "tiny_decoder": True}, {"scheduler": "ddim"}, 40),
        (tiny_pipeline.LIKE_STABLE_DIFFUSION, {"guidance_scale": 1.0}, 40),
    ],
    ids=["f16", "guidance-embedding", "tiny-encoder", "stable-diffusion"],
)
def test_other_architectures_agree(changes, request_changes, least):
    """Weights in f16, guidance embeddings, tiny autoencoders and UNets that begin with attention agree to 40 dB."""
    pair = engines(**changes)
    for mask in (None, mask_of(64, 64)):
        assert agreement(pair, request_with(mask=mask, **request_changes)) >= least


def test_stable_diffusion_xl_agrees(tmp_path):
    """Stable Diffusion XL shares the loop: its images agree with diffusers' pipelines to 60 dB."""
    folder = tiny_xl.folder()
    for engine, precision in (("openvino", "f32"), ("diffusers", "auto")):
        bake(folder, tmp_path / engine, engine=engine, precision=precision, name="xl", license="MIT")
    one, other = tmp_path / "openvino", tmp_path / "diffusers"
    pair = (
        OpenVinoEngine(one, manifests.read(one), precision="f32"),
        DiffusersEngine(other, manifests.read(other)),
    )
    for mask, strength in ((None, 0.6), (mask_of(64, 64), 0.6), (mask_of(64, 64), 1.0)):
        assert agreement(pair, request_with(mask=mask, strength=strength)) >= 60


def test_other_noise_processes_agree(both):
    """The engines agree for models that predict v and for other spacings of timesteps and noise levels."""
    noise = Diffusion(prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True)
    changed = [
        type(engine)(engine.folder, msgspec.structs.replace(engine.manifest, diffusion=noise), precision="f32")
        for engine in both
    ]
    for scheduler in ("ddim", "euler", "dpmpp_2m"):
        assert agreement(changed, request_with(scheduler=scheduler, mask=mask_of(64, 64))) >= 60
    for scheduler, schedule in (("euler", "karras"), ("unipc", "exponential"), ("dpmpp_2m_sde", "karras")):
        request = request_with(scheduler=scheduler, sigma_schedule=schedule, mask=mask_of(64, 64))
        assert agreement(both, request) >= 60


def test_the_start_image_decides_as_much_as_the_strength_says(both):
    """Less strength gives an image closer to the start image, and each start image its own."""
    fast, _ = both
    original = fast.generate(request_with(strength=0.13)).pixels
    distances = [psnr(fast.generate(request_with(strength=strength)).pixels, original) for strength in (0.3, 0.6, 1.0)]
    assert distances == sorted(distances, reverse=True)
    inverted = picture(255 - request_with().image.pixels, "image")
    assert psnr(fast.generate(request_with(image=inverted, strength=0.13)).pixels, original) < 40


@pytest.mark.parametrize("index", [0, 1], ids=["openvino", "diffusers"])
def test_both_engines_behave_alike(both, index):
    """Steps are counted from the first that runs; a strength without steps is refused; the same request is repeated."""
    engine = both[index]
    seen: list[tuple[int, int]] = []
    engine.generate(request_with(num_inference_steps=10, strength=0.5), lambda *step: seen.append(step))
    assert seen == [(done, 5) for done in range(1, 6)]
    with pytest.raises(InvalidRequest, match="`strength=` leaves none of the 8 steps"):
        engine.generate(request_with(strength=0.1))
    first = engine.generate(request_with(scheduler="euler_ancestral")).pixels
    engine.generate(request_with(width=96))
    engine.generate(msgspec.structs.replace(request_with(), image=None, strength=None))
    assert (engine.generate(request_with(scheduler="euler_ancestral")).pixels == first).all()


def test_the_encoder_is_compiled_when_it_is_first_used():
    """Loading and requests without a start image compile no encoder; its buffers are released as the decoder's are."""
    folder = tiny_pipeline.baked(precision="f32")
    engine = OpenVinoEngine(folder, manifests.read(folder), precision="f32")
    engine.load()
    engine.generate(msgspec.structs.replace(request_with(), image=None, strength=None))
    assert engine._runtime is not None
    assert "encoder" not in {graph.part for graph in engine._runtime.graphs}
    engine.generate(request_with())
    assert "encoder" in {graph.part for graph in engine._runtime.graphs}


def test_a_native_size_and_deepcache_take_start_images(both):
    """A model with a native size generates from the part of the start image that its image fills; DeepCache works."""
    fast, _ = both
    manifest = msgspec.structs.replace(fast.manifest, native_size=(64, 64))
    native = OpenVinoEngine(fast.folder, manifest, precision="f32")
    square = native.generate(request_with()).pixels
    wide = request_with(width=128, image=start_image(64, 64))
    assert native.generate(wide).pixels.shape == (64, 128, 3)
    assert psnr(square, fast.generate(request_with()).pixels) > 40
    cached = msgspec.structs.replace(
        manifest, native_size=None, approximations=manifests.Approximations(deepcache_interval=2)
    )
    assert OpenVinoEngine(fast.folder, cached, precision="f32").generate(request_with()).pixels.std() > 5


@pytest.fixture(scope="module")
def clients():
    """Clients of one model: in this process, and at a loopback Function URL, which calls the handler as Lambda does."""
    folder = tiny_pipeline.baked(precision="f32")
    app = App(lambda: open_engine(folder))
    with (
        FunctionUrlServer(app, KEYS, "us-east-1") as function,
        Client(model_dir=folder) as local,
        Client(function.url, region="us-east-1", credentials=KEYS) as remote,
    ):
        yield local, remote


def test_requests_work_end_to_end(clients):
    """In process and through the handler, the same pictures give the same image, and a mask keeps the rest."""
    random = np.random.default_rng(1)
    photo = random.integers(0, 256, (720, 1080, 3), np.uint8)
    mask = np.zeros((720, 1080), np.uint8)
    mask[:, 540:] = 255
    fields: dict[str, Any] = {"seed": 7, "num_inference_steps": 3, "width": 96, "height": 64}
    for pictures in ({}, {"mask": mask}):
        local, remote = (
            client.generate("a cat", image=photo, strength=0.7, **pictures, **fields) for client in clients
        )
        assert local.content == remote.content
        assert local.warnings == []
    kept = np.asarray(Image.fromarray(photo).resize((96, 64), Image.Resampling.LANCZOS)).astype(int)
    assert (np.asarray(local)[:, :40] == kept[:, :40]).all()


def test_the_health_report_says_what_a_model_takes(clients):
    """A model with an encoder takes pictures, and one without says what is missing."""
    _, remote = clients
    limits = remote.health().limits
    assert (limits.image, limits.mask) == ("optional", "optional")
    with pytest.raises(EndpointRefused, match="`strength=` leaves none of the 4 steps"):
        remote.generate("a cat", image=np.zeros((64, 64, 3), np.uint8), strength=0.2, num_inference_steps=4)
    with Client(local=True) as builtin:
        assert builtin.health().limits.image == "unsupported"
        with pytest.raises(EndpointRefused, match="lambdiff bake"):
            builtin.generate("a cat", image=np.zeros((64, 64, 3), np.uint8))


def test_a_model_can_be_baked_without_an_encoder(tmp_path):
    """`image_to_image=False` leaves the encoder out, and the manifest says that the model takes no pictures."""
    manifest = bake(tiny_pipeline.folder(), tmp_path / "model", image_to_image=False, name="tiny", license="MIT")
    assert (manifest.limits.image, manifest.limits.mask) == ("unsupported", "unsupported")
    assert not [file for file in manifest.files if file.path.startswith("encoder")]


def test_the_manifest_of_an_inpainting_model_requires_pictures(inpainting):
    """Both engines' manifests say that requests need a start image and a mask."""
    for engine in inpainting:
        assert engine.manifest.inpainting
        assert (engine.manifest.limits.image, engine.manifest.limits.mask) == ("required", "required")

"""Both engines generate the same image from the same weights, seed and scheduler, and behave alike."""

from __future__ import annotations

import os
import shutil
import threading
from typing import get_args

import msgspec
import numpy as np
import pytest

from lambdiff.engine import manifest as manifests
from lambdiff.engine.diffusers import DiffusersEngine
from lambdiff.engine.manifest import Diffusion
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.errors import Cancelled, ConfigurationError, InvalidRequest, LambdiffError
from lambdiff.protocol.contract import Generation, SchedulerName
from support import tiny_pipeline

pytestmark = pytest.mark.engine

SCHEDULERS = get_args(SchedulerName)


def request_with(**changes):
    """Return a small request with some fields changed."""
    fields = {
        "prompt": "a cat in the top hat",
        "negative_prompt": "dog",
        "num_inference_steps": 3,
        "guidance_scale": 4.0,
        "width": 64,
        "height": 64,
        "seed": 7,
        "scheduler": "euler",
    }
    return Generation(**fields | changes)


def openvino(folder):
    """Return the OpenVINO engine, in f32 on every machine."""
    return OpenVinoEngine(folder, manifests.read(folder), precision="f32")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Use one thread, because in networks this small additional threads only wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdiff.engine.cpu.threads", lambda: 1)
        yield


@pytest.fixture(scope="module")
def fast():
    """The OpenVINO engine."""
    return openvino(tiny_pipeline.baked(precision="f32"))


@pytest.fixture(scope="module")
def reference():
    """The diffusers engine with the same weights."""
    folder = tiny_pipeline.baked("diffusers")
    return DiffusersEngine(folder, manifests.read(folder))


def psnr(one, other):
    """Return the peak signal-to-noise ratio in dB; infinite for equal images."""
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0], ids=["unguided", "guided"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_both_engines_generate_the_same_image(fast, reference, scheduler, guidance_scale):
    """Images agree to 40 dB for every scheduler, guided and unguided, at a size that the UNet cannot halve evenly."""
    request = request_with(scheduler=scheduler, guidance_scale=guidance_scale, width=104, height=72)
    ours, theirs = fast.generate(request).pixels, reference.generate(request).pixels
    assert ours.shape == theirs.shape == (72, 104, 3)
    assert ours.std() > 10
    assert psnr(ours, theirs) >= 40


def test_sizes_that_the_unet_cannot_halve_are_cropped(fast):
    """At a size that the UNet cannot halve evenly, the image is the center of that of the next larger size."""
    whole = fast.generate(request_with(width=112, height=80)).pixels
    assert (fast.generate(request_with(width=104, height=72)).pixels == whole[4:-4, 4:-4]).all()


def test_models_that_predict_v_agree(fast, reference):
    """The engines also agree for models that predict v, here with the noise schedule of the built-in model."""
    noise = Diffusion(prediction_type="v_prediction", timestep_spacing="trailing", beta_end=0.02)
    images = [
        type(engine)(engine.folder, msgspec.structs.replace(engine.manifest, diffusion=noise), precision="f32")
        .generate(request_with(scheduler="ddim"))
        .pixels
        for engine in (fast, reference)
    ]
    assert psnr(*images) >= 40


@pytest.mark.parametrize(
    ("scheduler", "changes"),
    [
        ("lcm", {"name": "guided-embedding", "time_cond_proj_dim": 32}),
        ("ddim", {"name": "tiny-decoder", "tiny_decoder": True}),
        ("euler", tiny_pipeline.LIKE_STABLE_DIFFUSION),
    ],
    ids=["guidance-embedding", "tiny-decoder", "stable-diffusion"],
)
def test_other_architectures_agree(scheduler, changes):
    """The engines agree for guidance embeddings, tiny decoders, and UNets that begin with attention, stored as f16."""
    one = openvino(tiny_pipeline.baked(**changes))
    folder = tiny_pipeline.baked("diffusers", **changes)
    other = DiffusersEngine(folder, manifests.read(folder))
    request = request_with(scheduler=scheduler)
    assert psnr(one.generate(request).pixels, other.generate(request).pixels) >= 40


@pytest.mark.parametrize("native_size", [None, (64, 64)], ids=["any-size", "native-size"])
def test_a_unet_like_the_built_in_models_agrees(native_size):
    """Norms scaled and shifted by the timestep, and a pooled prompt, agree with dynamic and static shapes.

    With static shapes, such norms crash OpenVINO if they are converted as they are.
    """
    changes = {"resnet_time_scale_shift": "scale_shift", "addition_embed_type": "text"}
    folders = [tiny_pipeline.baked(engine, name="modulated", **changes) for engine in ("openvino", "diffusers")]
    manifest = msgspec.structs.replace(manifests.read(folders[0]), native_size=native_size)
    one = OpenVinoEngine(folders[0], manifest, precision="f32")
    other = DiffusersEngine(folders[1], manifests.read(folders[1]))
    request = request_with(scheduler="ddim")
    assert psnr(one.generate(request).pixels, other.generate(request).pixels) >= 40


@pytest.fixture(params=["fast", "reference"])
def engine(request):
    """Each engine in turn."""
    return request.getfixturevalue(request.param)


def test_the_same_seed_gives_the_same_pixels(engine):
    """A repeated request gives the same pixels, even after another request; another seed gives another image."""
    first = engine.generate(request_with(scheduler="lcm")).pixels
    other = engine.generate(request_with(scheduler="lcm", seed=8)).pixels
    again = engine.generate(request_with(scheduler="lcm")).pixels
    assert first.tobytes() == again.tobytes()
    assert psnr(first, other) < 40


def test_prompt_negative_prompt_and_guidance_change_the_image(engine):
    """Prompt, negative prompt and scale change the image, except that without guidance the negative prompt does not."""
    base = engine.generate(request_with()).pixels
    for changes in ({"prompt": "two dog on blue"}, {"negative_prompt": "blue background"}, {"guidance_scale": 9.0}):
        assert (engine.generate(request_with(**changes)).pixels != base).any(), changes
    unguided = engine.generate(request_with(guidance_scale=0.5)).pixels
    assert (unguided != base).any()
    assert (engine.generate(request_with(guidance_scale=1.0, negative_prompt="blue")).pixels == unguided).all()


@pytest.mark.parametrize(("scheduler", "calls"), [("euler", 3), ("pndm", 4)])
def test_steps_are_counted(engine, scheduler, calls):
    """The callback is called after every UNet call, of which PNDM makes one more than there are steps."""
    seen = []
    engine.generate(request_with(scheduler=scheduler), lambda done, total: seen.append((done, total)))
    assert seen == [(done, calls) for done in range(1, calls + 1)]


def test_a_request_can_be_cancelled(engine):
    """If the callback returns True, the request is cancelled, and the engine serves the next one."""
    seen = []
    with pytest.raises(Cancelled, match="after step 2 of 3"):
        engine.generate(request_with(), lambda done, _: seen.append(done) or done == 2)
    assert seen == [1, 2]
    assert engine.generate(request_with()).pixels.shape == (64, 64, 3)


@pytest.mark.linux
def test_a_library_is_refused_in_forked_processes(engine):
    """In a forked child, the library would wait for threads that only the parent has."""
    engine.generate(request_with())
    child = os.fork()
    if not child:
        try:
            engine.generate(request_with())
        except ConfigurationError as error:
            os._exit(0 if "was forked" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_too_many_lcm_steps_are_refused(engine):
    """More steps than LCM supports are refused as an invalid request."""
    with pytest.raises(InvalidRequest, match=r"1\.\.50"):
        engine.generate(request_with(scheduler="lcm", num_inference_steps=51))


def test_a_long_prompt_is_cut_with_a_warning(engine):
    """The warning names the last word that was read and counts the dropped words, which have no effect."""
    words = "a cat in the top hat with a dog on the red background two blue hat"
    long = engine.generate(request_with(prompt=words))
    assert long.warnings == [
        'The prompt was cut after "two": the model reads 14 tokens, so 2 words were dropped.',
    ]
    short = engine.generate(request_with(prompt="a cat in the top hat with a dog on the red background two"))
    assert short.warnings == []
    assert (short.pixels == long.pixels).all()
    negative = engine.generate(request_with(negative_prompt=words)).warnings
    assert [warning[:30] for warning in negative] == ["The negative prompt was cut af"]
    assert engine.generate(request_with(negative_prompt=words, guidance_scale=1.0)).warnings == []


def test_concurrent_requests_do_not_affect_each_other(engine):
    """Concurrent requests give the same images as separate ones."""
    alone = [engine.generate(request_with(seed=seed)).pixels for seed in range(3)]
    together: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(
            target=lambda seed=seed: together.update({seed: engine.generate(request_with(seed=seed)).pixels})
        )
        for seed in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((together[seed] == alone[seed]).all() for seed in range(3))


def test_phases_are_timed(engine):
    """Timings have the contract's names and are greater than zero."""
    timings = engine.generate(request_with()).timings
    assert set(timings) <= {"encode", "denoise", "decode", "resize"}
    assert {"denoise", "decode"} <= set(timings)
    assert all(seconds > 0 for seconds in timings.values())


def test_a_damaged_folder_is_a_clear_error(tmp_path, engine):
    """Files of the right size with wrong content raise a `LambdiffError`."""
    folder = tmp_path / "damaged"
    shutil.copytree(engine.folder, folder)
    for path in [*folder.rglob("*.xml"), *folder.rglob("*.safetensors")]:
        path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(LambdiffError, match="cannot be loaded"):
        type(engine)(folder, engine.manifest).load()

"""Correct and wrong uses of the public API. `test_typing.py` type-checks this file; nothing executes it.

A wrong line ends in `# error: MYPY-CODE, PYRIGHT-RULE`. All other lines must pass both type checkers.
"""

from pathlib import Path
from typing import assert_type

import lambdiff
from lambdiff import (
    Batch,
    Client,
    Failure,
    GeneratedImage,
    GenerationParameters,
    Health,
    HttpResponse,
    Keys,
    Transport,
    errors,
)
from lambdiff.bake.bake import bake
from lambdiff.engine.manifest import Manifest


class Canned:
    """A transport that need not inherit from `Transport`."""

    url = "canned"

    def request(self, method: str, body: bytes = b"", on_step: object = None) -> HttpResponse:
        return HttpResponse(status=200, headers={}, body=b"")

    def close(self) -> None: ...


class Incomplete:
    """Not a transport: it cannot send a request."""

    url = "incomplete"


def on_step(done: int, total: int) -> bool | None:
    """Cancel halfway."""
    return done > total // 2


def misspelled() -> None:
    """Import a name that does not exist."""
    from lambdiff import genrate  # noqa: F401  # error: attr-defined, reportAttributeAccessIssue


# lambdiff.generate
image = lambdiff.generate(
    "a cat",
    negative_prompt="a dog",
    num_inference_steps=4,
    guidance_scale=7,
    width=256,
    height=256,
    seed=None,
    scheduler="euler",
    image_format="webp",
    on_step=on_step,
    url="https://abc123.lambda-url.eu-central-1.on.aws/",
    region="eu-central-1",
    deployment=None,
    profile="work",
    local=False,
)
assert_type(image, GeneratedImage)
lambdiff.generate("a cat", on_step=lambda done, total: None)
lambdiff.genrate("a cat")  # error: attr-defined, reportAttributeAccessIssue
lambdiff.generate()  # error: call-arg, reportCallIssue
lambdiff.generate("a cat", 7)  # error: call-arg, reportCallIssue
lambdiff.generate("a cat", widht=3)  # error: call-arg, reportCallIssue
lambdiff.generate("a cat", width="256")  # error: arg-type, reportArgumentType
lambdiff.generate("a cat", seed=1.5)  # error: arg-type, reportArgumentType
lambdiff.generate("a cat", scheduler="eular")  # error: arg-type, reportArgumentType
lambdiff.generate("a cat", image_format="gif")  # error: arg-type, reportArgumentType
lambdiff.generate("a cat", on_step=lambda done: None)  # error: arg-type, reportArgumentType
lambdiff.generate("a cat", model_dir="model")  # error: call-arg, reportCallIssue

# Client
with Client(local=True, model_dir="model") as client:
    assert_type(client.generate("a cat", scheduler="dpmpp_2m"), GeneratedImage)
    assert_type(client.health(), Health)
    client.generate("a cat", steps=4)  # error: call-arg, reportCallIssue
    client.generate("a cat", scheduler=5)  # error: arg-type, reportArgumentType
    client.generate(prompt="a cat", image_format=None)  # error: arg-type, reportArgumentType
    client.genrate("a cat")  # error: attr-defined, reportAttributeAccessIssue
    print(client.health().modle)  # error: attr-defined, reportAttributeAccessIssue
Client("https://abc123.lambda-url.eu-central-1.on.aws/", credentials=Keys("AKID", "secret"), timeout_s=60)
Client(transport=Canned())
Client(transport=Incomplete())  # error: arg-type, reportArgumentType
Client("https://abc123.lambda-url.eu-central-1.on.aws/", "eu-central-1")  # error: call-arg, reportCallIssue
transport: Transport = Canned()

# Client.generate_many
fox: GenerationParameters = {"prompt": "a fox", "seed": 7, "scheduler": "lcm"}
batch = client.generate_many(["a cat", fox, {"prompt": "a dog", "width": 64}], max_workers=2, image_format="jpeg")
assert_type(batch, Batch)
assert_type(batch.images, list[GeneratedImage])
for result in batch:
    assert_type(result, GeneratedImage | Failure)
for failure in batch.failures:
    client.generate(**failure.request)
    print(failure.index, failure.error.fix, failure.error.exit_code)
assert_type(batch[0], GeneratedImage | Failure)
assert_type(batch[1:], Batch)
assert_type(batch.images[-1], GeneratedImage)
client.generate_many((name for name in ("a cat", "a dog")), n=4, seed=7)
client.generate_many(["a cat"], n="4")  # error: arg-type, reportArgumentType
client.generate_many(5)  # error: arg-type, reportArgumentType
client.generate_many(["a cat"], widht=3)  # error: call-arg, reportCallIssue
client.generate_many(["a cat"], scheduler="eular")  # error: arg-type, reportArgumentType
client.generate_many([5])  # error: list-item, reportArgumentType
client.generate_many([{"prompt": "a cat", "widht": 3}])  # error: list-item, reportArgumentType
client.generate_many([{"prompt": "a cat", "scheduler": "eular"}])  # error: list-item, reportArgumentType
client.generate_many([{"seed": 7}])  # error: list-item, reportArgumentType
fox["hieght"] = 64  # error: typeddict-unknown-key, reportGeneralTypeIssues

# bake
out = Path("model")
manifest = bake("tiny-sd", out, precision="int8", decoder="tiny", defaults={"width": 256, "scheduler": "ddim"})
assert_type(manifest, Manifest)
bake(out, out, guidance_interval=(0.0, 0.6), deepcache_interval=2, vocabulary=["cat"], progress=print)
bake("tiny-sd", out, "openvino")  # error: call-arg, reportCallIssue
bake("tiny-sd", "model")  # error: arg-type, reportArgumentType
bake("tiny-sd", out, precison="int8")  # error: call-arg, reportCallIssue
bake("tiny-sd", out, precision="int4")  # error: arg-type, reportArgumentType
bake("tiny-sd", out, engine="onnx")  # error: arg-type, reportArgumentType
bake("tiny-sd", out, native_size=128)  # error: arg-type, reportArgumentType
bake("tiny-sd", out, defaults={"widht": 256})  # error: arg-type, reportArgumentType

# Images and errors
image.save("cat.png", force=True)
image.save("cat.png", overwrite=True)  # error: call-arg, reportCallIssue
assert_type(image.size, tuple[int, int])
assert_type(image.seed, int)
assert_type(image.media_type, str)
assert_type(GeneratedImage.open(Path("cat.png")), GeneratedImage)
GeneratedImage.open(5)  # error: arg-type, reportArgumentType
print(image.sede)  # error: attr-defined, reportAttributeAccessIssue
try:
    client.generate("a cat")
except lambdiff.InvalidRequest as error:
    assert_type(error.problems, list[tuple[str, str]])
except (lambdiff.AccessDenied, errors.Throttled) as error:
    assert_type(error.status, int)
except lambdiff.EndpointTimeuot:  # error: attr-defined, reportAttributeAccessIssue
    pass
except lambdiff.LambdiffError as error:
    print(error.message)

"""Generate images with the SDK: one image, several at once, and error handling.

    pip install ".[local]"
    python examples/generate.py [FOLDER]

Requests go to the saved deployment, or to this machine if there is none.
"""

import sys
from pathlib import Path

import lambdiff

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("images")
folder.mkdir(parents=True, exist_ok=True)

# One image. The parameters are stored inside the file: `lambdiff info cat.png` prints them.
image = lambdiff.generate("a cat in a top hat", seed=7)
print(image.save(folder / "cat.png", force=True), image.seed, image.timings)
for warning in image.warnings:
    print("warning:", warning)

# Several images, one request each. Keyword arguments apply to every prompt that does not set its own.
with lambdiff.Client() as client:
    print("model:", client.health().model.name)
    batch = client.generate_many(
        ["a dog", "a fox", {"prompt": "an owl", "seed": 3}], max_workers=4, num_inference_steps=4, seed=1
    )
    for index, result in enumerate(batch):
        if isinstance(result, lambdiff.GeneratedImage):
            print(result.save(folder / f"{index}.webp", force=True))
        else:
            print(f"{result.request['prompt']} failed: {result.error}")

# Errors. The class tells who has to act; `fix`, if set, says what to do next.
try:
    lambdiff.generate("a cat", width=100)
except lambdiff.errors.InvalidRequest as error:  # the caller: nothing was sent
    for field, detail in error.problems:
        print(f"{field}: {detail}")
except lambdiff.errors.EndpointTimeout as error:  # never retried for you: the image may have been paid for
    print(error.message, error.fix)
except lambdiff.LambdiffError as error:  # everything else that lambdiff raises on purpose
    print(error.message, error.fix)

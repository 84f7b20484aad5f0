"""Writes the lock files of the images: `make lock`.

Packages from PyPI are resolved by uv. torch comes from PyTorch's own index, in the version that the tests run, because
PyPI's torch for Linux is built for CUDA.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
TORCH_INDEX: Final = "https://download.pytorch.org/whl/cpu"
MACHINES: Final = ("x86_64", "aarch64")
HEADER: Final = """\
# Locked for Python 3.12 and glibc 2.34 (Amazon Linux 2023) or older, x86_64 and aarch64. Written by `make lock` from
# {source}.
"""


def main() -> None:
    """Write all lock files."""
    compile_lock("openvino", "--no-deps")  # the .in file says which dependencies are left out
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as excludes:
        excludes.write("torch\n")
        excludes.flush()
        compile_lock("diffusers", "--excludes", excludes.name)
    with urllib.request.urlopen(f"{TORCH_INDEX}/torch/", timeout=60) as reply:  # noqa: S310 (a constant)
        page = reply.read().decode()
    (FOLDER / "requirements-torch.txt").write_text(torch_lock(page, torch_version()))


def compile_lock(engine: str, *options: str) -> None:
    """Resolve `requirements-ENGINE.in` for x86_64; the lock contains the hashes of all wheels of a version."""
    source, lock = FOLDER / f"requirements-{engine}.in", FOLDER / f"requirements-{engine}.txt"
    command = [
        *("uv", "pip", "compile", "--quiet", "--no-config", "--upgrade", "--generate-hashes"),
        *("--no-header", "--no-annotate", "--only-binary", ":all:", "--python-version", "3.12"),
        *("--python-platform", "x86_64-manylinux_2_34", *options, str(source)),
    ]
    done = subprocess.run([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, check=True)
    lock.write_text(HEADER.format(source=source.name) + done.stdout)


def torch_version() -> str:
    """Return the version of torch that the tests run, without its local part."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())
    (version,) = (
        line.removeprefix("torch==")
        for line in project["project"]["optional-dependencies"]["dev"]
        if line.startswith("torch==")
    )
    return str(version)


def torch_lock(page: str, version: str) -> str:
    """Return the lock file of torch, with the hashes that a page of PyTorch's index gives.

    Args:
        page: `TORCH_INDEX/torch/`, a list of links in the format of PEP 503.
        version: the version without its local part.
    """
    lines = []
    for machine in MACHINES:
        wheel = rf"torch-{re.escape(version)}(?:%2B|\+)cpu-cp312-cp312-manylinux_2_28_{machine}\.whl"
        match = re.search(rf'href="[^"]*{wheel}#sha256=([0-9a-f]{{64}})"', page)
        if match is None:
            sys.exit(f"{TORCH_INDEX} has no wheel with a hash for torch {version}, Python 3.12, {machine}")
        lines.append(f"    --hash=sha256:{match[1]}")
    return (
        "# torch without CUDA: the wheels for x86_64 and aarch64 in PyTorch's own index. Written by `make lock`.\n"
        f"torch=={version}+cpu \\\n" + " \\\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()

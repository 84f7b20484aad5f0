"""Create the contenders' environments in build/bench/environments, and a copy of the container image's packages.

    python3.11 tests/benchmarks/environments.py [NAME ...]

Needs only the standard library, Python 3.11, and Linux on x86-64. stable-diffusion.cpp is compiled, which needs a C++
compiler and CMake and takes several minutes. If an environment cannot be created, its contenders are reported as not
measured, with the reason. The environments take about 5 GB, and more if pip chooses a CUDA build of torch, which
`PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu` avoids.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
BUILD: Final = ROOT / "build" / "bench"
ENVIRONMENTS: Final = BUILD / "environments"
PACKAGES: Final = BUILD / "image-packages"

# Built for AVX2: this was 1.2 times as fast as a build for the machine's own instructions, AVX-512 and bf16 included.
_COMPILED: Final = {"sdcpp": "-DGGML_LLAMAFILE=ON -DSD_WEBP=OFF -DSD_WEBM=OFF -DGGML_NATIVE=OFF"}
# PyPI's torchvision does not load with a CPU build of torch, and then transformers does not load either.
_UNWANTED: Final = {"optimum": "torchvision"}
NAMES: Final = ("suite", "lambdiff", "diffusers", "genai", "optimum", *_COMPILED)
IMAGE_PYTHON: Final = "3.12"


def python(name: str) -> Path:
    """Return an environment's interpreter."""
    return program(name, "python")


def program(name: str, command: str) -> Path:
    """Return a command that is installed in an environment."""
    return ENVIRONMENTS / name / "bin" / command


def missing(name: str) -> str | None:
    """Return why an environment cannot be used; None if it can."""
    if _mark(name).exists():
        return None
    log = _log(name)
    if not log.exists():
        return "not built"
    errors = [line for line in log.read_text(errors="replace").splitlines() if "error" in line.lower()]
    return f"not built: {errors[-1].strip()[:200] if errors else 'see ' + log.name}"


def make(name: str) -> None:
    """Create an environment, unless it exists with the same requirements.

    Raises:
        CalledProcessError: pip failed; its output is in the environment's log.
    """
    wanted = _wanted(name)
    if _mark(name).exists() and _mark(name).read_text() == wanted:
        return
    print(f"creating the environment {name}", flush=True)
    folder = ENVIRONMENTS / name
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    command: list[str | Path] = [python(name), "-m", "pip", "install", "-r", _requirements(name)]
    command += ["--no-deps"] if name == "lambdiff" else []
    settings = os.environ | ({"CMAKE_ARGS": _COMPILED[name]} if name in _COMPILED else {})
    with _log(name).open("w") as log:
        subprocess.run(command, check=True, cwd=ROOT, env=settings, stdout=log, stderr=subprocess.STDOUT)
        if unwanted := _UNWANTED.get(name):
            remove = [python(name), "-m", "pip", "uninstall", "-y", unwanted]
            subprocess.run(remove, check=True, stdout=log, stderr=subprocess.STDOUT)
    _mark(name).write_text(wanted)


def make_image_packages() -> None:
    """Install the packages of the OpenVINO engine's container image, and prune them with the Dockerfile's commands."""
    requirements = ROOT / "docker" / "requirements-openvino.txt"
    mark = PACKAGES / "created-from"
    lines = dockerfile_commands()
    wanted = hashlib.sha256((requirements.read_text() + lines).encode()).hexdigest()
    if mark.exists() and mark.read_text() == wanted:
        return
    print("installing the image's packages", flush=True)
    shutil.rmtree(PACKAGES, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--only-binary=:all:", "--no-deps"]
    command += [
        "--require-hashes",
        "--python-version",
        IMAGE_PYTHON,
        "--ignore-requires-python",
        "--target",
        str(PACKAGES),
    ]
    command += [f"--platform=manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 26, 24, 17)]
    subprocess.run([*command, "--platform=manylinux2014_x86_64", "-r", str(requirements)], check=True)
    subprocess.run(["bash", "-euc", lines.replace("/packages", str(PACKAGES))], check=True)
    mark.write_text(wanted)


def dockerfile_commands() -> str:
    """Return the shell commands by which the Dockerfile removes what the function never uses."""
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    stage = re.search(r"^FROM packages AS packages-openvino\n(.*?)^FROM ", dockerfile, re.MULTILINE | re.DOTALL)
    match = stage and re.search(r"^RUN sh \S*/install-packages.sh \S+ \\\n && (.*?[^\\])\n", stage[1], re.M | re.S)
    if not match:
        raise RuntimeError("docker/Dockerfile has no RUN line with install-packages.sh in its stage packages-openvino")
    return match[1].replace("\\\n", " ")


def installed_size(name: str) -> int:
    """Return the bytes of an environment's packages, without pip and without compiled modules."""
    folder = ENVIRONMENTS / name / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    return folder_size(folder) - sum(folder_size(path) for path in folder.glob("pip*"))


def packages() -> dict[str, int]:
    """Return the bytes of the packages of each existing environment, and of the image."""
    sizes = {name: installed_size(name) for name in NAMES if missing(name) is None}
    return sizes | ({"image": folder_size(PACKAGES)} if PACKAGES.exists() else {})


def folder_size(folder: Path) -> int:
    """Return the bytes of the files in a folder and its subfolders, without compiled modules."""
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return sum(path.stat().st_size for path in paths if path.is_file() and not path.is_symlink())


def quiet() -> dict[str, str]:
    """Return the environment variables of a process without telemetry and without access to the hub."""
    return os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }


def _requirements(name: str) -> Path:
    return HERE / f"requirements-{name}.txt"


def _wanted(name: str) -> str:
    content = _requirements(name).read_text() + _COMPILED.get(name, "")
    return hashlib.sha256(content.encode()).hexdigest()


def _mark(name: str) -> Path:
    return ENVIRONMENTS / name / "complete"


def _log(name: str) -> Path:
    return ENVIRONMENTS / f"{name}.log"


def main() -> None:
    """Create all environments, or those named on the command line; report those that cannot be created."""
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or NAMES:
        try:
            make(name)
        except subprocess.CalledProcessError:
            print(f"{name}: {missing(name)}", flush=True)
            if name == "suite":
                sys.exit(1)
    make_image_packages()


if __name__ == "__main__":
    main()

"""`make arm64-check`: the OpenVINO engine on an emulated Arm processor, with the wheels that the image's lock names.

Makes a small Debian for arm64 below build/, installs the packages of docker/requirements-openvino.txt for Debian's
Python 3.11 (the image has 3.12), generates an image under QEMU and compares it with the image of this processor. Takes
a few minutes and needs root, for Debian's packages. The default, Neoverse N1, is the processor of Graviton2.

QEMU 7.2, Debian 12's, computes wrong images if it emulates SVE. For CPU=neoverse-v1 (Graviton3), use QEMU version 10.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from lambdiff.engine.factory import open_engine
from lambdiff.local import builtin
from lambdiff.protocol.contract import GenerateRequest
from support.localcloud import install

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "arm64"
REQUEST = '{"prompt": "a red apple", "seed": 1, "num_inference_steps": 4}'
MIN_PSNR = 40.0

GENERATE = """
import sys
sys.path[:0] = sys.argv[4:]
from pathlib import Path
import msgspec
from PIL import Image
from lambdiff.engine.factory import open_engine
from lambdiff.protocol.contract import GenerateRequest
engine = open_engine(Path(sys.argv[1]))
request = msgspec.json.decode(sys.argv[2], type=GenerateRequest)
Image.fromarray(engine.generate(request.resolve(engine.manifest.defaults)).pixels).save(sys.argv[3])
"""


def main() -> None:
    """Generate on both processors, print the agreement, and fail if it is low."""
    install.debian_packages("debootstrap", "qemu-user")
    debian, site, out = BUILD / "debian", BUILD / "site", BUILD / "image.png"
    if not (debian / "usr/bin/python3.11").exists():
        make_debian(debian)
    if not site.is_dir():
        install_packages(site)
    qemu, cpu = os.environ.get("QEMU", "qemu-aarch64"), os.environ.get("CPU", "neoverse-n1")
    model = builtin.builtin_model_dir()
    command = [qemu, "-cpu", cpu, "-L", debian, debian / "usr/bin/python3.11", "-c", GENERATE]
    subprocess.run([*command, model, REQUEST, out, site, ROOT / "src"], check=True)
    engine = open_engine(model)
    request = msgspec.json.decode(REQUEST, type=GenerateRequest)
    local = engine.generate(request.resolve(engine.manifest.defaults)).pixels
    error = np.mean((np.asarray(Image.open(out), dtype=float) - local) ** 2)
    psnr = float(10 * np.log10(255**2 / error))
    print(f"{cpu} and {platform.processor() or platform.machine()} agree to {psnr:.1f} dB")
    sys.exit(psnr < MIN_PSNR)


def make_debian(folder: Path) -> None:
    """Unpack a Debian with Python for arm64; nothing in it is run to install it."""
    shutil.rmtree(folder, ignore_errors=True)
    packages = "python3.11,libpython3.11-stdlib,libstdc++6,zlib1g"
    install.run(
        "debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", f"--include={packages}", "bookworm", folder
    )
    for package in (folder / "var/cache/apt/archives").glob("*.deb"):
        install.run("dpkg", "-x", package, folder)


def install_packages(site: Path) -> None:
    """Unpack the locked packages for aarch64, with numpy's last version for Python 3.11."""
    lock = (ROOT / "docker" / "requirements-openvino.txt").read_text()
    names = re.findall(r"^([a-z]+==\S+)", lock, re.MULTILINE)
    names = ["numpy<2.5" if name.startswith("numpy") else name for name in names]
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(35, 16, -1)]
    wheels = BUILD / "wheels"
    options = ["--python-version=3.11", "--implementation=cp", "--only-binary=:all:", "--no-deps", *platforms]
    install.run(sys.executable, "-m", "pip", "download", "--quiet", "-d", wheels, *options, *names)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


if __name__ == "__main__":
    main()

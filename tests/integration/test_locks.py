"""The images' lock files, resolved with the script and the options that the Dockerfile uses (docker/)."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.package_index import package_index

pytestmark = pytest.mark.slow  # downloads the wheels, as pip does for packages with hashes

DOCKER = Path(__file__).parents[2] / "docker"
GLIBC = 34
"""The minor version of glibc in Amazon Linux 2023."""
LEFT_OUT = {"openvino": {"openvino-telemetry"}, "tokenizers": {"huggingface-hub"}}
"""Dependencies that an engine's .in file leaves out on purpose, by package."""
ENGINES = ("openvino", "diffusers")
MACHINES = ("x86_64", "aarch64")


def installs(engine: str) -> list[list[str]]:
    """Return the arguments of each `install-packages.sh` in the Dockerfile's stage of an engine."""
    dockerfile = (DOCKER / "Dockerfile").read_text()
    stage = re.search(rf"^FROM packages AS packages-{engine}$(.*?)^FROM ", dockerfile, re.MULTILINE | re.DOTALL)
    assert stage is not None
    commands = re.findall(r"install-packages\.sh (.*?)(?:\\?$| && )", stage[1], re.MULTILINE)
    return [shlex.split(each) for each in commands]


def install(
    machine: str, arguments: list[str], folder: Path, python: str = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the script as on `machine` with Python 3.12, up to the point where pip would install; the report is a file.

    A recent pip is needed: older ones compare `Requires-Python` with the Python that runs them.
    """
    lock, *options = arguments
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name, script in (("uname", f"echo {machine}"), ("python", f'exec "{python}" "$@"')):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    path = DOCKER / Path(lock).name
    dry = ["--dry-run", "--report", str(folder / "report.json"), "--python-version", "3.12", "--implementation", "cp"]
    return subprocess.run(
        ["sh", DOCKER / "install-packages.sh", path, *options, *dry], capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", **environment},
    )  # fmt: skip


def locked(lock: str) -> dict[str, str]:
    """Return the versions in a lock file by package."""
    lines = re.findall(r"^([a-z0-9-]+)==(\S+)", (DOCKER / Path(lock).name).read_text(), re.MULTILINE)
    return dict(lines)


def missing(packages: list[dict[str, Any]], machine: str) -> set[str]:
    """Return the dependencies of the packages in a report of pip that are not among them, or have another version."""
    found = {canonicalize_name(each["name"]): each for each in packages}
    environment = {
        **default_environment(), "python_version": "3.12", "python_full_version": "3.12.9", "platform_machine": machine,
        "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": "",
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip
    lacking = set()
    for name, package in found.items():
        for requirement in map(Requirement, package.get("requires_dist", [])):
            needed = canonicalize_name(requirement.name)
            applies = requirement.marker is None or requirement.marker.evaluate(environment)
            if applies and needed not in LEFT_OUT.get(name, ()):
                version = found.get(needed, {}).get("version")
                if version is None or not requirement.specifier.contains(version, prereleases=True):
                    lacking.add(f"{name} requires {requirement}")
    return lacking


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_lock_resolves_with_the_options_of_the_dockerfile(engine: str, machine: str, tmp_path: Path) -> None:
    """On both architectures there is a wheel of every package, nothing is missing, and nothing is for CUDA."""
    packages: list[dict[str, Any]] = []
    for arguments in installs(engine):
        if "torch" in arguments[0]:
            packages.append(torch())
            continue
        done = install(machine, arguments, tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        report = json.loads((tmp_path / "report.json").read_text())
        found = {canonicalize_name(each["metadata"]["name"]): each["metadata"]["version"] for each in report["install"]}
        assert found == locked(arguments[0])
        packages += [each["metadata"] for each in report["install"]]
    assert {"openvino", "torch"} & {each["name"] for each in packages}
    assert missing(packages, machine) == set()
    assert not [each["name"] for each in packages if re.match("nvidia|cuda|triton", each["name"])]


def torch() -> dict[str, Any]:
    """Return what a report of pip says about torch, from the torch of these tests: the locked version, for this CPU."""
    from importlib.metadata import requires, version

    assert locked("requirements-torch.txt")["torch"] == f"{version('torch').partition('+')[0]}+cpu"
    needed = [each for each in requires("torch") or [] if not re.match("nvidia|cuda|triton|pytorch-triton", each)]
    return {"name": "torch", "version": version("torch"), "requires_dist": needed}


@contextmanager
def torch_index() -> Iterator[dict[str, str]]:
    """Yield pip's variables for torch's index, or for one on this machine with the same links if it does not answer."""
    (arguments,) = (each for each in installs("diffusers") if "torch" in each[0])
    url = arguments[arguments.index("--index-url") + 1]
    try:
        urllib.request.urlopen(f"{url}/torch/", timeout=10).close()
        yield {}
    except OSError:
        hashes = re.findall(r"sha256:([0-9a-f]{64})", (DOCKER / "requirements-torch.txt").read_text())
        version = locked("requirements-torch.txt")["torch"]
        wheels = {
            f"torch-{version}-{python}-manylinux_2_28_{machine}.whl": digest if python == "cp312-cp312" else "0" * 64
            for machine, digest in zip(MACHINES, hashes, strict=True)
            for python in ("cp311-cp311", "cp312-cp312", "cp313-cp313")
        }
        with package_index("torch", wheels) as stand_in:
            yield {"PIP_EXTRA_INDEX_URL": stand_in, "PIP_RETRIES": "0", "PIP_TIMEOUT": "5"}


@pytest.mark.parametrize("machine", MACHINES)
def test_torch_comes_from_its_own_index_and_is_compared_with_its_hash(machine: str, tmp_path: Path) -> None:
    """pip chooses the wheel of Python 3.12 for the machine; from the stand-in's index, it refuses what it downloads."""
    (arguments,) = (each for each in installs("diffusers") if "torch" in each[0])
    with torch_index() as variables:
        done = install(machine, arguments, tmp_path, **variables)
    wheel = f"torch-{locked(arguments[0])['torch']}-cp312-cp312-manylinux_2_28_{machine}.whl"
    assert wheel in urllib.parse.unquote(done.stdout + done.stderr)
    if variables:
        assert "DO NOT MATCH THE HASHES" in done.stderr
    else:
        assert done.returncode == 0, done.stderr[-2000:]


def test_every_platform_up_to_the_glibc_of_the_image_is_named(tmp_path: Path) -> None:
    """pip takes a platform literally, so a package with wheels for one minor version alone needs that one named."""
    done = install("x86_64", installs("openvino")[0], tmp_path, python="echo")
    minors = {int(each) for each in re.findall(r"--platform manylinux_2_(\d+)_x86_64", done.stdout)}
    assert minors == set(range(17, GLIBC + 1))
    assert "--platform manylinux2014_x86_64" in done.stdout


def test_the_lock_of_torch_is_written_from_the_page_of_its_index() -> None:
    """The hashes are those of the wheels of Python 3.12 without CUDA; without one of them, no lock is written."""
    spec = importlib.util.spec_from_file_location("lock", DOCKER / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    lock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lock)
    links = [
        f'<a href="/whl/cpu/torch-{version}-{python}-{python}-manylinux_2_28_{machine}.whl#sha256={digest * 64}">x</a>'
        for version, python, machine, digest in (
            ("9.1.0%2Bcpu", "cp311", "x86_64", "0"),
            ("9.1.0%2Bcpu", "cp312", "x86_64", "1"),
            ("9.1.0%2Bcpu", "cp312", "aarch64", "2"),
            ("9.1.0%2Bcpu", "cp312", "s390x", "3"),
            ("9.1.0rc1%2Bcpu", "cp312", "x86_64", "4"),
        )
    ]
    text = lock.torch_lock("\n".join(links), "9.1.0")
    assert "torch==9.1.0+cpu \\" in text
    assert re.findall(r"sha256:(.)", text) == ["1", "2"]
    with pytest.raises(SystemExit, match="aarch64"):
        lock.torch_lock(links[1], "9.1.0")
    assert f"{lock.torch_version()}+cpu" == locked("requirements-torch.txt")["torch"]

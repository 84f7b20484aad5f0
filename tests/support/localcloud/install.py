"""Install the local cloud into `settings.HOME`. A step is repeated only if its inputs have changed.

Takes about three minutes the first time.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from . import settings

PACKAGES = (
    *("podman", "runc", "netavark", "iptables", "iproute2", "procps", "debootstrap"),
    *("openssl", "ca-certificates", "util-linux"),
)
LIBRARIES = (
    "ca-certificates,libssl3,libsqlite3-0,libffi8,libbz2-1.0,liblzma5,zlib1g,libreadline8,libncursesw6,libuuid1,"
    "libstdc++6"
)
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{containers}/graph"\nrunroot = "{run}/containers"\n'
# runc, because crun refuses hosts that mount both versions of cgroups; limits, because podman's defaults can be above
# those of the host.
CONTAINERS = """[containers]
netns = "bridge"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[network]
network_backend = "netavark"
network_config_dir = "{containers}/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "{run}/libpod"
"""


def install() -> None:
    """Run the steps that have not been run yet.

    Raises:
        RuntimeError: no root, no Python 3.12, or a step failed; the message then has the end of its output.
    """
    if os.geteuid() != 0:
        raise RuntimeError("the local cloud needs root, for debootstrap, podman's bridge and a mount namespace")
    for folder in (settings.LOGS, settings.RUN, settings.STAMPS, settings.TMP, settings.CONTAINERS / "networks"):
        folder.mkdir(parents=True, exist_ok=True)
    prefix = python_prefix()
    step("packages", " ".join(PACKAGES), lambda: debian_packages(*PACKAGES), debian_packages)
    step("containers", STORAGE + CONTAINERS, containers)
    step("certificates", digest(SYSTEM_CERTIFICATES), certificates)
    step("emulator", f"{prefix} {settings.EMULATOR}", lambda: emulator(prefix), emulator)
    step("rie", settings.SAM_CLI, rie)
    step("rootfs", f"{settings.DEBIAN} {LIBRARIES}", rootfs)
    parts = [
        digest(settings.FILES / "lambda-entrypoint.sh"),
        digest(settings.BUNDLE),
        (settings.STAMPS / "rootfs").read_text(),
    ]
    step("base-image", f"{prefix} {settings.RUNTIME_CLIENT} {parts}", lambda: base_image(prefix), base_image)
    shutil.copyfile(settings.FILES / "container-engine.sh", settings.SHIM)
    settings.SHIM.chmod(0o755)


def step(name: str, inputs: str, function: Callable[[], None], source: Callable[..., None] | None = None) -> None:
    """Run `function`, unless it has been run with the same inputs and the same source."""
    mark = hashlib.sha256(f"{inputs}\n{inspect.getsource(source or function)}".encode()).hexdigest()
    stamp = settings.STAMPS / name
    if stamp.exists() and stamp.read_text() == mark:
        return
    stamp.unlink(missing_ok=True)
    start = time.monotonic()
    function()
    stamp.write_text(mark)
    print(f"local cloud: {name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def run(*command: str | Path, **environment: str) -> None:
    """Run a command without showing its output.

    Raises:
        RuntimeError: it failed; the message has the end of its output.
    """
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(str(part) for part in command)[:200]}\n{done.stdout[-3000:]}")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def python_prefix() -> Path:
    """Find a relocatable CPython 3.12 with a shared library: LOCALCLOUD_PYTHON_PREFIX, this one, or pyenv's newest."""
    candidates = [Path(os.environ["LOCALCLOUD_PYTHON_PREFIX"])] if "LOCALCLOUD_PYTHON_PREFIX" in os.environ else []
    candidates.append(Path(sys.base_prefix))
    if pyenv := shutil.which("pyenv"):
        root = Path(subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip())
        candidates += sorted(root.glob("versions/3.12.*"), key=lambda path: int(path.name.split(".")[2]), reverse=True)
    for prefix in candidates:
        if (prefix / "bin" / "python3.12").exists() and list((prefix / "lib").glob("libpython3.12.so*")):
            return prefix
    raise RuntimeError("no CPython 3.12 with a shared library was found; set LOCALCLOUD_PYTHON_PREFIX to its prefix")


def debian_packages(*names: str) -> None:
    """Install those of the Debian packages that are missing."""
    missing = [
        name for name in names if subprocess.run(["dpkg", "-s", name], capture_output=True, check=False).returncode
    ]
    if missing:
        run("apt-get", "update")
        run("apt-get", "install", "-y", "--no-install-recommends", *missing, DEBIAN_FRONTEND="noninteractive")


def containers() -> None:
    """Write podman's configuration."""
    values = {"containers": settings.CONTAINERS, "run": settings.RUN}
    (settings.CONTAINERS / "storage.conf").write_text(STORAGE.format(**values))
    (settings.CONTAINERS / "containers.conf").write_text(CONTAINERS.format(**values))
    # No registry to fall back to: the base image exists only in this store.
    (settings.CONTAINERS / "registries.conf").write_text("unqualified-search-registries = []\n")


def certificates() -> None:
    """Make an authority, a server certificate for all names that clients use, and a bundle that trusts both."""
    tls = settings.TLS
    shutil.rmtree(tls, ignore_errors=True)
    (tls / "registry").mkdir(parents=True)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256")
    use = "keyUsage=critical,keyCertSign,cRLSign"
    authority = ("-subj", "/CN=lambdiff local cloud", "-addext", use, "-keyout", tls / "ca.key", "-out", tls / "ca.pem")
    run("openssl", "req", "-x509", "-days", "3650", *key, *authority)
    run(
        "openssl",
        "req",
        "-new",
        *key,
        "-subj",
        "/CN=localhost",
        "-keyout",
        tls / "server.key",
        "-out",
        tls / "server.csr",
    )
    names = (
        "localhost",
        "*.localhost",
        "host.docker.internal",
        "*.s3.localhost",
        f"*.lambda-url.{settings.REGION}.on.aws",
        f"{settings.ACCOUNT}.dkr.ecr.{settings.REGION}.amazonaws.com",
        settings.BASE_REGISTRY,
    )
    listed = ",".join(f"DNS:{name}" for name in names)
    (tls / "extensions").write_text(f"subjectAltName=IP:127.0.0.1,{listed}\nextendedKeyUsage=serverAuth\n")
    signing = ("-CA", tls / "ca.pem", "-CAkey", tls / "ca.key", "-CAcreateserial", "-extfile", tls / "extensions")
    run("openssl", "x509", "-req", "-days", "3650", "-in", tls / "server.csr", *signing, "-out", tls / "server.pem")
    settings.BUNDLE.write_bytes(SYSTEM_CERTIFICATES.read_bytes() + (tls / "ca.pem").read_bytes())
    shutil.copyfile(tls / "ca.pem", tls / "registry" / "ca.crt")


def emulator(prefix: Path) -> None:
    """Make an environment for the emulator, separate from the project's packages."""
    folder = settings.EMULATOR_PYTHON.parents[1]
    shutil.rmtree(folder, ignore_errors=True)
    run(prefix / "bin" / "python3.12", "-m", "venv", folder)
    run(settings.EMULATOR_PYTHON, "-m", "pip", "install", "--quiet", settings.EMULATOR, "docker", "boto3")


def rie() -> None:
    """Extract AWS's Runtime Interface Emulator from the wheel that ships it."""
    folder = settings.TMP / "sam"
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, settings.SAM_CLI)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        settings.RIE.write_bytes(wheel.read("samcli/local/rapid/aws-lambda-rie-x86_64"))
    settings.RIE.chmod(0o755)
    shutil.rmtree(folder)


def rootfs() -> None:
    """Make a small Debian with the libraries that CPython links to."""
    shutil.rmtree(settings.ROOTFS, ignore_errors=True)
    run("debootstrap", "--variant=minbase", f"--include={LIBRARIES}", settings.DEBIAN, settings.ROOTFS)
    for folder in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(settings.ROOTFS / folder, ignore_errors=True)


def base_image(prefix: Path) -> None:
    """Make the substitute for AWS's base image, with the same paths, variables and entry point."""
    root = settings.ROOTFS
    python = root / "var" / "lang"
    for folder in ("var/lang", "var/runtime", "var/task"):
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(parents=True)
    unwanted = shutil.ignore_patterns("__pycache__", "*.a", "idlelib", "test", "tkinter")
    for name in ("bin", "include", "lib"):
        shutil.copytree(prefix / name, python / name, symlinks=True, ignore=unwanted)
    packages = python / "lib" / "python3.12" / "site-packages"
    for path in packages.iterdir():
        if not path.name.startswith("pip"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for script in (python / "bin").glob("pip*"):  # their first line has the folder that Python was built in
        executable(script, '#!/bin/sh\nexec /var/lang/bin/python3.12 -m pip "$@"\n')
    runtime = root / "var" / "runtime"
    run(prefix / "bin" / "python3.12", "-m", "pip", "install", "--quiet", "--target", runtime, settings.RUNTIME_CLIENT)
    executable(runtime / "bootstrap", '#!/bin/sh\nexec /var/lang/bin/python3.12 -m awslambdaric "${1:-$_HANDLER}"\n')
    shutil.copy2(settings.RIE, root / "usr" / "local" / "bin" / "aws-lambda-rie")
    executable(root / "lambda-entrypoint.sh", (settings.FILES / "lambda-entrypoint.sh").read_text())
    # During a build, pip trusts what this machine trusts, such as a proxy's authority.
    shutil.copyfile(settings.BUNDLE, root / "etc" / "ssl" / "certs" / "ca-certificates.crt")
    # The S3 client of the batch function knows only public authorities, and that of AWS_CA_BUNDLE.
    shutil.copyfile(settings.TLS / "ca.pem", root / settings.CA_IN_IMAGE.lstrip("/"))
    (root / "etc" / "pip.conf").write_text(
        "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n"
        "disable-pip-version-check = true\nroot-user-action = ignore\n"
    )
    path = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
    libraries = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
    changes = [
        "ENV LANG=en_US.UTF-8",
        "ENV TZ=:/etc/localtime",
        f"ENV PATH={path}",
        f"ENV LD_LIBRARY_PATH={libraries}",
        "ENV PYTHONPATH=/var/runtime",
        "ENV LAMBDA_TASK_ROOT=/var/task",
        "ENV LAMBDA_RUNTIME_DIR=/var/runtime",
        "WORKDIR /var/task",
        'ENTRYPOINT ["/lambda-entrypoint.sh"]',
    ]
    archive = settings.TMP / "rootfs.tar"
    run("tar", "-C", root, "-cf", archive, ".")
    settings.podman("import", *(f"--change={change}" for change in changes), str(archive), settings.BASE_IMAGE)
    archive.unlink()
    program = "import ssl, sqlite3, ctypes, bz2, lzma, awslambdaric, sys; print(sys.version)"
    done = settings.podman(
        "run", "--rm", "--network=none", "--entrypoint=/var/lang/bin/python3.12", settings.BASE_IMAGE, "-c", program
    )
    if not re.match(r"3\.12\.", done.stdout):
        raise RuntimeError(f"the base image does not run: {done.stdout}")


def executable(path: Path, text: str) -> None:
    """Write an executable script; a link of that name is replaced."""
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o755)

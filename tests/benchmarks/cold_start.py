"""Measure the time from process start to the first image, and the bytes of the image's files that are read.

    python tests/benchmarks/cold_start.py [--rounds 5] [--steps 8] [--size 256] [--json FILE]
    python tests/benchmarks/cold_start.py --model BAKED --tutorial PIPELINE --steps 1 --size 64
    python tests/benchmarks/cold_start.py --container [--chunk-ms 5]

Every start is a new process. The contenders take turns, each with an empty page cache (which needs root, and leaves
what running programs have mapped) and with a full one.

    lambdiff generate   the command line, until it exits
    lambdiff            the function's entry point under AWS's runtime client
    emulator            the same under AWS's Runtime Interface Emulator (Linux)
    container           the same in the container image, built on the local cloud (--container; Linux, x86_64, root)
    tutorial            DiffusionPipeline.from_pretrained under the runtime client, cached for the second request

`imports` is the time of the first image without `load` and `generate`: interpreter, runtime client, modules. `start` is
the difference between the first image and the second. With --container, a second table shows how much of the container
image is in the page cache after a start with an empty one, on a device with Linux's default read-ahead. Lambda fetches
images in chunks of 512 KiB; they are counted as if files were stored consecutively in the order of their paths. With
--chunk-ms, the device is slow on the first read of each chunk, like Lambda's, and its own count is printed, too: see
lazy_device.py.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import ctypes
import io
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parents[1]))

if __name__ == "__main__":  # not in the process of the tutorial
    import lazy_device
    import numpy as np

    from lambdiff.local import builtin
    from support.runtime_api import EmulatedFunction, Function

HANDLER = "lambdiff.handler.function.handler"
IMAGE = "lambdiff-cold-start"
CHUNK = 512 * 1024
DROP_CACHES = Path("/proc/sys/vm/drop_caches")

Result = dict[str, float]


def tutorial(event: dict[str, Any], _: object, cache: dict[str, Any] = {}) -> dict[str, Any]:  # noqa: B006 -- a cache
    """Handle an event as in tutorials, but load the pipeline only once. Runs in a process of its own."""
    from diffusers import DiffusionPipeline

    timings = {}
    began = time.perf_counter()
    if not cache:
        cache["pipeline"] = DiffusionPipeline.from_pretrained(os.environ["TUTORIAL"])
        timings["load"] = time.perf_counter() - began
    began = time.perf_counter()
    fields = json.loads(event["body"])
    del fields["seed"]
    content = io.BytesIO()
    cache["pipeline"](**fields).images[0].save(content, "PNG")
    timings["generate"] = time.perf_counter() - began
    return {
        "statusCode": 200,
        "headers": {"server-timing": ", ".join(f"{phase};dur={1000 * taken}" for phase, taken in timings.items())},
        "body": base64.b64encode(content.getvalue()).decode(),
    }


def drop_caches() -> None:
    """Empty the page cache, except for what running programs have mapped."""
    os.sync()
    DROP_CACHES.write_text("3")


def by_requests(
    make: Callable[[], AbstractContextManager[Any]],
    request: dict[str, Any],
    *,
    waits: bool = False,
    forget: Callable[[], None] | None = None,
    look: Callable[[], None] | None = None,
) -> Callable[[bool], Result]:
    """Return a contender that sends two requests to a function.

    Args:
        make: starts the function.
        request: an event of a Function URL.
        waits: whether the function's process starts with the first request, instead of with `make`.
        forget: called before the first request, if the page cache is empty.
        look: called after the first image of a start with an empty cache.
    """
    from lambdiff.protocol.headers import decode_timings

    def once(cold: bool) -> Result:
        if cold and not waits:
            drop_caches()
        began = time.perf_counter()
        with make() as function:
            if cold and waits:
                drop_caches()
            if cold and forget:
                forget()
            began = time.perf_counter() if waits else began
            reply = function.invoke(request)
            first = time.perf_counter() - began
            if reply["statusCode"] != 200:
                raise RuntimeError(f"no image: {reply}")
            if cold and look:
                look()
            began = time.perf_counter()
            function.invoke(request)
            second = time.perf_counter() - began
        timings = decode_timings(reply["headers"]["server-timing"])
        load, _ = timings.pop("load", 0.0), timings.pop("queue", 0.0)  # the engine is imported in the queue
        generate = sum(timings.values())
        imports = first - load - generate
        return {
            "first": first,
            "second": second,
            "start": first - second,
            "imports": imports,
            "load": load,
            "generate": generate,
        }

    return once


def by_command_line(model: Path, request: dict[str, Any], folder: Path) -> Callable[[bool], Result]:
    """Return a contender that generates one image with `lambdiff generate`."""
    fields = json.loads(request["body"])
    command = [sys.executable, "-m", "lambdiff", "generate", fields["prompt"], "--local", "--model-dir", str(model)]
    command += ["--quiet", "--force", "-o", str(folder / "cold-start.png")]
    command += ["--steps", str(fields["num_inference_steps"]), "--size", f"{fields['width']}x{fields['height']}"]

    def once(cold: bool) -> Result:
        if cold:
            drop_caches()
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return {"first": time.perf_counter() - began}

    return once


def resident(path: Path) -> list[int]:
    """Return the numbers of the pages of a file that are in the page cache."""
    size = path.stat().st_size
    if not size:
        return []
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as memory:
        content = np.frombuffer(memory, np.uint8)
        failed = ctypes.CDLL(None).mincore(ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(size), pages)
        del content
    if failed:
        raise OSError(f"mincore failed for {path}")
    return [number for number, page in enumerate(pages) if page & 1]


def part_of(place: tuple[str, ...]) -> str:
    """Return the part of the container image that a file belongs to."""
    if place[:2] == ("opt", "model"):
        return "the model"
    if place[:2] == ("var", "task"):
        return place[2]
    return "emulator" if place[-1] == "aws-lambda-rie" else "base image"


def touched(root: Path) -> dict[str, dict[str, int]]:
    """Return, by part of a container image, its size and the bytes and chunks that are in the page cache."""
    parts: dict[str, dict[str, Any]] = {}
    position = 0
    for path in sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink()):
        part = parts.setdefault(part_of(path.relative_to(root).parts), {"size": 0, "touched": 0, "chunks": set()})
        pages = resident(path)
        part["size"] += path.stat().st_size
        part["touched"] += min(len(pages) * mmap.PAGESIZE, path.stat().st_size)
        part["chunks"] |= {(position + page * mmap.PAGESIZE) // CHUNK for page in pages}
        position += -(-path.stat().st_size // mmap.PAGESIZE) * mmap.PAGESIZE
    chunks = {name: part.pop("chunks") for name, part in parts.items()}
    for name, part in parts.items():
        part["chunks"] = len(chunks[name])
    parts["total"] = {key: sum(part[key] for part in parts.values()) for key in ("size", "touched")}
    parts["total"]["chunks"] = len(set().union(*chunks.values()))
    return parts


class Container:
    """The container image as a read-only ext4 file system on a block device, as in Lambda.

    Args:
        model: a baked folder.
        built: the name of an existing image, to use instead of building one.
        chunk_ms: milliseconds that the first read of each chunk takes; 0 for a device that is not slowed down.
    """

    READ_AHEAD_KB = 128
    """Linux's default; this machine's may be much larger."""

    def __init__(self, model: Path, built: str | None, chunk_ms: float) -> None:
        self._model = model
        self._chunk_ms = chunk_ms
        self._fetched: Path | None = None
        self._image = built or IMAGE
        self._built = built is not None
        self.touched: list[dict[str, dict[str, int]]] = []
        self.fetched: list[dict[str, float]] = []

    def __enter__(self) -> Self:
        from lambdiff.infra import build_context
        from support.localcloud import install, settings

        install.install()
        self._podman, self._environment = settings.podman, settings.containers_environment()
        if not self._built:
            arguments = ("--build-arg", f"BASE_IMAGE={settings.BASE_IMAGE}", "--build-arg", "ENGINE=openvino")
            folder = build_context.stage(self._model, "openvino").folder
            settings.podman("build", "--quiet", "--tag", IMAGE, *arguments, str(folder))
        config = json.loads(settings.podman("image", "inspect", self._image).stdout)[0]["Config"]
        self._settings = [f"--workdir={config['WorkingDir']}", *(f"--env={value}" for value in config["Env"])]
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.root = folder / "root"
            self.root.mkdir()
            content = self._podman("image", "mount", self._image).stdout.strip()
            try:
                size = sum(path.lstat().st_size for path in Path(content).rglob("*"))
                make = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", content]
                run(*make, str(folder / "image"), f"{size // 1000 + 100_000}k")
            finally:
                self._podman("image", "unmount", self._image)
            file = folder / "image"
            if self._chunk_ms:
                (folder / "lazy").mkdir()
                file = stack.enter_context(lazy_device.serve(file, folder / "lazy", self._chunk_ms))
                self._fetched = file.parent / "touched"
            device = run("losetup", "--read-only", "--direct-io=on", "--find", "--show", str(file)).strip()
            stack.callback(run, "losetup", "--detach", device)
            Path(f"/sys/block/{Path(device).name}/queue/read_ahead_kb").write_text(str(self.READ_AHEAD_KB))
            run("mount", "-o", "ro", device, str(self.root))
            stack.callback(run, "umount", str(self.root))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def function(self) -> Iterator[EmulatedFunction]:
        """Run a container of the image under the emulator."""
        launch = ["podman", "run", "--rm", "--name", IMAGE, "--network=host", *self._settings]
        launch += ["--entrypoint=/usr/local/bin/aws-lambda-rie", "--rootfs", f"{self.root}:O"]
        try:
            with EmulatedFunction(HANDLER, launch=launch, client=["/var/runtime/bootstrap"], **self._environment) as it:
                yield it
        finally:
            self._podman("rm", "--force", "--time=0", IMAGE, check=False)

    def forget(self) -> None:
        """Make all chunks slow again."""
        if self._fetched:
            self._fetched.unlink()

    def look(self) -> None:
        """Record what has been read."""
        if self._fetched:
            self.fetched.append(json.loads(self._fetched.read_text()))
        self.touched.append(touched(self.root))


def run(*command: str) -> str:
    """Return the output of a command that must succeed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def contenders(
    options: argparse.Namespace, folder: Path, images: dict[str, Container]
) -> dict[str, Callable[[bool], Result]]:
    """Return the contenders by name."""
    fields = {"prompt": "a red apple", "seed": 7, "num_inference_steps": options.steps}
    request = {
        "version": "2.0",
        "rawPath": "/",
        "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": "POST", "path": "/"}},
        "body": json.dumps(fields | {"width": options.size, "height": options.size}),
        "isBase64Encoded": False,
    }
    environment = {"LAMBDIFF_MODEL_DIR": str(options.model), "LAMBDIFF_HOME": str(folder)}
    os.environ |= environment
    by_name = {
        "lambdiff generate": by_command_line(options.model, request, folder),
        "lambdiff": by_requests(lambda: Function(HANDLER, timeout=600, **environment), request),
    }
    if sys.platform == "linux":
        by_name["emulator"] = by_requests(lambda: EmulatedFunction(HANDLER, **environment), request, waits=True)
    for name, image in images.items():
        by_name[name] = by_requests(image.function, request, waits=True, forget=image.forget, look=image.look)
    if options.tutorial:
        variables = {"TUTORIAL": str(options.tutorial)}
        by_name["tutorial"] = by_requests(
            lambda: Function("benchmarks.cold_start.tutorial", timeout=600, **variables), request
        )
    return by_name


def table(results: dict[str, dict[str, list[Result]]]) -> str:
    """Return a table of medians in seconds, in Markdown."""
    columns = ("first", "imports", "load", "generate", "second", "start")
    lines = [f"| | page cache | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for name, caches in results.items():
        for cache, runs in caches.items():
            if runs:
                cells = [f"{statistics.median(run[c] for run in runs):.2f}" if c in runs[0] else "" for c in columns]
                lines.append(f"| {name} | {cache} | {' | '.join(cells)} |")
    return "\n".join(lines)


def image_table(parts: dict[str, dict[str, int]]) -> str:
    """Return a table of what was read of a container image, in Markdown."""
    lines = ["| part of the image | MB | MB read | chunks read |", "|---|---|---|---|"]
    for name, part in sorted(parts.items(), key=lambda item: (item[0] == "total", -item[1]["touched"])):
        lines.append(f"| {name} | {part['size'] / 1e6:.1f} | {part['touched'] / 1e6:.1f} | {part['chunks']} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, help="width and height")
    parser.add_argument("--model", type=Path, default=builtin.builtin_model_dir(), help="a baked folder")
    parser.add_argument("--tutorial", type=Path, help="the folder of a pipeline, for the tutorial")
    parser.add_argument("--container", action="store_true", help="also measure in the container image")
    parser.add_argument("--image", action="append", default=[], help="also measure in this existing container image")
    parser.add_argument("--chunk-ms", type=float, default=0, help="milliseconds that the first read of a chunk takes")
    parser.add_argument("--only", help="names of contenders, separated by commas")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        wanted = [("container", None)] if options.container else []
        images = {
            name: stack.enter_context(Container(options.model, built, options.chunk_ms))
            for name, built in [*wanted, *((image, image) for image in options.image)]
        }
        chosen = contenders(options, Path(folder), images)
        if options.only:
            chosen = {name: run for name, run in chosen.items() if name in options.only.split(",")}
        caches = ["empty", "full"] if os.access(DROP_CACHES, os.W_OK) else ["full"]
        results: dict[str, dict[str, list[Result]]] = {name: {cache: [] for cache in caches} for name in chosen}
        for _ in range(options.rounds):
            for name, run in chosen.items():
                for cache in caches:  # the start with an empty cache fills it for the next one
                    results[name][cache].append(run(cache == "empty"))
    print(table(results))
    for name, image in images.items():
        if image.touched:
            print(f"\n{name}\n\n{image_table(image.touched[-1])}")
        if image.fetched:
            chunks, seconds = (statistics.median(run[key] for run in image.fetched) for key in ("chunks", "seconds"))
            print(f"\nThe device fetched {chunks:.0f} chunks and was busy for {seconds:.2f} s.")
    if options.json:
        kept = {name: {"touched": image.touched, "fetched": image.fetched} for name, image in images.items()}
        options.json.write_text(json.dumps({"seconds": results, "images": kept}, indent=1))


if __name__ == "__main__":
    main()

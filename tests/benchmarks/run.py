"""Run every contender in fresh processes, in turn, round by round, and write the figures to a JSON file.

    PYTHONPATH=tests python -m benchmarks.run [--rounds 3] [--only "NAME;..."] [--isa native,avx2] [--out results.json]

`make bench` runs it in the right environment, and `report.py` makes a page of the file. The default plan takes about 50
minutes on two idle cores with AVX-512 and bf16, and each further round about 10. On a busy machine the figures are
worthless. The file is updated after each process: the same command continues after an interruption, and a higher
--rounds adds rounds. The model's files are in the page cache; `cold_start.py` measures starts with an empty one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import ablation, environments, plan
from benchmarks.contenders.common import STARTED
from benchmarks.plan import ISAS, Row, Sweep
from benchmarks.tiny_sd import WORK, Models, flops, size

CONTENDERS = Path(__file__).parent / "contenders"
SOURCES = environments.ROOT / "src"


@dataclass
class Settings:
    """The parameters of `run`.

    Attributes:
        rate_seconds: how long to measure each kind of product for the machine's rate.
        python: returns the interpreter of an environment.
        missing: returns why an environment cannot be used; None if it can.
        packages: returns the bytes of each environment's packages.
        tell: shows a message.
    """

    models: Models
    out: Path
    rounds: int = 3
    size: int = 512
    steps: int = 4
    rows: tuple[Row, ...] = plan.ROWS + ablation.ROWS
    sweeps: tuple[Sweep, ...] = plan.SWEEPS
    isas: tuple[str, ...] = tuple(ISAS)
    timeout: float = 900.0
    rate_seconds: float = 0.7
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    python: Callable[[str], Path] = environments.python
    missing: Callable[[str], str | None] = environments.missing
    packages: Callable[[], dict[str, int]] = environments.packages
    tell: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Process:
    """One process to run: a row, and everything that distinguishes its runs."""

    row: Row
    isa: str
    round: int
    size: int
    steps: int
    threads: int
    sweep: str = ""

    @property
    def key(self) -> dict[str, Any]:
        """The fields that identify its entry in the results."""
        own = {name: getattr(self, name) for name in ("isa", "round", "size", "steps", "threads", "sweep")}
        return {"row": self.row.name, **own}

    def image(self, folder: Path) -> Path:
        """Return the path of its image."""
        name = re.sub(r"[^a-z0-9]+", "-", self.row.name.lower()).strip("-")
        return folder / f"{name}-{self.isa}-{self.size}-{self.steps}.png"


def run(settings: Settings) -> dict[str, Any]:
    """Measure what `settings.out` does not have yet, and return its whole content.

    Raises:
        SystemExit: the file is of another size, number of steps, model, machine or version of lambdiff.
    """
    results = _begin(settings)
    _measure_machine(results, settings)
    _write(results, settings.out)
    done = [{key: entry[key] for key in _keys(entry)} for entry in results["runs"]]
    images = settings.out.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for process in list(processes(settings)):
        if process.key in done:
            continue
        if reason := settings.missing(process.row.environment):
            where = "" if process.isa == "native" else f" ({process.isa})"
            results["missing"][process.row.name + where] = reason
            continue
        settings.tell(f"round {process.round + 1}, {process.isa}: {process.row.name} {process.sweep}")
        outcome = start(process, settings, images)
        if "failed" in outcome:
            settings.tell(f"  failed: {outcome['failed']}")
        else:
            settings.tell(f"  cold {outcome['cold']:.2f} s, then {_listed(outcome['warm'])}")
        results["runs"].append(process.key | outcome)
        _write(results, settings.out)
    results["psnr"] |= compare(settings, images)
    results["bytes"] = {"packages": settings.packages(), "models": results["bytes"]["models"] | _model_bytes(settings)}
    _write(results, settings.out)
    return results


def processes(settings: Settings) -> Iterator[Process]:
    """Yield all processes in their order: contenders take turns within a round."""
    for turn in range(settings.rounds):
        for isa in settings.isas:
            for row in settings.rows:
                if isa in row.isas and turn < row.rounds(settings.rounds, isa):
                    steps = row.steps or settings.steps
                    yield Process(row.in_isa(isa), isa, turn, settings.size, steps, settings.threads)
        if turn == 0:
            yield from _swept(settings)


def _swept(settings: Settings) -> Iterator[Process]:
    for sweep in settings.sweeps:
        row = next((row for row in settings.rows if row.name == sweep.row), None)
        if row is None or "native" not in settings.isas:
            continue
        for value in sweep.values:
            if sweep.quantity == "threads" and value > settings.threads:
                continue
            usual = {"size": sweep.size, "steps": sweep.steps, "threads": settings.threads}
            yield Process(row=row, isa="native", round=0, sweep=sweep.quantity, **(usual | {sweep.quantity: value}))


def start(process: Process, settings: Settings, images: Path) -> dict[str, Any]:
    """Run one process and return what it reports, or `failed` with the reason."""
    row = process.row
    command: list[Any] = [settings.python(row.environment), CONTENDERS / f"{row.contender}.py"]
    options = {
        "model": row.model(settings.models),
        "tiny-autoencoder": settings.models.tiny_autoencoder(),
        "size": process.size,
        "steps": process.steps,
        "guidance": row.guidance,
        "scheduler": row.scheduler,
        "decoder": row.decoder,
        "precision": row.precision,
        "warm": row.warm,
        "image": process.image(images),
    }
    if row.switch:
        options["switch"] = row.switch
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = environments.quiet() | ISAS[process.isa] | {"PYTHONPATH": str(SOURCES)}
    for _ in range(1 + row.rehearsed):
        began = time.monotonic()
        environment[STARTED] = str(began)
        try:
            done = _run_on(process.threads, command, environment, settings.timeout)
        except subprocess.TimeoutExpired:
            return {"failed": f"not finished after {settings.timeout:.0f} s"}
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        return {"failed": (lines[-1] if lines else f"exit code {done.returncode}")[:300]}
    report = dict(json.loads(done.stdout.splitlines()[-1]))
    counted = {"calls": row.calls(process.steps), "arithmetic": row.arithmetic}
    return report | counted | {"process": time.monotonic() - began}


def _run_on(
    threads: int, command: list[Any], environment: dict[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a command on the first `threads` processors that this process may use."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[:threads])
    try:
        return subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=timeout,
        )
    finally:
        os.sched_setaffinity(0, processors)


def compare(settings: Settings, images: Path) -> dict[str, dict[str, float]]:
    """Return the PSNR in dB of each image against that of its row's reference, by row and instruction set."""
    values: dict[str, dict[str, float]] = {}
    paths = {(p.row.name, p.isa): p.image(images) for p in processes(settings) if not p.sweep}
    for (name, isa), path in paths.items():
        reference = next(row for row in settings.rows if row.name == name).reference
        candidates = [paths.get((reference, other)) for other in ("native", "avx2")] if reference else []
        original = next((other for other in candidates if other and other.exists()), None)
        if original and path.exists():
            values.setdefault(name, {})[isa] = psnr(path, original)
    return values


def psnr(one: Path, other: Path) -> float:
    """Return the peak signal-to-noise ratio of two images in dB; 100 for equal ones."""
    import numpy as np
    from PIL import Image

    pixels = [np.asarray(Image.open(path).convert("RGB"), dtype=np.float64) for path in (one, other)]
    error = float(np.mean((pixels[0] - pixels[1]) ** 2))
    return 10 * float(np.log10(255**2 / error)) if error else 100.0


def _begin(settings: Settings) -> dict[str, Any]:
    """Return the results so far, without those that failed, or new ones."""
    from benchmarks import machine

    settled = {"size": settings.size, "steps": settings.steps, "model": settings.models.folder.name}
    settled |= {"machine": machine.describe(), "code": _code()}
    if settings.out.exists():
        results: dict[str, Any] = json.loads(settings.out.read_text())
        if results["settings"] != settled:
            raise SystemExit(
                f"{settings.out} has results of another machine, size, model, number of steps or version of lambdiff. "
                "Remove it, or pass another --out."
            )
        results["runs"] = [run for run in results["runs"] if "failed" not in run]
        results["missing"] = {}
        return results
    results = {"settings": settled, "date": time.strftime("%Y-%m-%d", time.gmtime()), "load": os.getloadavg()[0]}
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    return results | {"gemm": {}, "work": {}, "missing": {}, "runs": [], "psnr": {}, "bytes": {"models": {}}}


def _code() -> str:
    """Return a digest of lambdiff's code, so that no table mixes results of two versions."""
    code = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.py")):
        code.update(path.read_bytes())
    return code.hexdigest()[:12]


def _measure_machine(results: dict[str, Any], settings: Settings) -> None:
    """Add the model's work at each size and the machine's rates, unless the results have them."""
    for side in {settings.size, *(value for sweep in settings.sweeps for value in _sizes(sweep))}:
        if str(side) not in results["work"]:
            results["work"][str(side)] = flops(settings.models.architecture, side, side)
    for isa in settings.isas:
        if isa not in results["gemm"]:
            settings.tell(f"rates of the machine, {isa}")
            counts = sorted({1, settings.threads})
            results["gemm"][isa] = {str(count): _rates(count, isa, settings) for count in counts}


def _sizes(sweep: Sweep) -> tuple[int, ...]:
    return sweep.values if sweep.quantity == "size" else (sweep.size,)


def _rates(threads: int, isa: str, settings: Settings) -> dict[str, float]:
    command = [sys.executable, Path(__file__).with_name("machine.py"), settings.rate_seconds]
    environment = environments.quiet() | ISAS[isa] | {"PYTHONPATH": str(SOURCES)}
    done = _run_on(threads, command, environment, settings.timeout)
    if done.returncode:
        raise SystemExit(f"machine.py failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _model_bytes(settings: Settings) -> dict[str, int]:
    """Return the bytes of the model that each row reads."""
    models = {}
    for row in settings.rows:
        if settings.missing(row.environment) is None:
            models[row.name] = size(row.model(settings.models))
    return models


def _keys(entry: dict[str, Any]) -> Iterable[str]:
    return ("row", "isa", "round", "size", "steps", "threads", "sweep")


def _write(results: dict[str, Any], out: Path) -> None:
    partial = out.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(out)


def _listed(seconds: list[float]) -> str:
    return ", ".join(f"{value:.2f} s" for value in seconds) or "no further request"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every script that measures."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", type=Path, default=WORK)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds that one process may take")
    return parser


def main() -> None:
    """Run the command line."""
    parser = arguments(__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", help="only rows whose names begin with one of these (separated by `;`), no sweeps")
    parser.add_argument("--isa", default=",".join(ISAS))
    parser.add_argument("--out", type=Path, default=environments.BUILD / "results.json")
    options = parser.parse_args()
    settings = Settings(Models.under(options.models), options.out, options.rounds, options.size, options.steps)
    settings = replace(settings, isas=tuple(options.isa.split(",")), timeout=options.timeout)
    if options.only:
        beginnings = tuple(name.strip() for name in options.only.split(";"))
        chosen = tuple(row for row in settings.rows if row.name.startswith(beginnings))
        settings = replace(settings, rows=chosen, sweeps=())
    run(settings)


if __name__ == "__main__":
    main()

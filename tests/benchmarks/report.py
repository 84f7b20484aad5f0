"""Write docs/performance.md and its plots from a results file.

PYTHONPATH=tests python -m benchmarks.report [--results build/bench/results.json] [--out docs/performance.md]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import ablation, environments, plan
from benchmarks.measured import PHASES, Measured, Stats
from benchmarks.tiny_sd import Architecture
from lambdiff import pricing

MB_PER_VCPU = 1769
"""The memory for which Lambda provides one vCPU."""


def text(results: dict[str, Any], plots: list[Path]) -> str:
    """Return the page in Markdown."""
    measured = Measured(results)
    settings = results["settings"]
    machine, size, steps = settings["machine"], settings["size"], settings["steps"]
    run_rows = {run["row"] for run in results["runs"]}
    names = [row.name for row in plan.ROWS if row.name in run_rows]
    sections = [
        f"# Performance\n\n`make bench` (`tests/benchmarks/`) measured these figures on {results['date']} and wrote "
        "this page.",
        _paragraph(
            f"**Machine**: {machine['cpu']}, {machine['threads']} threads, {machine['memory_gb']} GB; "
            f"{', '.join(machine['features'])}. Load average before the run: {results['load']:.2f}.",
            f"**Model**: the architecture of {Architecture().name} with random weights, because speed does not depend "
            "on their values. All contenders use the same weights, each in its own format.",
            f"**Request**: {size}x{size}, {steps} steps, guidance 7.5 and PNDM, unless a row says otherwise. PNDM "
            "calls the UNet once more than there are steps. The reply is a PNG in base64.",
            "**Figures**: each run is a new process whose files are in the page cache, and contenders take turns "
            "within a round. A figure is the median over the rounds, followed by the minimum and the maximum. *warm* "
            "is a request after the first one; for handlers that load the model in every request, it is any request. "
            "*cold* is the time from the start of the process to the first image. *vs* compares with the "
            f"{plan.TUTORIAL} in the same rounds.",
        ),
        "## Targets\n\n" + _table(("", "target", "measured", "", "rounds"), _targets(measured)),
        *(f"![{path.stem.replace('-', ' ')}]({path.name})" for path in plots),
        "## Requests with all instruction sets\n\n" + _requests(measured, names, "native"),
        "## Requests limited to AVX2\n\nLambda's x86 processors promise no more than AVX2. The limit is set with "
        + f"`{' '.join(f'{key}={value}' for key, value in plan.ISAS['avx2'].items())}`. oneDNN and torch respect it, "
        "but parts of OpenVINO still probe the CPU directly.\n\n" + _requests(measured, names, "avx2"),
        "## What each feature gains\n\n" + _features(measured),
        "## Phases of a warm request, seconds\n\n" + _phases(measured, names),
        "## Memory, image differences, prices\n\n" + _memory(measured, names),
        "## Sizes, MB\n\nSizes are without compiled Python modules. For lambdiff, the packages are those of the "
        "container image, after the Dockerfile has pruned them.\n\n"
        + _table(("", "packages", "model", "total"), _sizes(results)),
        "## Work, and the rate of the machine\n\n" + _work(results),
        "## Scaling\n\nA warm request to lambdiff with the tiny decoder, Euler and no guidance.\n\n"
        + _sweeps(measured),
        "## Versions\n\n" + _table(("", "versions"), _versions(measured, names)),
    ]
    if failed := [*_failed(results)]:
        sections.append("## Not measured\n\n" + _table(("", "reason"), failed))
    return "\n\n".join(section.rstrip() for section in sections) + "\n"


def targets(measured: Measured) -> Iterator[tuple[plan.Target, Stats | None, bool | None]]:
    """Yield each target with its measured value and whether it is reached; None and None if it was not measured."""
    for target in plan.TARGETS:
        reached = measured.target(target)
        if reached is None:
            yield target, None, None
        else:
            at_most = target.quantity == "peak_mb"
            yield target, reached, reached.median <= target.bound if at_most else reached.median >= target.bound


def _targets(measured: Measured) -> Iterator[tuple[str, ...]]:
    words = {True: "reached", False: "**missed**", None: "not measured"}
    for target, reached, enough in targets(measured):
        sign = "<=" if target.quantity == "peak_mb" else ">="
        unit = "" if target.quantity == "achieved" else "x"
        value = reached.text(unit) if reached else ""
        yield target.name, f"{sign} {target.bound}{unit}", value, words[enough], str(reached.count if reached else 0)
    packages = measured.results["bytes"]["packages"]
    if "image" in packages and "diffusers" in packages:
        ratio = packages["image"] / packages["diffusers"]
        name = "the image's packages, against torch (CPU), diffusers and transformers"
        yield name, f"<= {plan.PACKAGES_BOUND}x", f"{ratio:.2f}x", words[ratio <= plan.PACKAGES_BOUND], "1"


def _requests(measured: Measured, names: list[str], isa: str) -> str:
    def lines() -> Iterator[tuple[str, ...]]:
        for name in names:
            stats = {key: measured.stats(name, isa, key) for key in ("warm", "cold", "imports", "loading")}
            if stats["warm"]:
                cells = [each.text() if each else "" for each in stats.values()]
                ratios = [measured.ratio(plan.TUTORIAL, name, isa, key) for key in ("warm", "cold")]
                versus = [f"{ratio.median:.2f}" if ratio else "" for ratio in ratios]
                yield name, cells[0], versus[0], cells[1], versus[1], *cells[2:], str(stats["warm"].count)

    return _table(("", "warm s", "vs", "cold s", "vs", "imports s", "load s", "rounds"), lines())


def _phases(measured: Measured, names: list[str]) -> str:
    def lines() -> Iterator[tuple[str, ...]]:
        for isa in plan.ISAS:
            for name in names:
                stats = [measured.stats(name, isa, phase) for phase in PHASES]
                achieved = measured.stats(name, isa, "achieved")
                if any(stats):
                    cells = [f"{each.median:.2f}" if each else "" for each in stats]
                    yield name, isa, *cells, f"{achieved.median:.2f}" if achieved else ""

    return _table(("", "instructions", *PHASES, "UNet / GEMM rate"), lines()) + (
        "\n\nAn empty cell means that the contender does not report the phase. The last column divides the operations "
        "per second of the UNet's calls by those of the machine's fastest matrix product at the same precision."
    )


def _memory(measured: Measured, names: list[str]) -> str:
    threads = measured.results["settings"]["machine"]["threads"]

    def lines() -> Iterator[tuple[str, ...]]:
        for name in names:
            warm, cold, peak = (measured.stats(name, "native", key) for key in ("warm", "cold", "peak_mb"))
            if warm and cold and peak:
                ratio = measured.ratio(name, plan.TUTORIAL, "native", "peak_mb")
                memory = max(threads * MB_PER_VCPU, round(peak.median))
                dollars = [f"{1000 * pricing.invocation(memory, s.median):.2f}" for s in (warm, cold)]
                psnr = measured.results["psnr"].get(name, {}).get("native")
                versus = f"{ratio.median:.2f}" if ratio else ""
                avx2 = measured.stats(name, "avx2", "peak_mb")
                peaks = f"{peak.median:.0f}", versus, f"{avx2.median:.0f}" if avx2 else ""
                yield name, *peaks, f"{psnr:.1f}" if psnr else "", str(memory), *dollars

    head = ("", "peak MB", "vs", "AVX2", "PSNR dB", "Lambda's MB", "$ per 1,000 warm", "$ per 1,000 cold")
    return _table(head, lines()) + (
        f"\n\nPrices are as of {pricing.DATE} (x86, us-east-1) and assume that {threads} vCPUs of Lambda are as fast "
        f"as the {threads} threads of this machine. *Lambda's MB* is the memory for which Lambda provides {threads} "
        "vCPUs, or the peak if that is more. *PSNR* compares the image with torch's image in f32 from the same "
        "latents. With random weights, it shows that both compute the same, but says nothing about quality."
    )


def _features(measured: Measured) -> str:
    head = ("", "controlled by", "", "with", "without", "without / with", "PSNR dB", "rounds")
    return (
        "Each line changes one feature only. These features do not change the image, up to rounding. They were "
        "measured on one guided step with the tiny decoder. *PSNR* compares the images with and without; 100 means "
        "equal.\n\n"
        + _table(head, ablation.lines(ablation.SAME_IMAGE, measured))
        + "\n\nThese options change the image and are off by default. They compare rows of the tables above, and one "
        "step without guidance:\n\n"
        + _table(head[:6] + head[7:], (line[:6] + line[7:] for line in ablation.lines(ablation.OTHER_IMAGE, measured)))
    )


def _sizes(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    packages, models = results["bytes"]["packages"], results["bytes"]["models"]
    for row in plan.ROWS:
        kind = "image" if row.environment == "lambdiff" and "image" in packages else row.environment
        if row.name in models and kind in packages and kind != "suite":
            both = packages[kind], models[row.name]
            yield row.name, *(f"{value / 1e6:,.0f}" for value in (*both, sum(both)))


def _work(results: dict[str, Any]) -> str:
    work = results["work"]
    sizes = sorted(work, key=int)
    counted = ((part, *(f"{work[size][part] / 1e9:,.0f}" for size in sizes)) for part in work[sizes[0]])
    rates = (
        (isa, threads, *(f"{rates[p]:,.0f}" if p in rates else "" for p in ("f32", "bf16", "int8")))
        for isa, by_threads in results["gemm"].items()
        for threads, rates in by_threads.items()
    )
    return (
        "GFLOP of one call, by the image's side in pixels. *guided* means two samples; all other rows are for one.\n\n"
        + _table(("", *sizes), counted)
        + "\n\nGFLOP/s of the fastest product of square matrices with 1024, 2048 or 4096 rows, in torch or "
        "OpenVINO:\n\n" + _table(("instructions", "threads", "f32", "bf16", "int8"), rates)
    )


def _sweeps(measured: Measured) -> str:
    tables = [
        "512x512 is compiled with static shapes, all other sizes with dynamic shapes. Steps were measured at 256x256."
    ]
    for sweep in plan.SWEEPS:
        runs = measured.runs(sweep.row, sweep=sweep.quantity)
        lines = ((str(run[sweep.quantity]), f"{measured.value(run, 'warm'):.2f}") for run in runs)
        if runs:
            tables.append(_table((sweep.quantity, "s"), lines))
    return "\n\n".join(tables)


def _versions(measured: Measured, names: list[str]) -> Iterator[tuple[str, str]]:
    seen = set()
    for name in names:
        for run in [*measured.runs(name), *measured.runs(name, "avx2")]:
            versions = ", ".join(f"{key} {value}" for key, value in run["versions"].items())
            if versions not in seen:
                seen.add(versions)
                yield name, versions


def _failed(results: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield from results["missing"].items()
    for run in results["runs"]:
        if "failed" in run:
            yield f"{run['row']} ({run['isa']}, round {run['round'] + 1})", run["failed"].replace("|", "/")


def _table(head: tuple[str, ...], lines: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in rows)


def _paragraph(*points: str) -> str:
    return "\n\n".join(points)


def write(results: dict[str, Any], out: Path) -> None:
    """Write the page, and the plots next to it."""
    from benchmarks import plots

    out.parent.mkdir(parents=True, exist_ok=True)
    paths = plots.write(Measured(results), out.with_suffix(""))
    out.write_text(text(results, paths), encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=environments.BUILD / "results.json")
    parser.add_argument("--out", type=Path, default=environments.ROOT / "docs" / "performance.md")
    options = parser.parse_args()
    write(json.loads(options.results.read_text()), options.out)
    print(options.out)


if __name__ == "__main__":
    main()

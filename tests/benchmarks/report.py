"""From a results file to docs/performance.md and its plots.

PYTHONPATH=tests python -m benchmarks.report [--results build/bench/results.json] [--out docs/performance.md]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import ablation, environments, plan
from benchmarks.measured import PHASES, Measured, Spread
from benchmarks.tiny_sd import Architecture
from lambdiff import pricing

MB_PER_VCPU = 1769
"""Lambda's memory that comes with one vCPU."""


def text(results: dict[str, Any], plots: list[Path]) -> str:
    """The page, in Markdown."""
    measured = Measured(results)
    machine, asked = results["asked"]["machine"], results["asked"]
    drawn = {run["row"] for run in results["runs"]}
    names = [row.name for row in plan.ROWS if row.name in drawn]
    request = f"{asked['size']}x{asked['size']}, {asked['steps']} steps"
    sections = [
        f"# Performance\n\nMade by `make bench` (`tests/benchmarks/`) on {results['date']}; "
        "nothing here is edited by hand.",
        _paragraph(
            f"**Machine**: {machine['cpu']}, {machine['threads']} threads, {machine['memory_gb']} GB; "
            f"{', '.join(machine['features'])}. Load when the run began: {results['load']:.2f}.",
            f"**Model**: {Architecture().name}'s architecture with random weights, on which speed does not depend; the "
            "contenders read the same ones, each in its own form.",
            f"**Request**: {request} unless a row says otherwise, guidance 7.5, PNDM (which makes one call of the UNet "
            "more than there are steps) unless it says Euler or no guidance (Euler as well); the "
            "reply is a PNG as base64.",
            "**Figures**: each process is fresh and its files are in the page cache; contenders take turns within a "
            "round. Medians over the rounds, with the smallest and the largest. *warm* is a request after the first "
            "(the handlers that load at each request have no other kind), *cold* lasts from the process's start to the "
            f"first picture, *vs* is how many times faster than the {plan.TUTORIAL} of the same rounds.",
        ),
        "## Targets\n\n" + _table(("", "target", "reached", "", "rounds"), _targets(measured)),
        *(f"![{path.stem.replace('-', ' ')}]({path.name})" for path in plots),
        "## Requests, with all that the processor has\n\n" + _requests(measured, names, "native"),
        "## Requests, held to AVX2\n\nLambda's x86 processors promise no more: "
        + f"`{' '.join(f'{key}={value}' for key, value in plan.ISAS['avx2'].items())}`, which oneDNN and torch obey, "
        "though parts of OpenVINO ask the processor all the same.\n\n" + _requests(measured, names, "avx2"),
        "## What each thing is worth\n\n" + _worth(measured),
        "## Phases of a warm request, seconds\n\n" + _phases(measured, names),
        "## Memory, pictures, prices\n\n" + _memory(measured, names),
        "## Sizes, MB\n\nWithout compiled modules. The image's packages are those that the Dockerfile leaves.\n\n"
        + _table(("", "packages", "model", "together"), _sizes(results)),
        "## Work, and the machine's own rate\n\n" + _work(results),
        "## Scaling\n\nlambdiff, tiny decoder, Euler, no guidance; a warm request.\n\n" + _sweeps(measured),
        "## Versions\n\n" + _table(("", "versions"), _versions(measured, names)),
    ]
    if failed := [*_failed(results)]:
        sections.append("## Not measured\n\n" + _table(("", "reason"), failed))
    return "\n\n".join(section.rstrip() for section in sections) + "\n"


def targets(measured: Measured) -> Iterator[tuple[plan.Target, Spread | None, bool | None]]:
    """Each target with what was reached and whether that is enough; None where it was not measured."""
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
        yield target.what, f"{sign} {target.bound}{unit}", value, words[enough], str(reached.count if reached else 0)
    packages = measured.results["bytes"]["packages"]
    if "image" in packages and "diffusers" in packages:
        ratio = packages["image"] / packages["diffusers"]
        what = "the image's packages, against torch (CPU), diffusers and transformers"
        yield what, f"<= {plan.PACKAGES_BOUND}x", f"{ratio:.2f}x", words[ratio <= plan.PACKAGES_BOUND], "1"


def _requests(measured: Measured, names: list[str], isa: str) -> str:
    def lines() -> Iterator[tuple[str, ...]]:
        for name in names:
            spreads = {key: measured.spread(name, isa, key) for key in ("warm", "cold", "imports", "loading")}
            if spreads["warm"]:
                cells = [spread.text() if spread else "" for spread in spreads.values()]
                ratios = [measured.ratio(plan.TUTORIAL, name, isa, key) for key in ("warm", "cold")]
                versus = [f"{ratio.median:.2f}" if ratio else "" for ratio in ratios]
                yield name, cells[0], versus[0], cells[1], versus[1], *cells[2:], str(spreads["warm"].count)

    return _table(("", "warm s", "vs", "cold s", "vs", "imports s", "load s", "rounds"), lines())


def _phases(measured: Measured, names: list[str]) -> str:
    def lines() -> Iterator[tuple[str, ...]]:
        for isa in plan.ISAS:
            for name in names:
                spreads = [measured.spread(name, isa, phase) for phase in PHASES]
                achieved = measured.spread(name, isa, "achieved")
                if any(spreads):
                    cells = [f"{spread.median:.2f}" if spread else "" for spread in spreads]
                    yield name, isa, *cells, f"{achieved.median:.2f}" if achieved else ""

    return _table(("", "instructions", *PHASES, "UNet / GEMM rate"), lines()) + (
        "\n\nWhere a phase is empty, the contender does not tell it. The last column: operations per second of the "
        "UNet's calls over those of the machine's quickest product of matrices at the same precision."
    )


def _memory(measured: Measured, names: list[str]) -> str:
    threads = measured.results["asked"]["machine"]["threads"]

    def lines() -> Iterator[tuple[str, ...]]:
        for name in names:
            warm, cold, peak = (measured.spread(name, "native", key) for key in ("warm", "cold", "peak_mb"))
            if warm and cold and peak:
                ratio = measured.ratio(name, plan.TUTORIAL, "native", "peak_mb")
                memory = max(threads * MB_PER_VCPU, round(peak.median))
                dollars = [f"{1000 * pricing.invocation(memory, s.median):.2f}" for s in (warm, cold)]
                psnr = measured.results["psnr"].get(name, {}).get("native")
                versus = f"{ratio.median:.2f}" if ratio else ""
                avx2 = measured.spread(name, "avx2", "peak_mb")
                peaks = f"{peak.median:.0f}", versus, f"{avx2.median:.0f}" if avx2 else ""
                yield name, *peaks, f"{psnr:.1f}" if psnr else "", str(memory), *dollars

    head = ("", "peak MB", "vs", "AVX2", "PSNR dB", "Lambda's MB", "$ per 1,000 warm", "$ per 1,000 cold")
    return _table(head, lines()) + (
        f"\n\nPrices of {pricing.DATE} (x86, us-east-1), as if Lambda's {threads} vCPUs were as fast as this machine's "
        f"{threads} threads: the memory is what comes with as many vCPUs, or the peak if that is more. *PSNR* compares "
        "the picture with torch's in f32 from the same latents; with random weights it shows that the same was "
        "computed, and says nothing about quality."
    )


def _worth(measured: Measured) -> str:
    head = ("", "switched by", "", "with it", "without", "without / with", "PSNR dB", "rounds")
    return (
        "One thing at a time. Where the picture stays the same, of one guided step with the tiny decoder: *PSNR* "
        "compares the pictures with and without, and is 100 where they are equal.\n\n"
        + _table(head, ablation.lines(ablation.SAME_PICTURE, measured))
        + "\n\nWhat changes the picture, and is done only when it is asked for; rows of the tables above, and one step "
        "without guidance:\n\n"
        + _table(
            head[:6] + head[7:], (line[:6] + line[7:] for line in ablation.lines(ablation.OTHER_PICTURE, measured))
        )
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
        "GFLOP of one call, by the picture's side; one sample unless it says *guided*, which is two:\n\n"
        + _table(("", *sizes), counted)
        + "\n\nGFLOP/s of the quickest product of square matrices of 1024, 2048 or 4096 a side, of either library:\n\n"
        + _table(("instructions", "threads", "f32", "bf16", "int8"), rates)
    )


def _sweeps(measured: Measured) -> str:
    tables = ["512x512 is the size that was compiled by itself; other sizes run graphs for any. Steps are of 256x256."]
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
    """The page and the plots beside it."""
    from benchmarks import plots

    out.parent.mkdir(parents=True, exist_ok=True)
    drawn = plots.draw(Measured(results), out.with_suffix(""))
    out.write_text(text(results, drawn), encoding="utf-8")


def main() -> None:
    """Write the report that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=environments.BUILD / "results.json")
    parser.add_argument("--out", type=Path, default=environments.ROOT / "docs" / "performance.md")
    options = parser.parse_args()
    write(json.loads(options.results.read_text()), options.out)
    print(options.out)


if __name__ == "__main__":
    main()

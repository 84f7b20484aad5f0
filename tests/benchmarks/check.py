"""Check whether lambdiff has become slower, by a short interleaved run that is compared with committed ratios.

    PYTHONPATH=tests python -m benchmarks.check [--rounds 3]     takes four minutes; exits with 1 if a ratio is worse
    PYTHONPATH=tests python -m benchmarks.check --write          writes the ratios of this machine

Rows of lambdiff and diffusers in f32 generate 256x256 in 2 steps. A ratio says how many times faster lambdiff is, as
the median over the rounds: a machine that is slower as a whole slows both. Ratios hold for one kind of processor. If
`ratios.json` is of another kind, the comparison proves nothing and the exit code is 2.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks import plan
from benchmarks.measured import Measured
from benchmarks.run import Settings, arguments, run
from benchmarks.tiny_sd import Models

RATIOS: Final = Path(__file__).with_name("ratios.json")
TOLERANCE: Final = {"warm": 0.15, "cold": 0.25, "peak_mb": 0.15}
"""How much of a committed ratio may be lost; rounds on one machine differ by about a tenth."""
SIZE: Final = 256
STEPS: Final = 2
BASE: Final = plan.REFERENCE
_NAMES: Final = (BASE, plan.FULL, plan.TINY, plan.INT8, plan.FEW_1)


def _small(row: plan.Row) -> plan.Row:
    """Return the row for every round, with the generated size as its model's default."""
    defaults = {"num_inference_steps": STEPS, "guidance_scale": row.guidance, "width": SIZE, "height": SIZE}
    manifest = {"defaults": defaults | {"scheduler": row.scheduler}} if row.form == "baked" else {}
    return replace(row, often=True, isas=plan.BOTH, warm=max(1, row.warm), manifest=manifest)


ROWS: Final = tuple(_small(row) for row in plan.ROWS if row.name in _NAMES)


def ratios(results: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Return how many times better than the base each row is, by instruction set, row and quantity."""
    measured = Measured(results)
    by_isa: dict[str, dict[str, dict[str, float]]] = {}
    for isa in plan.ISAS:
        for name in dict.fromkeys(entry["row"] for entry in results["runs"]):
            stats = {quantity: measured.ratio(BASE, name, isa, quantity) for quantity in TOLERANCE}
            if name != BASE and all(stats.values()):
                values = {quantity: round(each.median, 3) for quantity, each in stats.items() if each}
                by_isa.setdefault(isa, {})[name] = values
    return by_isa


def compare(committed: dict[str, Any], current: dict[str, Any]) -> tuple[list[str], bool]:
    """Return a line for each ratio, and whether one is worse than the tolerance allows."""
    lines, worse = [], False
    for isa, rows in committed.items():
        for name, quantities in rows.items():
            for quantity, before in quantities.items():
                now = current.get(isa, {}).get(name, {}).get(quantity)
                lost = now is None or now < before * (1 - TOLERANCE[quantity])
                worse |= lost
                value = "not measured" if now is None else f"{now:.2f}x"
                lines.append(f"{'WORSE' if lost else 'ok':5}  {isa:6}  {name}, {quantity}: {value} (was {before:.2f}x)")
    return lines, worse


def main() -> int:
    """Run the command line."""
    parser = arguments(__doc__)
    parser.add_argument("--write", action="store_true", help="write the measured ratios instead of comparing them")
    options = parser.parse_args()
    committed = json.loads(RATIOS.read_text()) if RATIOS.exists() else None
    if committed is None and not options.write:
        print(f"There is no {RATIOS.name}. Write it with --write.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(Models.under(options.models), Path(folder) / "results.json", options.rounds, SIZE, STEPS)
        results = run(replace(settings, rows=ROWS, sweeps=(), timeout=options.timeout))
    machine = {key: results["settings"]["machine"][key] for key in ("features", "threads")}
    if options.write:
        RATIOS.write_text(json.dumps({"machine": machine, "ratios": ratios(results)}, indent=1) + "\n")
        print(RATIOS)
        return 0
    assert committed is not None
    lines, worse = compare(committed["ratios"], ratios(results))
    print("\n".join(lines))
    if committed["machine"] != machine:
        print(
            f"{RATIOS.name} is of another kind of machine: {committed['machine']}.",
            file=sys.stderr,
        )
        return 2
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())

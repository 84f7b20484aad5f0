"""The whole benchmark suite, on a pipeline so small that its figures mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import ablation, check, environments, measured, plan, report, run, tiny_sd
from lambdiff.bake import graph_rewrites

TESTS = Path(__file__).parents[1]
sys.path.append(str(run.CONTENDERS))
import switches  # noqa: E402 -- imported as in the contenders' processes

pytestmark = pytest.mark.engine

SMALL = tiny_sd.Architecture(
    name="small",
    unet=tiny_sd.UNET
    | {"sample_size": 8, "block_out_channels": (32, 64, 64), "norm_num_groups": 8, "cross_attention_dim": 32},
    autoencoder=tiny_sd.KL | {"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_num_groups": 8},
    text=tiny_sd.TEXT | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    tiny_autoencoder={
        "encoder_block_out_channels": (8, 8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8, 8),
        "num_encoder_blocks": (1, 1, 1, 1),
        "num_decoder_blocks": (1, 1, 1, 1),
    },
)
ROWS = {row.name: row for row in plan.ROWS + ablation.ROWS}
GENAI = "OpenVINO GenAI, full decoder"
CHOSEN = (
    replace(ROWS[plan.TUTORIAL], isas=("native",)),
    replace(ROWS[plan.FULL], precision="f32", isas=("native",)),
    replace(ROWS[plan.FEW_1], decoder="full", warm=1, isas=plan.BOTH),
    ROWS[GENAI],
    *(replace(row, warm=1) for row in (ablation.UNCHANGED, ablation.PAGES_KEPT, ablation.NOT_MERGED, ablation.CACHED)),
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> run.Settings:
    """One round of two contenders, which run in this environment, and of a third that is not installed."""
    folder = tmp_path_factory.mktemp("benchmarks")
    return run.Settings(
        tiny_sd.Models.under(folder, SMALL),
        folder / "results.json",
        rounds=1,
        size=128,
        steps=1,
        rows=CHOSEN,
        sweeps=(plan.Sweep("size", (128, 192)),),
        timeout=600,
        rate_seconds=0,
        threads=1,
        python=lambda _: Path(sys.executable),
        missing=lambda name: "not built: no compiler" if name == "genai" else None,
        packages=lambda: {"image": 150_000_000, "diffusers": 1_000_000_000, "lambdiff": 300_000_000},
    )


@pytest.fixture(scope="module")
def results(settings: run.Settings) -> dict:
    """The results of this round."""
    return run.run(settings)


def test_contenders_run_and_agree(results: dict) -> None:
    """Each process reports its times, and lambdiff generates the same image as the tutorials' handler."""
    assert [entry for entry in results["runs"] if "failed" in entry] == []
    assert [(entry["row"], entry["isa"], entry["sweep"], entry["size"]) for entry in results["runs"]] == [
        (plan.TUTORIAL, "native", "", 128),
        (plan.FULL, "native", "", 128),
        (plan.FEW_1, "native", "", 128),
        (ablation.ONE, "native", "", 128),
        (ablation.PAGES_KEPT.name, "native", "", 128),
        (ablation.NOT_MERGED.name, "native", "", 128),
        (ablation.CACHED.name, "native", "", 128),
        (plan.FEW_1, "avx2", "", 128),
        (plan.FEW_1, "native", "size", 128),
        (plan.FEW_1, "native", "size", 192),
    ]
    for entry in results["runs"]:
        assert 0 < entry["first"] < entry["cold"] < entry["process"]
        assert entry["peak_mb"] > 50
        assert {"denoise", "decode"} <= set(entry["first_phases"])
    assert results["psnr"][plan.FULL]["native"] >= 40
    assert results["psnr"][ablation.NOT_MERGED.name]["native"] >= 40
    assert results["missing"] == {GENAI: "not built: no compiler"}


def test_a_finished_run_is_not_repeated(settings: run.Settings, results: dict) -> None:
    """The same command continues where the last one stopped, and refuses the results of another request."""
    messages: list[str] = []
    assert run.run(replace(settings, tell=messages.append))["runs"] == results["runs"]
    assert messages == []
    with pytest.raises(SystemExit, match="pass another --out"):
        run.run(replace(settings, size=64))


def test_a_failing_contender_is_reported(settings: run.Settings, tmp_path: Path) -> None:
    """The reason is the last line of its output."""
    lost = replace(settings, models=replace(settings.models, folder=tmp_path))
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "taesd").mkdir()
    row = replace(ROWS[plan.FULL], form="pipeline")
    outcome = run.start(run.Process(row, "native", 0, 128, 1, 1), lost, tmp_path)
    assert "manifest.json" in outcome["failed"]


def test_ratios_and_targets(results: dict) -> None:
    """Ratios compare the same rounds, and a target that was not measured is neither reached nor missed."""
    figures = measured.Measured(results)
    first = {entry["row"]: entry for entry in results["runs"] if entry["isa"] == "native" and not entry["sweep"]}
    ratio = figures.ratio(plan.TUTORIAL, plan.FULL, "native", "warm")
    assert ratio is not None
    assert ratio.median == pytest.approx(first[plan.TUTORIAL]["first"] / first[plan.FULL]["warm"][0])
    states = {target.name: state for target, _, state in report.targets(figures)}
    assert states["warm request, full decoder"] is (ratio.median >= 2.2)
    assert states["against optimum-intel, tiny decoder"] is None
    lines = list(ablation.lines(ablation.SAME_IMAGE, figures))
    assert [line[0] for line in lines] == [
        "merged upsampling",
        "weight pages released",
        "cache of compiled models",
    ]
    merged = first[ablation.NOT_MERGED.name]["warm"][0] / first[ablation.ONE]["warm"][0]
    assert lines[0][5] == f"{merged:.2f}"
    achieved = figures.stats(plan.FULL, "native", "achieved")
    assert achieved is not None
    assert 0 < achieved.median < 1


def test_the_report(results: dict, settings: run.Settings, tmp_path: Path) -> None:
    """The page and the plots, written with the suite's version of matplotlib, are the same every time."""
    requirements = (TESTS / "benchmarks" / "requirements-suite.txt").read_text().splitlines()
    (matplotlib,) = [line for line in requirements if line.startswith("matplotlib")]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", tmp_path / "packages", matplotlib]
    subprocess.run(pip, check=True)
    for name in ("one", "two"):
        out = tmp_path / name / "performance.md"
        command = [sys.executable, "-m", "benchmarks.report", "--results", settings.out, "--out", out]
        environment = {"PYTHONPATH": f"{TESTS}:{tmp_path / 'packages'}", "MPLCONFIGDIR": str(tmp_path)}
        subprocess.run(command, check=True, env=environment, capture_output=True)
    pages = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert pages[0] == pages[1]
    kinds = ("warm", "cold", "avx2", "scaling")
    assert set(pages[0]) == {"performance.md", *(f"performance-{kind}.svg" for kind in kinds)}
    page = pages[0]["performance.md"].decode()
    assert f"| {GENAI} | not built: no compiler |" in page
    assert "| against optimum-intel, tiny decoder | >= 1.0x | | not measured | 0 |" in page
    assert "diffusers and transformers | <= 0.2x | 0.15x | reached | 1 |" in page
    assert all(f"]({name})" in page for name in pages[0] if name.endswith(".svg"))


def test_a_lost_ratio_fails_the_check() -> None:
    """A ratio may lose no more than its tolerance allows, and may not disappear."""
    committed = {"native": {"lambdiff": {"warm": 4.0, "cold": 4.0}}}
    assert not check.compare(committed, {"native": {"lambdiff": {"warm": 3.5, "cold": 3.1}}})[1]
    lines, worse = check.compare(committed, {"native": {"lambdiff": {"warm": 3.3, "cold": 4.5}}})
    assert worse
    assert [line.split()[0] for line in lines] == ["WORSE", "ok"]
    assert check.compare(committed, {"native": {}})[1]


def test_every_row_has_its_script_and_environment() -> None:
    """Names are unique, and everything that rows, sweeps, targets and features refer to exists."""
    assert len(ROWS) == len(plan.ROWS + ablation.ROWS)
    for row in ROWS.values():
        assert (run.CONTENDERS / f"{row.contender}.py").is_file(), row
        assert not row.switch or hasattr(switches, row.switch), row
        assert all(hasattr(graph_rewrites, name) for name in row.left_out), row
        assert row.environment in run.environments.NAMES, row
        assert row.reference is None or row.reference in ROWS, row
    for target in plan.TARGETS:
        assert {target.row, target.base} <= {*ROWS, ""}, target
        assert all(target.isa in ROWS[name].isas for name in (target.row, target.base) if name), target
    for feature in ablation.SAME_IMAGE + ablation.OTHER_IMAGE:
        assert {feature.row, feature.without} <= set(ROWS), feature
    assert {sweep.row for sweep in plan.SWEEPS} <= set(ROWS)
    assert json.dumps([row.bake for row in ROWS.values()])


def test_the_image_is_measured_as_it_is_built() -> None:
    """What the Dockerfile removes from the packages is found in it."""
    commands = environments.dockerfile_commands()
    assert commands.startswith("cd /packages/openvino")
    assert commands.endswith("-delete")
    assert "\\" not in commands

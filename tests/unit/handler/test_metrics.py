"""Log lines that CloudWatch turns into metrics (handler/metrics.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lambdiff.handler import metrics
from lambdiff.handler.app import App
from lambdiff.protocol.http import HttpRequest
from support.stub_engine import StubEngine

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer"},
                "CloudWatchMetrics": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "properties": {
                            "Namespace": {"type": "string", "minLength": 1, "maxLength": 1024},
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {"type": "array", "maxItems": 30, "items": {"type": "string"}},
                            },
                            "Metrics": {
                                "type": "array",
                                "maxItems": 100,
                                "items": {
                                    "type": "object",
                                    "required": ["Name"],
                                    "properties": {
                                        "Name": {"type": "string", "minLength": 1},
                                        "Unit": {"enum": ["Seconds", "Count"]},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}
"""The parts of AWS's schema of the embedded metric format that apply here."""


@pytest.fixture
def answer() -> Any:
    """Return a function that answers a request and returns its log line."""
    lines: list[dict[str, Any]] = []
    app = App(StubEngine, write_log=metrics.with_metrics(lines.append, "cats", clock=lambda: 1_790_000_000.5))

    def call(method: str = "POST", body: bytes = b'{"prompt": "a secret cat", "seed": 1}') -> dict[str, Any]:
        app.handle(HttpRequest(method=method, body=body))
        return json.loads(json.dumps(lines[-1]))

    return call


def values(line: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a line as CloudWatch extracts them: a metric is a member of the line itself."""
    jsonschema.validate(line, SCHEMA)
    directive = line["_aws"]["CloudWatchMetrics"][0]
    assert all(line[name] for name in directive["Dimensions"][0])
    return {metric["Name"]: line[metric["Name"]] for metric in directive["Metrics"]}


def test_an_image_counts_with_its_seconds_by_phase(answer: Any) -> None:
    """The line of an image has the total, every phase of its timings, and a count of one image."""
    line = answer()
    found = values(line)
    assert (found["images"], found["refused"], found["failed"]) == (1, 0, 0)
    assert found["seconds"] == line["seconds"]
    assert {name for name in found if name in metrics.PHASES} == line["timings"].keys()
    assert line["_aws"]["Timestamp"] == 1_790_000_000_500
    assert "secret" not in json.dumps(line)


def test_refusals_and_health_checks_are_not_images(answer: Any) -> None:
    """A refused request counts as refused, and a health check as nothing."""
    refused, health = values(answer(body=b'{"prompt": ""}')), values(answer("GET", b""))
    assert (refused["images"], refused["refused"], refused["failed"]) == (0, 1, 0)
    assert (health["images"], health["refused"], health["failed"]) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("enabled", [True, False])
def test_the_function_writes_metrics_only_if_told_to(enabled: bool, tmp_path: Path) -> None:
    """Without the environment variable, log lines contain no metrics, which cost money."""
    code = "import json; from lambdiff.handler import function; function.handler({}, None)"
    environment = {"PATH": "", "PYTHONPATH": str(Path(metrics.__file__).parents[2]), "AWS_LAMBDA_FUNCTION_NAME": "cats"}
    environment["LAMBDIFF_MODEL_DIR"] = str(tmp_path)
    if enabled:
        environment["LAMBDIFF_METRICS"] = "true"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["status"] == 400
    assert ("_aws" in line) is enabled

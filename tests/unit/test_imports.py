"""What the client path loads, and how long it takes."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

HEAVY = {"torch", "openvino", "aws_cdk", "boto3", "botocore", "requests", "PIL", "numpy", "diffusers", "transformers"}


def loaded_by(code: str) -> set[str]:
    """Top-level modules that `code` loads in a fresh interpreter."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def seconds(*command: str) -> float:
    """Processor time of a process, user and system: unlike the wall clock it does not count waiting for neighbours."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def extra_seconds(*command: str) -> float:
    """Time over a bare interpreter: the quickest of several runs of each, taken in turn."""
    pairs = [(seconds(*command), seconds("-c", "pass")) for _ in range(9)]
    return min(pair[0] for pair in pairs) - min(pair[1] for pair in pairs)


@pytest.mark.parametrize(
    "code",
    [
        "import lambdiff",
        "import lambdiff; lambdiff.__version__; dir(lambdiff); lambdiff.errors",
        "import lambdiff.protocol.contract, lambdiff.config, lambdiff.client.endpoint",
        "import lambdiff.cli",
    ],
)
def test_the_client_path_loads_nothing_heavy(code: str) -> None:
    """Neither frameworks nor AWS's libraries nor Pillow are loaded before they are used."""
    assert loaded_by(code) & HEAVY == set()


def test_a_client_of_this_machine_loads_no_aws_library() -> None:
    """Generating locally needs neither boto3 nor requests nor torch."""
    assert loaded_by("import lambdiff; lambdiff.Client, lambdiff.generate") & (HEAVY - {"PIL"}) == set()


def test_the_images_modules_do_not_import_the_client() -> None:
    """What is copied into the image runs without the client's libraries."""
    code = "import lambdiff.handler.app, lambdiff.protocol.metadata"
    assert loaded_by(code) & {"boto3", "botocore", "requests", "click", "aws_cdk", "rich", "tenacity", "torch"} == set()


def test_import_lambdiff_is_cheap() -> None:
    """`import lambdiff` costs less than 30 ms over a bare interpreter."""
    assert extra_seconds("-c", "import lambdiff") < 0.030


def test_version_is_quick() -> None:
    """`lambdiff --version` costs less than 150 ms over a bare interpreter."""
    assert extra_seconds("-m", "lambdiff", "--version") < 0.150

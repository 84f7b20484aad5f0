"""Imports stay cheap: which modules `import lambdiff`, the client, the CLI and the handler load."""

from __future__ import annotations

import subprocess
import sys

import pytest

FOR_THE_CLIENT = {"msgspec", "typing_extensions"}
FOR_THE_COMMAND_LINE = {"click", "msgspec", "typing_extensions"}
FOR_THE_IMAGE = {"PIL", "msgspec", "numpy", "typing_extensions"}


def loaded_by(code: str) -> set[str]:
    """Return the names of the modules that `code` loads in addition to those of a bare interpreter.

    Modules are counted rather than timed, because a count does not depend on how busy the machine is.
    """
    script = f"import sys\nbare = set(sys.modules)\n{code}\nprint(*sys.modules.keys() - bare)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines()[-1].split())


def packages_loaded_by(code: str) -> set[str]:
    """Return the third-party packages that `code` loads."""
    packages = {name.partition(".")[0] for name in loaded_by(code)}
    return packages - {"lambdiff", "sitecustomize"} - sys.stdlib_module_names


def test_import_lambdiff_loads_nothing_else() -> None:
    """`import lambdiff` loads two modules of its own and nothing else, not even `typing`."""
    assert loaded_by("import lambdiff") == {"__future__", "lambdiff", "lambdiff._version"}
    assert loaded_by("import lambdiff; lambdiff.__version__, dir(lambdiff), lambdiff.__all__") == {
        "__future__", "lambdiff", "lambdiff._version",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import lambdiff; lambdiff.errors", FOR_THE_CLIENT),
        ("import lambdiff.protocol.contract, lambdiff.config, lambdiff.client.endpoint", FOR_THE_CLIENT),
        ("import lambdiff; lambdiff.Client, lambdiff.generate", FOR_THE_CLIENT),
        ("import lambdiff; [getattr(lambdiff, name) for name in lambdiff.__all__]", FOR_THE_CLIENT),
        ("import lambdiff.cli", FOR_THE_COMMAND_LINE),
    ],
)
def test_the_client_path_loads_nothing_heavy(code: str, allowed: set[str]) -> None:
    """AWS's libraries, requests, Pillow, numpy and the engines are loaded only when they are first used."""
    assert packages_loaded_by(code) <= allowed


def test_version_loads_nothing_heavy() -> None:
    """`lambdiff --version` loads the command line and nothing else."""
    code = (
        "sys.argv = ['lambdiff', '--version']\nimport lambdiff.cli\ntry: lambdiff.cli.main()\nexcept SystemExit: pass"
    )
    assert packages_loaded_by(code) <= FOR_THE_COMMAND_LINE
    assert len(loaded_by(code)) < 200


def test_the_handler_loads_only_packages_of_the_image() -> None:
    """The handler imports only packages that the container image contains."""
    code = "import lambdiff.handler.app, lambdiff.protocol.metadata"
    assert packages_loaded_by(code) <= FOR_THE_IMAGE


def test_modules_of_the_handler_load_no_client_and_no_engine() -> None:
    """The handler's modules load neither the client, nor its libraries, nor an engine when they are imported."""
    modules = [
        "lambdiff.protocol.contract",
        "lambdiff.protocol.metadata",
        "lambdiff.handler.app",
        "lambdiff.handler.event",
        "lambdiff.handler.request_log",
        "lambdiff.engine.manifest",
        "lambdiff.engine.base",
    ]
    banned = [
        "boto3",
        "botocore",
        "requests",
        "click",
        "rich",
        "aws_cdk",
        "lambdiff.client",
        "numpy",
        "openvino",
        "torch",
        "PIL",
    ]
    code = f"import sys\nfor m in {modules}: __import__(m)\nprint([m for m in {banned} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"

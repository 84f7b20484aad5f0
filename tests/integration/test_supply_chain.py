"""The software supply chain: locked requirements, licenses, bill of materials."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

# Permissive licenses, and weak copyleft for files that are used unchanged (MPL: certifi, tqdm).
ALLOWED = re.compile(
    r"MIT|BSD|Apache|Python Software Foundation|PSF|HPND|MPL|Mozilla|ISC|0BSD|Zlib|CC0|Unlicense|ZPL|Zope"
)


def tool(name: str, *args: str | Path) -> str:
    """Run a development tool and return its output."""
    done = subprocess.run([Path(sys.executable).with_name(name), *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_license_is_permissive(python: Path) -> None:
    """Every package that the wheel and its `local` extra install has a permissive license."""
    packages = json.loads(tool("pip-licenses", f"--python={python}", "--format=json", "--from=mixed"))
    assert {"openvino", "numpy", "boto3"} <= {package["Name"].lower() for package in packages}
    unusual = {package["Name"]: package["License"] for package in packages if not ALLOWED.search(package["License"])}
    assert unusual == {}


def test_the_bill_of_materials_is_valid_and_complete(python: Path, tmp_path: Path) -> None:
    """CycloneDX's own tool writes and validates an SBOM that lists lambdiff and its dependencies."""
    out = tmp_path / "sbom.json"
    tool("cyclonedx-py", "environment", python, "--of", "JSON", "--output-file", out)
    components = {
        component["name"].lower(): component["version"] for component in json.loads(out.read_text())["components"]
    }
    assert {"lambdiff", "boto3", "openvino", "msgspec", "pillow"} <= set(components)
    assert all(components.values())

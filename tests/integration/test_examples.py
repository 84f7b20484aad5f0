"""The examples do what their README says, with the built-in model and a Function URL on loopback."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from fastapi.testclient import TestClient
from nbclient import NotebookClient
from PIL import Image

from lambdiff.auth.credentials import Keys
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from lambdiff.protocol import metadata
from support.stub_engine import StubEngine

EXAMPLES = Path(__file__).parents[2] / "examples"
REGION = "eu-west-1"
KEYS = Keys("AKIDEXAMPLE", "very-secret-key")


def run(name: str, *arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an example as a user does, in a separate folder."""
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture
def engine() -> StubEngine:
    """The engine behind the Function URL."""
    return StubEngine()


@pytest.fixture
def function(engine: StubEngine) -> Iterator[FunctionUrlServer]:
    """A Function URL on loopback that verifies signatures."""
    with FunctionUrlServer(App(lambda: engine), KEYS, REGION) as running:
        yield running


@pytest.fixture
def fastapi_app() -> ModuleType:
    """The FastAPI example, imported from its file."""
    spec = importlib.util.spec_from_file_location("fastapi_app", EXAMPLES / "fastapi_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_lists_every_example() -> None:
    """The README's table names each file of the folder and no other."""
    listed = set(re.findall(r"^\| \[([^\]]+)\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE))
    files = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*") if path.is_file()}
    assert listed == {name for name in files if "__pycache__" not in name} - {"README.md"}


@pytest.mark.engine
def test_generate_saves_four_images_and_explains_a_bad_width(tmp_path: Path) -> None:
    """The script saves one PNG and three WebP images that contain their parameters, and names the invalid field."""
    done = run("generate.py", "images", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["0.webp", "1.webp", "2.webp", "cat.png"]
    assert metadata.read(tmp_path / "images" / "2.webp").request.seed == 3
    assert done.stdout.splitlines()[-1].startswith("width: ")


@pytest.mark.engine
def test_the_notebook_runs_and_shows_its_images(tmp_path: Path) -> None:
    """Every cell runs, three of them show an image, and the committed file has no outputs."""
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    images = [output for output in outputs if output.output_type == "execute_result" and "image/png" in output.data]
    assert len(images) == 3
    assert "width" in outputs[-1].text


@pytest.mark.engine
def test_the_web_api_serves_an_image_of_the_built_in_model(fastapi_app: ModuleType, tmp_path: Path) -> None:
    """A POST returns a WebP image with the requested seed."""
    with TestClient(fastapi_app.app) as http:
        reply = http.post("/images", json={"prompt": "a cat", "seed": 5, "width": 128, "height": 128})
    assert (reply.status_code, reply.headers["content-type"], reply.headers["x-seed"]) == (200, "image/webp", "5")
    path = tmp_path / "cat.webp"
    path.write_bytes(reply.content)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("WEBP", (128, 128))


def test_the_web_api_signs_for_its_callers_and_maps_errors(
    fastapi_app: ModuleType, function: FunctionUrlServer, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API signs requests to a Function URL, returns 422 with the invalid fields, and 502 if the endpoint fails."""
    monkeypatch.setenv("LAMBDIFF_URL", function.url)
    monkeypatch.setenv("LAMBDIFF_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_access_key)
    with TestClient(fastapi_app.app) as http:
        assert http.post("/images", json={"prompt": "a cat"}).status_code == 200
        assert engine.calls == 1
        refused = http.post("/images", json={"prompt": "a cat", "width": 100})
        assert (refused.status_code, list(refused.json()["errors"])) == (422, ["width"])
        assert http.post("/images", json={"prompt": "a cat", "steps": 4}).status_code == 422
        engine.error = RuntimeError("broken")
        assert http.post("/images", json={"prompt": "a cat"}).status_code == 502


@pytest.mark.parametrize(
    ("secret", "printed"), [(KEYS.secret_access_key, "200 image/png"), ("another-secret-key", "403 ")]
)
def test_the_plain_client_needs_no_lambdiff(
    function: FunctionUrlServer, tmp_path: Path, secret: str, printed: str
) -> None:
    """With botocore and requests alone the script gets an image, or a 403 with the wrong secret."""
    keys = {"AWS_ACCESS_KEY_ID": KEYS.access_key_id, "AWS_SECRET_ACCESS_KEY": secret}
    done = run("sigv4_client.py", function.url, REGION, "cat.png", folder=tmp_path, **keys)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(printed)
    assert (tmp_path / "cat.png").exists() == (secret == KEYS.secret_access_key)
    assert "import lambdiff" not in (EXAMPLES / "sigv4_client.py").read_text()

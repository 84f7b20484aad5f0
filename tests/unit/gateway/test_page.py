"""What the page does, without a browser; `tests/integration/test_page.py` uses one."""

from __future__ import annotations

import ast
import shlex

import click
import pytest
from PIL import Image
from starlette.testclient import TestClient

from lambdiff.cli import cli
from lambdiff.client.client import Client
from lambdiff.errors import EndpointFailed
from lambdiff.gateway.app import make_app
from lambdiff.gateway.generator import Budget
from lambdiff.gateway.page import Page
from lambdiff.gateway.page_texts import as_command, as_python
from lambdiff.gateway.settings import PageFolders, Settings
from lambdiff.protocol.contract import GenerateRequest
from support.stub_engine import StubEngine
from support.stub_transport import StubTransport

CONTROLS = ["a cat", "", 2, 1.0, 64, 64, "euler", "normal", "plain", "7"]
REST = [1, "png", None, 0.75, None, []]


def page(uploads, engine=None, **options):
    """Return a page in front of an engine."""
    client = Client(transport=StubTransport(engine or StubEngine()))
    return Page(client, client.health(), Budget(None), uploads, **options)


def run(shown, *given):
    """Press Generate, and return what the page shows at the end."""
    return list(shown.generate(*given))[-1]


def test_images_carry_their_parameters(tmp_path):
    """Each image is a file with its parameters inside, and the status says how long it took."""
    files, status, command, python, history, kept = run(page(tmp_path), *CONTROLS, 2, *REST[1:])
    assert len(files) == 2
    assert status.startswith("2 of 2 images, ")
    assert history == kept == files
    assert "--seed 7" in command
    assert "seed=7" in python
    found, notes = page(tmp_path).read(files[1]), None
    assert (found[0], found[9], found[-1], notes) == ("a cat", "8", "The parameters were read.", None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({0: ""}, "prompt"),
        ({9: "many"}, "seed"),
        ({9: "-1"}, "seed"),
        ({4: 60}, "width"),
    ],
)
def test_mistakes_are_shown_below_the_button(tmp_path, changes, message):
    """A bad value is an error in the status, and nothing is generated."""
    engine = StubEngine()
    given = [changes.get(index, value) for index, value in enumerate(CONTROLS)]
    files, status, *_ = run(page(tmp_path, engine), *given, *REST)
    assert files == []
    assert status.startswith("**Error:**")
    assert message in status
    assert engine.calls == 0


def test_failures_and_warnings_are_shown_without_markup(tmp_path):
    """Foreign text cannot become a link or a tag."""
    failing = page(tmp_path, StubEngine(error=EndpointFailed("<b>It</b> [failed](http://x)")))
    _, status, *_ = run(failing, *CONTROLS, *REST)
    assert "&lt;b>It" in status
    assert "[failed](" not in status
    warned = page(tmp_path, StubEngine(warnings=("*Mind* the gap.",)))
    assert "Note: \\*Mind\\* the gap." in run(warned, *CONTROLS, *REST)[1]


def test_closing_the_generator_stops_the_engine(tmp_path):
    """The stop button closes what `generate` yields; the steps end."""
    engine = StubEngine(step_seconds=0.02)
    given = [*CONTROLS[:2], 100, *CONTROLS[3:]]
    running = page(tmp_path, engine).generate(*given, *REST)
    next(running)
    running.close()
    assert engine.steps < 100


def test_a_picture_without_parameters_is_named(tmp_path):
    """What was dropped says why it changes nothing."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert "no generation parameters" in page(tmp_path).read(str(tmp_path / "a.png"))[-1].replace("\\", "")


@pytest.mark.parametrize("prompt", ["a cat", "a cat's hat", 'say "hi"', "$HOME `id` \\ !", "line\nbreak", "-x", "ünï"])
def test_what_is_copied_gives_the_same_request(prompt):
    """The command parses to the same parameters, and Python evaluates to the same prompt."""
    request = GenerateRequest(prompt=prompt, negative_prompt="rain 'n snow", seed=7, num_inference_steps=4, width=64)
    words = shlex.split(as_command(request))
    assert words[:2] == ["lambdiff", "generate"]
    command = cli.get_command(click.Context(cli), "generate")
    given = command.make_context("generate", words[2:], resilient_parsing=True).params
    for name in ("prompt", "negative_prompt", "seed", "num_inference_steps", "width"):
        assert given[name] == getattr(request, name)
    call = ast.parse(as_python(request)).body[1].value
    assert ast.literal_eval(call.args[0]) == prompt


def test_the_folder_is_shown_newest_first(tmp_path):
    """Images of a folder are listed by time; other files are not."""
    (tmp_path / "notes.txt").write_text("")
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    shown = page(tmp_path, folder=tmp_path)._of_folder()
    assert sorted(path[-5:] for path in shown) == ["0.png", "1.png", "2.png"]


@pytest.mark.slow
def test_the_page_is_behind_the_guard_and_loads_nothing_from_elsewhere(tmp_path):
    """Gradio's routes are refused under other names, serve no other file, and may load nothing from other servers."""
    (tmp_path / "uploads").mkdir()
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    client = Client(transport=StubTransport(StubEngine()))
    app = make_app(client, Settings(), PageFolders(tmp_path / "uploads"))
    with TestClient(app, base_url="http://127.0.0.1:9100") as browser:
        home = browser.get("/")
        assert home.status_code == 200
        assert "default-src 'self'" in home.headers["content-security-policy"]
        assert browser.get("/config", headers={"host": "evil.example"}).status_code == 421
        assert browser.post("/gradio_api/upload", headers={"origin": "https://evil.example"}).status_code == 403
        for path in (secret, "/etc/passwd", tmp_path / "uploads" / ".." / "secret.txt"):
            assert browser.get(f"/gradio_api/file={path}").status_code in (403, 404)
        assert browser.get("/v1/models").status_code == 200

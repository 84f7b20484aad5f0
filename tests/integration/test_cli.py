"""The command line with a Function URL on loopback that verifies signatures."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lambdiff import config
from lambdiff.cli import COMMANDS
from lambdiff.protocol import metadata
from support.cli_runner import SECRET, Run
from support.stub_engine import WITH_PICTURES, StubEngine


def test_a_prompt_becomes_a_file(url: str, run: Run) -> None:
    """The image contains its parameters, its name is printed on stdout, and no progress is printed into a pipe."""
    result = run("generate", "a cat in a top hat", "-o", "cat.png", "--seed", "7", "--size", "128x64", "--steps", "3")
    assert (result.code, result.out, result.err) == (0, b"cat.png\n", "")
    assert Image.open("cat.png").size == (128, 64)
    request = metadata.read(Path("cat.png")).request
    assert (request.prompt, request.seed, request.num_inference_steps) == ("a cat in a top hat", 7, 3)


def test_every_parameter_reaches_the_image(url: str, run: Run) -> None:
    """Long and short spellings of each option have the same effect, and every parameter reaches the image."""
    run("generate", "x", "-o", "a.webp", "--num-inference-steps", "4", "--guidance-scale", "3.5", "--negative-prompt",
        "dog", "--width", "72", "--height", "80", "--scheduler", "ddim", "--seed", "1")  # fmt: skip
    run("generate", "x", "-o", "b.webp", "--steps", "4", "--guidance", "3.5", "--negative", "dog", "--size", "72x80",
        "--scheduler", "ddim", "--seed", "1", "--format", "webp")  # fmt: skip
    assert Path("a.webp").read_bytes() == Path("b.webp").read_bytes()
    request = metadata.read(Path("a.webp")).request
    assert (request.guidance_scale, request.negative_prompt, request.scheduler) == (3.5, "dog", "ddim")


def test_an_image_can_be_written_to_stdout(url: str, run: Run) -> None:
    """`-o -` writes the image's bytes to stdout, and nothing else."""
    result = run("generate", "a cat", "-o", "-", "--format", "jpeg")
    assert result.code == 0
    assert Image.open(io.BytesIO(result.out)).format == "JPEG"


def test_a_prompt_can_be_read_from_stdin(url: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `-` as the prompt, the prompt is read from stdin."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("a cät\n".encode())))
    run("generate", "-", "-o", "a.png")
    assert metadata.read(Path("a.png")).request.prompt == "a cät"


def test_several_images_have_consecutive_seeds(url: str, run: Run) -> None:
    """`-n` writes numbered files with consecutive seeds."""
    result = run("generate", "a cat", "-n", "3", "--seed", "10", "-o", "cat.png", "--json")
    assert [image["file"] for image in result.json["images"]] == ["cat-1.png", "cat-2.png", "cat-3.png"]
    assert [metadata.read(Path(f"cat-{i}.png")).request.seed for i in (1, 2, 3)] == [10, 11, 12]


def test_zero_follows_the_largest_seed(url: str, run: Run) -> None:
    """`-n` counts seeds as `generate_many(n=...)` does."""
    result = run("generate", "a cat", "-n", "2", "--seed", "4294967295", "-o", "cat-{seed}.png")
    assert result.out == b"cat-4294967295.png\ncat-0.png\n"
    assert metadata.read(Path("cat-0.png")).request.seed == 0


def test_files_are_named_by_seed_or_prompt(url: str, run: Run) -> None:
    """`{seed}` is replaced; without `-o` the prompt names the file, and a second run gets another name."""
    assert (
        run("generate", "a cat", "-n", "2", "--seed", "5", "-o", "cat-{seed}.webp").out == b"cat-5.webp\ncat-6.webp\n"
    )
    assert run("generate", "a cat").out == b"a-cat.png\n"
    assert run("generate", "a cat").out == b"a-cat-2.png\n"


def test_json_reports_parameters_and_sources(url: str, run: Run) -> None:
    """`--json` reports file, seed, parameters and timings, and endpoint and region with their sources."""
    report = run("generate", "a cat", "-o", "a.png", "--json").json
    (image,) = report["images"]
    assert image["parameters"]["prompt"] == "a cat"
    assert image["seed"] == image["parameters"]["seed"]
    assert image["timings"]["total"] > 0
    assert report["endpoint"] == f"{url} (LAMBDIFF_URL)"
    assert report["region"] == "us-east-1 (LAMBDIFF_REGION)"
    assert report["failures"] == []


def test_info_and_like_reproduce_an_image(url: str, run: Run) -> None:
    """`--like` reproduces an image byte for byte, and options override the stored parameters."""
    run("generate", 'a "cat", in: a\ttop hat', "-o", "cat.png", "--negative", "dog")
    assert b'a "cat", in: a\ttop hat' in run("info", "cat.png").out
    assert run("info", "cat.png", "--json").json["request"]["negative_prompt"] == "dog"
    assert run("generate", "--like", "cat.png", "-o", "again.png").code == 0
    assert Path("again.png").read_bytes() == Path("cat.png").read_bytes()
    run("generate", "--like", "cat.png", "-o", "other.png", "--seed", "1")
    assert metadata.read(Path("other.png")).request.seed == 1


@pytest.fixture
def takes_pictures(engine: StubEngine) -> None:
    """Let the endpoint's model take start images and masks."""
    engine.manifest = WITH_PICTURES


def test_an_image_is_generated_from_another(takes_pictures: None, url: str, run: Run) -> None:
    """`--image`, `--strength` and `--mask` reach the image; its size follows from the start image."""
    Image.new("RGB", (192, 96), "red").save("cat.png")
    Image.new("L", (192, 96), 255).save("mask.webp")
    arguments = ("generate", "a", "--image", "cat.png", "--strength", "0.6", "--mask", "mask.webp", "--seed", "1")
    assert run(*arguments, "-o", "out.png").code == 0
    recorded = metadata.read(Path("out.png"))
    assert recorded.request.strength == 0.6
    assert len(recorded.image_sha256) == len(recorded.mask_sha256) == 64
    assert Image.open("out.png").size == (128, 64)
    assert f"image_sha256         {recorded.image_sha256}" in run("info", "out.png").out.decode()
    assert run("generate", "a", "--image", "cat.png", "-n", "2", "-o", "many.png").code == 0


def test_a_start_image_can_be_read_from_stdin(
    takes_pictures: None, url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--image -` reads the picture from stdin, unless the prompt comes from there."""
    content = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(content, "JPEG")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.getvalue())))
    assert run("generate", "a", "--image", "-", "-o", "out.png").code == 0
    assert metadata.read(Path("out.png")).image_sha256
    result = run("generate", "-", "--image", "-", "-o", "other.png")
    assert (result.code, "stdin is either" in result.err) == (2, True)


def test_like_asks_for_the_start_image(takes_pictures: None, url: str, run: Run) -> None:
    """`--like` needs the pictures that an image was made from, repeats it with them, and notes other ones."""
    Image.effect_noise((192, 96), 64).convert("RGB").save("cat.png")
    Image.new("L", (192, 96), 255).save("mask.png")
    pictures = ("--image", "cat.png", "--mask", "mask.png")
    run("generate", "a", *pictures, "--strength", "0.6", "-o", "out.png")
    result = run("generate", "--like", "out.png", "-o", "again.png")
    assert (result.code, "add --image FILE" in result.err) == (2, True)
    result = run("generate", "--like", "out.png", "--image", "cat.png", "-o", "again.png")
    assert (result.code, "add --mask FILE" in result.err) == (2, True)
    result = run("generate", "--like", "out.png", *pictures, "-o", "again.png")
    assert (result.code, result.err) == (0, "")
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()
    result = run("generate", "--like", "out.png", "--image", "mask.png", "--mask", "mask.png", "-o", "other.png")
    assert (result.code, "another start image" in result.err) == (0, True)
    assert metadata.read(Path("other.png")).request.strength == 0.6


def test_pictures_that_cannot_be_used_are_named(url: str, run: Run) -> None:
    """A missing or damaged picture is named by its flag; so is a model that takes none."""
    Path("text.png").write_text("no picture")
    Image.new("RGB", (64, 64)).save("cat.png")
    for arguments, code, message in [
        (("--image", "nowhere.png"), 2, "--image is not usable: nowhere.png cannot be read"),
        (("--image", "text.png"), 2, "--image is not a PNG, JPEG or WebP image"),
        (("--image", "cat.png", "--mask", "text.png"), 2, "--mask is not a PNG, JPEG or WebP image"),
        (("--strength", "0.5"), 2, "--strength needs a start image"),
        (("--mask", "cat.png"), 2, "--mask needs a start image"),
        (("--image", "cat.png", "--strength", "2"), 2, "--strength must be a number in 0..1, not 2"),
        (("--image", "cat.png"), 4, "--image is not taken by this model"),
    ]:
        result = run("generate", "a", *arguments, "-o", "out.png")
        assert (result.code, message in result.err) == (code, True), result.err


def test_info_of_a_hostile_image_prints_no_control_characters(url: str, run: Run) -> None:
    """`info` does not print escape sequences that an image contains."""
    run("generate", "a \x1b[2J\x1b]0;owned\x07 cat", "-o", "cat.png")
    assert b"\x1b" not in run("info", "cat.png").out


def test_an_existing_file_is_kept_and_no_image_is_generated(url: str, run: Run, engine: StubEngine) -> None:
    """The name of an existing file is refused before the endpoint is called; `--force` overwrites the file."""
    Path("cat.png").write_bytes(b"precious")
    for seed in ([], ["--seed", "1"]):
        result = run("generate", "a cat", "-o", "cat.png", *seed)
        assert result.code == 6
        assert "--force" in result.err
    assert engine.calls == 0
    assert Path("cat.png").read_bytes() == b"precious"
    assert run("generate", "a cat", "-o", "cat.png", "--force").code == 0


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["generate"], 2, "The prompt is missing"),
        (["generate", ""], 2, "PROMPT must have 1..2000 characters, not 0."),
        (["generate", "x", "--steps", "0"], 2, "--steps must be a whole number in 1..100, not 0."),
        (["generate", "x", "--width", "65"], 2, "--width must be a multiple of 8 in 64..1024, not 65."),
        (
            ["generate", "x", "--seed", "4294967296"],
            2,
            "--seed must be a whole number in 0..4294967295",
        ),
        (["generate", "x", "--size", "big"], 2, "512x512"),
        (["generate", "x", "--size", "64x64", "--width", "64"], 2, "either --size"),
        (["generate", "x", "--scheduler", "eular"], 2, "not 'eular'; did you mean euler?"),
        (["generate", "x", "-o", "cat.gif"], 2, ".webp"),
        (["generate", "x", "-o", "cat.png", "--format", "jpeg"], 2, "--format"),
        (["generate", "x", "-o", "-", "--json"], 2, "stdout"),
        (["generate", "x", "-o", "no/such/cat.png"], 6, "does not exist"),
        (
            ["generate", "x", "-o", "x.png", "--size", "1024x1024"],
            4,
            "--width must be 64..512 with this model",
        ),
        (["generate", "x", "-o", "x.png", "--deployment", "nope"], 3, "no deployment 'nope'"),
        (["generate", "x", "-o", "x.png", "--profile", "nobody"], 3, "nobody"),
        (["generate", "x", "-o", "x.png", "--url", "http://example.com"], 3, "not encrypted"),
        (["generate", "x", "-o", "x.png", "--local", "--url", "https://a"], 3, "--local"),
        (["generate", "x", "-o", "x.png", "--region", "eu-west-1"], 4, "403"),
        (["info", "missing.png"], 2, "does not exist"),
        (["configure"], 2, "either --url or --stack"),
        (["nonsense"], 2, "There is no command 'nonsense'."),
        (["genrate", "x"], 2, "There is no command 'genrate'; did you mean generate?"),
        (["stat"], 2, "There is no command 'stat'; did you mean status?"),
        (["a cat in a top hat"], 2, "lambdiff generate PROMPT"),
        (["generate", "x", "--stpes", "4"], 2, "There is no option --stpes; did you mean --steps?"),
        (["generate", "x", "--foo"], 2, "There is no option --foo; did you mean --force?"),
        (["logs", "--xyzzy"], 2, "There is no option --xyzzy."),
    ],
)
def test_mistakes_have_an_exit_code_and_a_sentence(url: str, run: Run, args: list[str], code: int, words: str) -> None:
    """A mistake ends with the documented exit code and a clear sentence, without a traceback or a file."""
    result = run(*args)
    assert result.code == code, result.err
    assert words in result.err
    assert "Traceback" not in result.err
    assert list(Path().glob("*.png")) == []


def test_a_partial_failure_keeps_the_successful_images(
    url: str, run: Run, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Successful images are kept, failures are listed with their seeds, and the exit code is that of the failures."""
    original = engine.generate

    def fail_sometimes(generation, on_step=None):
        if generation.seed in {101, 103, 106}:
            raise RuntimeError("broken")
        return original(generation, on_step)

    monkeypatch.setattr(engine, "generate", fail_sometimes)
    result = run("generate", "a cat", "-n", "8", "--seed", "100", "-o", "cat-{seed}.png")
    assert result.code == 5
    assert len(list(Path().glob("cat-*.png"))) == 5
    assert all(f"seed {seed}" in result.err for seed in (101, 103, 106))


def test_a_file_created_meanwhile_fails_one_image_only(
    url: str, run: Run, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image whose name is taken during the run is a failure, and the others are kept."""
    original = engine.generate

    def write_first(generation, on_step=None):
        if generation.seed == 12:
            Path("cat-12.png").write_bytes(b"theirs")
        return original(generation, on_step)

    monkeypatch.setattr(engine, "generate", write_first)
    result = run("generate", "a cat", "-n", "4", "--seed", "10", "-o", "cat-{seed}.png")
    assert result.code == 6
    assert result.out == b"cat-10.png\ncat-11.png\ncat-13.png\n"
    assert Path("cat-12.png").read_bytes() == b"theirs"


def test_a_wrong_key_is_refused_and_not_shown(
    url: str, run: Run, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong secret key gives exit code 4, generates nothing, and is not printed."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-key")
    result = run("generate", "a cat", "-o", "x.png")
    assert result.code == 4
    assert "another-secret-key" not in result.err
    assert engine.calls == 0


def test_generate_uses_the_configured_endpoint(url: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `configure --url`, `generate` uses the saved URL and names the deployment as its source."""
    monkeypatch.delenv("LAMBDIFF_URL")
    assert run("configure", "--url", url, "--region", "us-east-1", "--name", "mine").code == 0
    assert run("generate", "a cat", "-o", "a.png", "--json").json["endpoint"] == f"{url} (deployment mine)"
    assert SECRET not in config.path().read_text()


def test_every_command_has_help(run: Run) -> None:
    """`--help` succeeds for the group and for each command."""
    assert run("--help").code == 0
    for name in COMMANDS:
        assert run(name, "--help").code == 0


class Gate:
    """Stops the stub engine at its n-th image until the gate is opened."""

    def __init__(self, engine: StubEngine, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        generate = engine.generate

        def gated(*args: Any) -> Any:
            if engine.calls + 1 == number:
                self.reached.set()
                assert self.opened.wait(100)
            return generate(*args)

        monkeypatch.setattr(engine, "generate", gated)

    def interrupt(self, process: subprocess.Popen[str], *finished: str) -> tuple[int, str]:
        """Send SIGINT once the gate is reached and files are written; return the exit code and stderr."""
        try:
            assert self.reached.wait(100)
            while not all(Path(name).exists() for name in finished):
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=100)
        finally:
            self.opened.set()
        return process.returncode, err.strip()


def test_ctrl_c_leaves_nothing_behind(url: str, engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGINT during a request ends with exit code 130, one sentence and no file."""
    gate = Gate(engine, 1, monkeypatch)
    command = [sys.executable, "-m", "lambdiff", "generate", "a cat", "-o", "cat.png"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert gate.interrupt(process) == (130, "Stopped.")
    assert not list(Path().glob("*cat*"))


def test_ctrl_c_keeps_what_is_finished(url: str, engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGINT in the middle of -n keeps the finished images and sends no further request."""
    gate = Gate(engine, 3, monkeypatch)
    command = ["generate", "a cat", "-n", "20", "--workers", "1", "-o", "cat-{seed}.png", "--seed", "1"]
    process = subprocess.Popen([sys.executable, "-m", "lambdiff", *command], stderr=subprocess.PIPE, text=True)
    assert gate.interrupt(process, "cat-1.png") == (130, "Stopped.")
    assert engine.calls <= 3
    files = {path.name for path in Path().glob("*cat*")}
    assert {"cat-1.png"} <= files <= {"cat-1.png", "cat-2.png"}


def test_a_closed_stdout_causes_no_traceback(url: str) -> None:
    """If the reader of stdout ends early, there is no traceback."""
    command = f"{sys.executable} -m lambdiff generate 'a cat' -o - | head -c 10 | wc -c"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "10"
    assert done.stderr == ""


def test_a_full_disk_is_reported(url: str, run: Run) -> None:
    """Writing to a full device gives exit code 6 and the reason."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lambdiff", "generate", "a cat", "-o", "-"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 6, done.stderr
    assert "No space left" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str) -> None:
    """A completion script is printed for each shell."""
    environment = {**os.environ, "_LAMBDIFF_COMPLETE": f"{shell}_source"}
    script = Path(sys.executable).with_name("lambdiff")
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=True)
    assert "lambdiff" in done.stdout

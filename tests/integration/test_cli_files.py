"""The command line with files of other tools and with text in any encoding."""

from __future__ import annotations

import io
import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lambdiff.client import foreign_metadata
from lambdiff.handler.app import App
from lambdiff.protocol import metadata
from support.cli_runner import Run, run_process
from support.foreign_images import COMFY, SETTINGS, WEBUI, exif, jpeg, png_with, user_comment
from support.stub_engine import StubEngine

pytestmark = pytest.mark.slow
FOREIGN = f"a cat\nNegative prompt: dog\n{SETTINGS}, Clip skip: 2".replace("768x512", "256x128")


def test_like_repeats_what_another_tool_recorded(url: str, run: Run) -> None:
    """`--like` takes prompt and settings, names what it cannot repeat, and other options take precedence."""
    Path("other.png").write_bytes(png_with({"parameters": f"{FOREIGN}\nTemplate: __animal__"}))
    result = run("generate", "--like", "other.png", "-o", "new.png", "--steps", "3")
    assert (result.code, result.out) == (0, b"new.png\n")
    assert "Clip skip 2" in result.err
    request = metadata.read(Path("new.png")).request
    assert (request.prompt, request.negative_prompt, request.seed) == ("a cat", "dog", 1960802277)
    assert (request.num_inference_steps, request.width, request.height, request.scheduler) == (3, 256, 128, "euler")
    assert run("generate", "--like", "other.png", "-o", "quiet.png", "--quiet").err == ""


@pytest.mark.parametrize("sampler", ["Restart", "Euler Beta", "DPM++ SDE"])
def test_a_sampler_is_never_replaced_silently(url: str, run: Run, sampler: str) -> None:
    """A sampler or noise schedule that lambdiff lacks is named, with the flag that chooses another one."""
    Path("other.png").write_bytes(png_with({"parameters": FOREIGN.replace("Euler", sampler)}))
    assert sampler.rpartition(" ")[2] in run("info", "other.png").err
    result = run("generate", "--like", "other.png", "-o", "new.png")
    assert result.code == 0
    assert f'"{sampler}" is not supported: without --scheduler' in result.err or '"Beta" is not supported' in result.err


def test_seeds_and_sizes_of_other_tools_may_be_too_large(url: str, run: Run) -> None:
    """ComfyUI's seeds have 64 bits: `info` shows them, and `--like` names and replaces them."""
    Path("other.png").write_bytes(png_with({"prompt": {**COMFY, "5": {**COMFY["5"], "inputs": {"width": 4096}}}}))
    shown = run("info", "other.png", "--json").json
    assert shown["tool"] == "ComfyUI"
    assert shown["request"]["seed"] == 156680208700286
    result = run("generate", "--like", "other.png", "-o", "new.png", "--json")
    assert result.code == 0
    assert result.json["images"][0]["parameters"]["prompt"] == "a glass bottle, galaxy"
    assert "156680208700286" in result.err


@pytest.mark.parametrize(
    "content", [jpeg(exif(b"ASCII\0\0\0Shot in the rain" + bytes(50))), png_with({"parameters": {"a": 1}}), jpeg()]
)
def test_a_photo_has_no_parameters(url: str, run: Run, engine: StubEngine, content: bytes) -> None:
    """A photo is refused by `info` and `--like`, and nothing is generated."""
    Path("photo.jpg").write_bytes(content)
    for command in (["info", "photo.jpg"], ["generate", "--like", "photo.jpg", "-o", "new.png"]):
        result = run(*command)
        assert result.code == 2
        assert "no generation parameters" in result.err
    assert engine.calls == 0


def test_info_shows_unicode_of_any_byte_order(run: Run, tmp_path: Path) -> None:
    """`info` shows the prompt of a JPEG whose comment is UTF-16 in the other byte order than its EXIF data."""
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(exif(user_comment(WEBUI.replace("night", "Катя, 猫, 😀"), "<"), order=">")))
    result = run("info", path, "--json")
    assert result.json["request"]["prompt"] == "masterpiece, Катя, 猫, 😀\nsecond line"
    assert foreign_metadata.read(path).request.seed == 1960802277


STDIN: dict[str, tuple[bytes, str | None]] = {
    "UTF-8 with a mark": (b"\xef\xbb\xbfa c\xc3\xa4t\n", "a cät"),
    "Windows' line breaks": (b"a cat,\r\nblack\r\n", "a cat,\nblack"),
    "PowerShell 5": (b"\xff\xfe" + "a cät 😀\r\n".encode("utf-16-le"), "a cät 😀"),
    "UTF-16, big-endian": (b"\xfe\xff" + "a cät".encode("utf-16-be"), "a cät"),
    "UTF-32": (b"\xff\xfe\0\0" + "a cät".encode("utf-32-le"), "a cät"),
    "Latin-1": (b"a c\xe4t", None),
    "UTF-8 that is cut off": (b"a c\xc3", None),
    "half of a UTF-16 unit": (b"\xff\xfea\0c", None),
    "a surrogate": (b"\xff\xfe\x00\xd8a\0", None),
    "NUL": (b"a\0cat", None),
    "UTF-16 without a mark": ("a cat".encode("utf-16-le"), None),
    "nothing": (b"", None),
    "a mark only": (b"\xef\xbb\xbf", None),
    "blanks": (b" \r\n\t", None),
    "too much": (b"x" * 70_000, None),
    "a binary file": (bytes(range(256)), None),
}


@pytest.mark.parametrize("name", STDIN)
def test_a_prompt_on_stdin_is_text_or_refused(
    url: str, run: Run, engine: StubEngine, name: str, monkeypatch: Any
) -> None:
    """Encodings with a byte order mark are read; what is not text is refused with exit code 2, as an argument is."""
    content, prompt = STDIN[name]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    result = run("generate", "-", "-o", "a.png")
    if prompt is None:
        assert (result.code, engine.calls) == (2, 0), result.err
        assert "Traceback" not in result.err
    else:
        assert result.code == 0, result.err
        assert metadata.read(Path("a.png")).request.prompt == prompt


def test_endless_stdin_is_refused(url: str) -> None:
    """Only as much is read as a prompt can have."""
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        result = run_process("generate", "-", "-o", "a.png", stdin=endless.stdout)
        endless.kill()
    assert result.code == 2
    assert "too long" in result.err


def test_arguments_in_an_ascii_locale_are_read_as_utf_8(url: str) -> None:
    """With an ASCII locale Python passes undecoded bytes, which are UTF-8 all the same."""
    ascii_locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    result = run_process(
        "generate", "\ufeffcafé 猫".encode(), "--negative", "犬".encode(), "-o", "a.png", env=ascii_locale
    )
    assert result.code == 0, result.err
    request = metadata.read(Path("a.png")).request
    assert (request.prompt, request.negative_prompt) == ("café 猫", "犬")
    refused = run_process("generate", b"caf\xe9", "-o", "b.png", env=ascii_locale)
    assert (refused.code, Path("b.png").exists()) == (2, False)


def test_a_calibration_file_may_come_from_powershell(tmp_path: Path) -> None:
    """Files of prompts are read in the same encodings as stdin."""
    from lambdiff.cli.bake import _read_prompts

    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xff\xfe" + "a cät\r\n\r\na dog\r\n".encode("utf-16-le"))
    assert _read_prompts(None, None, path) == ("a cät", "a dog")  # type: ignore[arg-type]


def test_json_of_info_is_complete(run: Run, tmp_path: Path) -> None:
    """`info --json` has all settings of the other tool, and the notes."""
    path = tmp_path / "a.png"
    path.write_bytes(png_with({"parameters": WEBUI}))
    report = json.loads(run("info", path, "--json").out)
    assert report["settings"]["Model hash"] == "abc"
    assert report["notes"]
    assert report["exact"] is False


def test_commands_at_the_same_time_keep_their_images(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four commands that chose the same name, because none was given with `-o`, write four files."""
    arrived = threading.Barrier(4)
    handle = App.handle

    def together(*args: Any) -> Any:
        arrived.wait(60)  # so that every command has chosen its name before the first one writes
        return handle(*args)

    monkeypatch.setattr(App, "handle", together)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda seed: run_process("generate", "a cat", "--seed", str(seed)), range(4)))
    assert [result.code for result in results] == [0] * 4
    names = [result.out.decode().strip() for result in results]
    assert sorted(names) == ["a-cat-2.png", "a-cat-3.png", "a-cat-4.png", "a-cat.png"]
    assert [metadata.read(Path(name)).request.seed for name in names] == [0, 1, 2, 3]


BAD_OUTPUTS = [
    ("x" * 300 + ".png", 6, "too long"),
    ("é" * 126 + ".png", 6, "too long"),
    ("x" * 300 + "/a.png", 6, "too long"),
    ("dangling.png", 6, "does not exist"),
    ("no/such/a.png", 6, "does not exist"),
    ("file/a.png", 6, "is not a folder"),
    ("/sys/a.png", 6, "cannot be written"),
    (".", 6, "is a folder"),
    ("folder", 6, "is a folder"),
    ("folder/", 6, "is a folder"),
    ("~", 6, "is a folder"),
    ("", 2, "name of a file"),
    ("cat", 2, "suffix"),
    (".png", 2, "suffix"),
    ("cat.png ", 2, "suffix"),
    ("cat.tiff", 2, "suffix"),
]


@pytest.mark.parametrize(("out", "code", "words"), BAD_OUTPUTS, ids=range(len(BAD_OUTPUTS)))
def test_impossible_names_are_refused_before_anything_is_generated(
    url: str, run: Run, engine: StubEngine, out: str, code: int, words: str
) -> None:
    """A name that cannot be written gives its exit code and a reason, and no image is paid for."""
    Path("folder").mkdir()
    Path("file").touch()
    Path("dangling.png").symlink_to("nowhere")
    for extra in ([], ["-n", "2"]) if out != "dangling.png" else ([],):
        result = run("generate", "a cat", "-o", out, *extra)
        assert result.code == code, result.err
        assert words in result.err
        assert "Traceback" not in result.err
    assert engine.calls == 0

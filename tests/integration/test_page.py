"""The page in Chromium, used by its labels, at two widths and without the internet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """`lambdiff ui` with the built-in model."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lambdiff", "ui", "--no-browser", "--port", "0", "--local"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, installed if necessary."""
    if not shutil.which("chromium"):
        install = "apt-get update -q && apt-get install -y -q --no-install-recommends chromium"
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["bash", "-c", install], check=True, stdout=subprocess.DEVNULL, env=environment)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of a width, which has asked no other server for anything."""
    asked: list[str] = []
    opened = browser.new_page(
        viewport={"width": getattr(request, "param", 1400), "height": 1000}, accept_downloads=True
    )
    opened.on("request", lambda each: asked.append(each.url))
    opened.goto(address)
    yield opened
    opened.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.parametrize("page", [380, 1400], indirect=True)
def test_an_image_is_generated_and_fits(page: Page, tmp_path: Path) -> None:
    """A prompt and a click give an image, its time and the command for it; nothing is wider than the window."""
    page.get_by_label("Prompt", exact=True).fill("a cat in a top hat")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_text("1 of 1 images")).to_be_visible(timeout=60_000)
    expect(page.locator("img[src*='image-']").first).to_be_visible()
    page.get_by_role("button", name="Copy as command or as Python").click()
    expect(page.get_by_text("lambdiff generate").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_it_works_by_keyboard_and_shows_mistakes(page: Page) -> None:
    """Tab reaches the button, and an empty prompt is an error that can be seen."""
    page.get_by_label("Prompt", exact=True).focus()
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent").strip() == "Generate"
    page.keyboard.press("Enter")
    expect(page.get_by_text("Error:")).to_be_visible()


def test_a_dropped_image_fills_in_the_form(page: Page, address: str, tmp_path: Path) -> None:
    """The parameters of an image are read into the controls."""
    import lambdiff

    with lambdiff.Client(local=True) as client:
        path = client.generate("a fox in a crown", seed=1234, num_inference_steps=3).save(tmp_path / "fox.png")
    page.get_by_role("button", name="Read the parameters of an image").click()
    page.locator("input[type=file]").first.set_input_files(path)
    expect(page.get_by_text("The parameters were read.")).to_be_visible(timeout=20_000)
    assert page.get_by_label("Prompt", exact=True).input_value() == "a fox in a crown"
    page.get_by_text("Parameters", exact=True).click()
    assert page.get_by_label("Seed").input_value() == "1234"

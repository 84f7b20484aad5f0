"""The page of the gateway: a form with the model's own limits and defaults, and the images that it has made.

Gradio draws it. It loads nothing from other servers, and what people upload goes to one temporary folder of this
process.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lambdiff.client.batch import Failure
from lambdiff.client.client import Client
from lambdiff.client.image import GeneratedImage
from lambdiff.client.parameters import GenerationParameters, build_request, build_requests, consecutive_seeds
from lambdiff.client.progress import expected_seconds, remember_image
from lambdiff.engine.cancellation import cancelled_if
from lambdiff.errors import InvalidRequest, LambdiffError, MetadataError
from lambdiff.gateway.errors import GatewayError
from lambdiff.gateway.generator import Budget, previewed
from lambdiff.gateway.page_texts import as_command, as_python, read_parameters
from lambdiff.gateway.settings import MAX_IMAGES
from lambdiff.printable import printable
from lambdiff.protocol import contract
from lambdiff.protocol.contract import Health

if TYPE_CHECKING:
    import gradio

HISTORY: Final = 60
"""How many images of the session, and of the folder, are shown."""
_REFRESH_S: Final = 0.25
_PREVIEW_S: Final = 1.0
"""Seconds between two previews of an image, which take time to decode."""
_SUFFIXES: Final = {".png", ".jpg", ".jpeg", ".webp"}
_FIELDS: Final = (
    "prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "width", "height", "scheduler",
    "sigma_schedule", "prompt_syntax", "seed",
)  # fmt: skip
"""The parameters with a control, in the order of the page."""
FONTS: Final = ["system-ui", "sans-serif"]
TITLE: Final = "lambdiff"
CSS: Final = ".status { min-height: 1.5em } footer { display: none !important }"


class Page:
    """The page of one gateway.

    Args:
        client: generates the images.
        health: the model's limits and defaults.
        budget: how many images may be generated.
        uploads: the folder for uploads and for the images of this session.
        folder: whose images the page shows, too.
    """

    def __init__(
        self, client: Client, health: Health, budget: Budget, uploads: Path, folder: Path | None = None
    ) -> None:
        self._client = client
        self._health = health
        self._budget = budget
        self._uploads = uploads
        self._folder = folder
        self._made = 0

    def blocks(self) -> gradio.Blocks:
        """Return the page."""
        import gradio as gr

        defaults, limits = self._health.defaults, self._health.limits
        size = {"minimum": limits.min_size, "maximum": limits.max_size, "step": 8}
        blocks: gradio.Blocks
        with gr.Blocks(title=TITLE, analytics_enabled=False) as blocks:
            where = "this machine" if self._client.endpoint.local else self._client.transport.url
            gr.Markdown(f"# {TITLE}\n{_without_markup(self._health.model.name)} on {_without_markup(where)}")
            with gr.Row():
                with gr.Column(min_width=320):
                    controls: dict[str, Any] = {
                        "prompt": gr.Textbox(label="Prompt", lines=3, autofocus=True, placeholder="a cat in a top hat"),
                        "negative_prompt": gr.Textbox(
                            label="Negative prompt",
                            value=defaults.negative_prompt,
                            info="What to keep out of the image.",
                        ),
                    }
                    with gr.Row():
                        go = gr.Button("Generate", variant="primary")
                        stop = gr.Button("Stop")
                    status = gr.Markdown(elem_classes="status")
                    count = gr.Slider(1, MAX_IMAGES, value=1, step=1, label="Images", info="With consecutive seeds.")
                    with gr.Accordion("Parameters", open=False):
                        controls |= {
                            "num_inference_steps": gr.Slider(
                                1, 100, value=defaults.num_inference_steps, step=1, label="Steps"
                            ),
                            "guidance_scale": gr.Slider(
                                0, 30, value=defaults.guidance_scale, step=0.1, label="Guidance scale"
                            ),
                            "width": gr.Slider(**size, value=defaults.width, label="Width"),
                            "height": gr.Slider(**size, value=defaults.height, label="Height"),
                            "scheduler": gr.Dropdown(
                                list(limits.schedulers), value=defaults.scheduler, label="Scheduler"
                            ),
                            "sigma_schedule": gr.Dropdown(
                                ["normal", "karras", "exponential"],
                                value=defaults.sigma_schedule,
                                label="Sigma schedule",
                            ),
                            "prompt_syntax": gr.Dropdown(
                                list(limits.prompt_syntaxes), value=defaults.prompt_syntax, label="Prompt syntax"
                            ),
                            "seed": gr.Textbox(label="Seed", info="Empty for a random one."),
                        }
                        image_format = gr.Dropdown(["png", "jpeg", "webp"], value="png", label="File format")
                    takes_image = limits.image != "unsupported"
                    with gr.Accordion("Start image", open=limits.image == "required", visible=takes_image):
                        start = gr.Image(label="Start image", type="filepath", sources=["upload", "clipboard"])
                        strength = gr.Slider(0, 1, value=0.75, step=0.05, label="Strength")
                        mask = gr.Image(label="Mask", type="filepath", sources=["upload", "clipboard"])
                    with gr.Accordion("Read the parameters of an image", open=False):
                        dropped = gr.File(label="Image with parameters", file_types=["image"], type="filepath")
                with gr.Column(min_width=320):
                    images = gr.Gallery(
                        label="Images", columns=2, object_fit="contain", buttons=["download", "fullscreen"]
                    )
                    with gr.Accordion("Copy as command or as Python", open=False):
                        command = gr.Code(
                            language="shell", label="Command", lines=2, wrap_lines=True, interactive=False
                        )
                        python = gr.Code(language="python", label="Python", lines=4, wrap_lines=True, interactive=False)
                    with gr.Accordion("History", open=False):
                        session = gr.Gallery(label="This session", columns=4, object_fit="contain")
                        if self._folder is not None:
                            gr.Gallery(
                                label=printable(self._folder, 100),
                                columns=4,
                                object_fit="contain",
                                value=self._of_folder,
                            )
            kept = gr.State([])
            inputs = [*(controls[name] for name in _FIELDS), count, image_format, start, strength, mask, kept]
            outputs = [images, status, command, python, session, kept]
            running = gr.on(
                [go.click, controls["prompt"].submit], self.generate, inputs, outputs, concurrency_limit=None
            )
            stop.click(None, cancels=[running])
            dropped.upload(self.read, [dropped], [*(controls[name] for name in _FIELDS), status])
        return blocks

    def generate(self, *given: Any) -> Iterator[tuple[Any, ...]]:
        """Generate images, and yield what the page shows meanwhile and at the end."""
        *values, count, image_format, start, strength, mask, kept = given
        parameters = {name: value for name, value in zip(_FIELDS, values, strict=True) if value not in (None, "")}
        parameters |= {"prompt": parameters.get("prompt", ""), "image_format": image_format}
        if start:
            parameters |= {"image": start, "strength": strength, **({"mask": mask} if mask else {})}
        try:
            if "seed" in parameters:
                parameters["seed"] = _seed(str(parameters["seed"]))
            prompt: Any = parameters
            requests = build_requests([prompt], {}, n=int(count))
            request = build_request(**requests[0])
            if request.seed is None:
                (seed,) = consecutive_seeds(None, 1)
                requests[0]["seed"], request = seed, msgspec.structs.replace(request, seed=seed)
            self._budget.take(len(requests))
        except (InvalidRequest, GatewayError) as error:
            yield [], f"**Error:** {_without_markup(error.message.removeprefix('prompts[0]: '))}", "", "", kept, kept
            return
        texts = as_command(request, int(count)), as_python(request, int(count))
        for files, status in self._progress(requests):
            made = [*(file for file in files if isinstance(file, str)), *kept][:HISTORY]  # and not previews
            yield files, status, *texts, made, made

    def read(self, path: str | None) -> list[Any]:
        """Return the controls' values that a dropped picture records, and what to say about it."""
        import gradio as gr

        if path is None:
            return [gr.skip()] * (len(_FIELDS) + 1)
        try:
            found, notes = read_parameters(path)
        except MetadataError as error:
            return [*[gr.skip()] * len(_FIELDS), f"**Error:** {_without_markup(error.message)}"]
        allowed = {"scheduler": self._health.limits.schedulers, "prompt_syntax": self._health.limits.prompt_syntaxes}
        for name, choices in allowed.items():
            if name in found and found[name] not in choices:
                notes.append(f"This model does not have {name} {found.pop(name)}.")
        values = [
            str(found[name]) if name == "seed" and name in found else found.get(name, gr.skip()) for name in _FIELDS
        ]
        return [*values, " ".join(["The parameters were read.", *map(_without_markup, notes)])]

    def _progress(self, requests: list[GenerationParameters]) -> Iterator[tuple[list[Any], str]]:
        """Generate on other threads, and yield (files, status) until all are there. Closing it stops them."""
        arrived: queue.SimpleQueue[tuple[int, GeneratedImage | Failure]] = queue.SimpleQueue()
        waiting: queue.SimpleQueue[tuple[int, GenerationParameters]] = queue.SimpleQueue()
        stopped, began = threading.Event(), time.monotonic()
        for job in enumerate(requests):
            waiting.put(job)

        shown: dict[str, Any] = {"at": began}

        def on_step(done: int, total: int) -> bool:
            if done < total and time.monotonic() - shown["at"] >= _PREVIEW_S:
                shown.update(preview=previewed(self._client), at=time.monotonic())
            return stopped.is_set()

        def run() -> None:
            while not stopped.is_set():
                try:
                    index, request = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    with cancelled_if(stopped.is_set):
                        arrived.put((index, self._client.generate_request(build_request(**request), on_step)))
                except LambdiffError as error:
                    arrived.put((index, Failure(index, request, error)))

        # This machine generates one image at a time.
        for _ in range(1 if self._client.endpoint.local else len(requests)):
            threading.Thread(target=run, name="lambdiff-page", daemon=True).start()
        files: list[str] = []
        by_index: dict[int, str] = {}
        texts: dict[str, None] = {}
        done, dollars = 0, 0.0
        try:
            while done < len(requests):
                preview = shown.get("preview")
                yield (
                    [*files, *([preview] if preview else [])],
                    self._doing(done, len(requests), time.monotonic() - began),
                )
                try:
                    index, result = arrived.get(timeout=_REFRESH_S)
                except queue.Empty:
                    continue
                done += 1
                shown.pop("preview", None)
                if isinstance(result, Failure):
                    texts[f"**Error:** {_without_markup(result.error.message)} {_without_markup(result.error.fix)}"] = (
                        None
                    )
                    continue
                remember_image(self._client.transport.url, result)
                by_index[index] = self._save(result)
                files = [by_index[each] for each in sorted(by_index)]  # by seed, whichever is finished first
                dollars += result.cost or 0.0
                texts.update(dict.fromkeys(f"Note: {_without_markup(warning)}" for warning in result.warnings))
            each = f"{(time.monotonic() - began) / len(requests):.1f} s per image"
            cost = f", about ${dollars:.5f}" if dollars else ""
            yield files, "\n\n".join([f"{len(files)} of {len(requests)} images, {each}{cost}.", *texts])
        finally:
            stopped.set()

    def _doing(self, done: int, total: int, seconds: float) -> str:
        transport = self._client.transport
        step, steps = getattr(transport, "step", (0, 0))
        doing = getattr(transport, "activity", "") or (f"step {step} of {steps}" if step else "generating")
        expected = expected_seconds(transport.url) if not step else None
        usual = f" (the last image took {expected:.0f} s)" if expected and expected > 1 else ""
        return f"{f'{done} of {total}, ' if total > 1 else ''}{doing}, {seconds:.1f} s{usual}"

    def _save(self, image: GeneratedImage) -> str:
        """Write an image to the temporary folder, with its parameters inside, and return its path."""
        self._made += 1
        suffix = {"png": "png", "jpeg": "jpg", "webp": "webp"}[image.format]
        return str(image.save(self._uploads / f"image-{self._made:04}-{os.urandom(4).hex()}.{suffix}"))

    def _of_folder(self) -> list[str]:
        assert self._folder is not None  # noqa: S101 (only then is it called)
        found = [path for path in self._folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file()]
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return [str(path) for path in found[:HISTORY]]


def _seed(text: str) -> int:
    from lambdiff.protocol.validation import checked

    return int(checked("seed", int(text) if text.strip().isdigit() else text, contract.Seed))


def _without_markup(text: str) -> str:
    """Return foreign text so that Markdown and HTML show it as it is."""
    escaped = printable(text, 500).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{character}" if character in "\\*_[]()#`!|~$" else character for character in escaped)

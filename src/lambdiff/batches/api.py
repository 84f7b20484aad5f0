"""`lambdiff.batch`: the images of many prompts, from the SDK."""

# Annotations are evaluated here, so that `help()` shows the values of a Literal instead of the name of its alias.
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta

from lambdiff.batches import alternatives as alternatives_in_prompts
from lambdiff.batches import sheet as sheets
from lambdiff.batches import table
from lambdiff.batches.items import ItemReader
from lambdiff.batches.prompt_files import FileFormat, PromptFile
from lambdiff.batches.results_folder import ResultsFolder
from lambdiff.batches.run import BatchRun
from lambdiff.client.client import Client
from lambdiff.client.parameters import GenerationParameters
from lambdiff.client.pictures import PictureSource, encode_pictures
from lambdiff.errors import InvalidRequest
from lambdiff.protocol.contract import ImageFormat, PromptSyntax, SchedulerName, SigmaSchedule
from lambdiff.protocol.validation import checked

MAX_WORKERS: Final = 64
"""The most requests at once, unless the caller says otherwise."""
Count = Annotated[int, Meta(ge=1, le=10_000)]
Workers = Annotated[int, Meta(ge=1, le=1_000)]
Retries = Annotated[int, Meta(ge=0, le=10)]


def batch(
    prompts: str | os.PathLike[str] | Iterable[str | GenerationParameters | Mapping[str, Any]],
    output: str | os.PathLike[str],
    *,
    n: int = 1,
    file_format: FileFormat | None = None,
    alternatives: bool = False,
    carry: Collection[str] = (),
    sheet: bool = False,
    parquet: bool = False,
    max_workers: int | None = None,
    retries: int = 0,
    negative_prompt: str | None = None,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    width: int | None = None,
    height: int | None = None,
    seed: int | None = None,
    scheduler: SchedulerName | None = None,
    sigma_schedule: SigmaSchedule | None = None,
    prompt_syntax: PromptSyntax | None = None,
    image: PictureSource | None = None,
    strength: float | None = None,
    mask: PictureSource | None = None,
    image_format: ImageFormat = "png",
    url: str | None = None,
    region: str | None = None,
    deployment: str | None = None,
    profile: str | None = None,
    local: bool = False,
    model_dir: str | Path | None = None,
    on_check: Callable[[int], object] | None = None,
) -> BatchRun:
    """Check all prompts, then generate their images into a folder, in the background.

    An image is named by its complete request and the model. Images that are in the folder already are not generated
    again, so the same call after Ctrl-C, a crash or failures makes what is missing. Several programs may fill one
    folder at once.

    Args:
        prompts: the path of a file, or a list of texts and mappings. A `.jsonl` file has one JSON object a line, a
            `.csv` or `.tsv` file has columns with names in its first line, and a `.txt` file has one prompt a line.
            Columns may be any parameter below and `prompt`; start images are paths relative to the file. Other columns
            are carried along into the results.
        output: the folder; created if it is missing.
        n: images of each prompt, with consecutive seeds.
        file_format: how the file is written, if its suffix does not say.
        alternatives: whether `{a|b|c}` in prompts stands for alternatives; all combinations are generated.
        carry: columns that are carried along although their names resemble a parameter.
        sheet: whether to make a contact sheet at the end.
        parquet: whether to write `results.parquet` at the end.
        max_workers: the most requests at once, 64 by default. The run starts with four, and adapts to what the endpoint
            accepts. This machine generates one image at a time.
        retries: how often to generate an image again that the endpoint has lost (a 5xx reply or a broken connection).
            It may be billed each time. The default leaves that to the next run.
        negative_prompt, num_inference_steps, guidance_scale, width, height, scheduler, sigma_schedule, prompt_syntax,
            image, strength, mask, image_format: as for `generate`, for rows without a value of their own.
        seed: of rows without one. By default it follows from the row's own content, so that the next run recognizes it.
        url, region, deployment, profile, local, model_dir: choose the endpoint, as for `Client`.
        on_check: called with the number of rows that have been checked.

    Returns:
        The run: iterate over it for results as they come, or call `wait()` or `results()`.

    Raises:
        InvalidRequest: rows are bad. The message names them by their lines; nothing was generated.
        OutputError: the folder cannot be written.
        MissingExtra: `alternatives` or `parquet` needs the `batch` extra.
        ConfigurationError, EndpointRefused, EndpointFailed: the endpoint cannot be used.

    Example:
        >>> run = lambdiff.batch(["a cat", {"prompt": "a dog", "id": "d1"}], "animals", local=True)
        >>> [(record["number"], record["prompt"]) for record in run.results()]
        [(1, 'a cat'), (2, 'a dog')]
    """
    n, retries = checked("n", n, Count), checked("retries", retries, Retries)
    workers = checked("max_workers", MAX_WORKERS if max_workers is None else max_workers, Workers)
    if parquet:
        table.check_library()
    source = source_of(prompts, file_format, frozenset(carry))
    shared = encode_pictures(
        {
            "negative_prompt": negative_prompt,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "width": width,
            "height": height,
            "seed": seed,
            "scheduler": scheduler,
            "sigma_schedule": sigma_schedule,
            "prompt_syntax": prompt_syntax,
            "image": image,
            "strength": strength,
            "mask": mask,
            "image_format": image_format,
        }
    )
    client = Client(url, region=region, deployment=deployment, profile=profile, local=local, model_dir=model_dir)
    try:
        reader = ItemReader(
            source, client.health(), shared, n=n, expand=alternatives_in_prompts.expand if alternatives else None
        )
        total = reader.check(on_check or (lambda _: None))
        folder = ResultsFolder(Path(output).expanduser())
        _let_the_run_retry(client)
        return BatchRun(
            reader, folder, client, total, max_workers=workers, retries=retries,
            on_end=lambda run: _write_extras(run, sheet=sheet, parquet=parquet),
        )  # fmt: skip
    except BaseException:
        client.close()
        raise


def source_of(prompts: Any, file_format: FileFormat | None, carry: frozenset[str]) -> Any:
    """Return prompts as `ItemReader` takes them.

    Raises:
        InvalidRequest: they are of another type, or the options are for files only.
    """
    if isinstance(prompts, str | os.PathLike):
        if isinstance(prompts, str) and "\n" in prompts:
            raise InvalidRequest(
                "`prompts=` is text.", fix='Pass the path of a file, or a list, as in batch(["a cat"], "out").'
            )
        return PromptFile(Path(prompts).expanduser(), file_format, carry)
    if file_format is not None or carry:
        raise InvalidRequest(
            "`file_format=` and `carry=` are for files.", fix="Leave them out, or pass the path of a file."
        )
    if isinstance(prompts, bytes | Mapping) or not isinstance(prompts, Iterable):
        raise InvalidRequest(f"`prompts=` must be the path of a file or a list, not {type(prompts).__name__}.")
    return prompts


def _let_the_run_retry(client: Client) -> None:
    """Let throttling come through at once: the run must know of it, and waits itself."""
    from lambdiff.client.function_url import FunctionUrlTransport

    if isinstance(client.transport, FunctionUrlTransport):
        client.transport.attempts = 1


def _write_extras(run: BatchRun, *, sheet: bool, parquet: bool) -> None:
    lines = run.folder.latest() if sheet or parquet else []
    if sheet:
        sheets.write_sheets(run.folder.path, [(line.number, line.file) for line in lines if line.file])
    if parquet:
        table.write_parquet(run.folder.path, [line.record() for line in lines])

"""What a batch run in AWS keeps in its bucket, and the events and records of the function that makes the images.

    images/KEY.png                      an image, named by its request; runs share them
    claims/KEY                          who is generating the image, and until when; see `handler/claims.py`
    runs/RUN/items-1.jsonl              the requests of one Map Run, one `BatchItem` a line
    runs/RUN/present.jsonl              those whose images were there
    runs/RUN/records/KEY.OUTCOME.MS     what the function did with an item, and the milliseconds that it was busy
    runs/RUN/run.json                   written by the client

The name of a record has what a list of all of them must say, because a list takes one call for 1,000 names.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, get_args

from msgspec import Meta, Struct

from lambdiff.protocol.contract import ImageFormat

IMAGES: Final = "images/"
CLAIMS: Final = "claims/"
RUNS: Final = "runs/"
SUFFIXES: Final[dict[ImageFormat, str]] = {"png": "png", "jpeg": "jpg", "webp": "webp"}
BUCKET_VARIABLE: Final = "LAMBDIFF_BATCH_BUCKET"
"""Names the bucket in the environment of the batch function."""

Key = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
RunId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}\Z")]
Outcome = Literal["generated", "present", "claimed", "refused", "failed"]
"""What happened to an item: an image was generated, or was there before; another execution is generating it; the
request was refused; or something failed."""

_RECORD: Final = re.compile(
    rf"{RUNS}[a-z0-9-]+/records/([0-9a-f]{{64}})\.({'|'.join(get_args(Outcome))})\.(\d{{1,9}})", re.ASCII
)


class BatchItem(Struct, frozen=True, kw_only=True):
    """One line of an item file.

    Attributes:
        key: the key that the request must have at the model in the image; see `request_key`.
        request: the complete request, as `POST /` takes it.
        number, line, extra: the image's position, its row's line in the file of prompts, and the row's other columns.
            The state machine does not pass them on.
    """

    key: Key
    request: dict[str, Any]
    number: int = 0
    line: int = 0
    extra: dict[str, Any] = {}


class BatchEvent(Struct, frozen=True, kw_only=True):
    """What the state machine sends to the batch function."""

    run: RunId
    item: BatchItem


class BatchRecord(Struct, frozen=True, kw_only=True):
    """What the function did with an item; the content of a record.

    Attributes:
        outcome: what happened.
        seconds: how long the function was busy; with the first item of an environment, its start included.
        problem: why an item was refused or failed: the last part of a problem's type, or `wrong-key`.
        fields: the names of the bad fields.
        warnings: of the image; they may quote the prompt.
        request_id: of the call, for the function's log.
    """

    key: str
    outcome: Outcome
    seconds: float
    problem: str = ""
    fields: list[str] = []
    warnings: list[str] = []
    request_id: str = ""


def image_name(key: str, image_format: ImageFormat) -> str:
    """Return the name of an image in the bucket.

    Example:
        >>> image_name("ab" * 32, "jpeg")[-10:]
        'ababab.jpg'
    """
    return f"{IMAGES}{key}.{SUFFIXES[image_format]}"


def claim_name(key: str) -> str:
    """Return the name of the claim for an image."""
    return f"{CLAIMS}{key}"


def run_prefix(run: str) -> str:
    """Return what the names of all objects of a run begin with.

    Example:
        >>> run_prefix("cats-1")
        'runs/cats-1/'
    """
    return f"{RUNS}{run}/"


def items_name(run: str, number: int) -> str:
    """Return the name of an item file, numbered from 1, as the state machine's definition composes it."""
    return f"{run_prefix(run)}items-{number}.jsonl"


def present_name(run: str) -> str:
    """Return the name of the file with the items of a run whose images were there when it began."""
    return f"{run_prefix(run)}present.jsonl"


def description_name(run: str) -> str:
    """Return the name of a run's description, which its client writes."""
    return f"{run_prefix(run)}run.json"


def records_prefix(run: str) -> str:
    """Return what the names of all records of a run begin with."""
    return f"{run_prefix(run)}records/"


def record_name(run: str, record: BatchRecord) -> str:
    """Return the name of a record in the bucket.

    Example:
        >>> record = BatchRecord(key="ab" * 32, outcome="generated", seconds=9.87)
        >>> parse_record_name(record_name("cats-1", record))[1:]
        ('generated', 9.87)
    """
    return f"{records_prefix(run)}{record.key}.{record.outcome}.{round(record.seconds * 1000)}"


def parse_record_name(name: str) -> tuple[str, Outcome, float] | None:
    """Return the key, the outcome and the seconds of a record, or None for another object's name."""
    match = _RECORD.fullmatch(name)
    if match is None:
        return None
    outcome: Outcome = match[2]  # type: ignore[assignment]  # the pattern has no others
    return match[1], outcome, int(match[3]) / 1000

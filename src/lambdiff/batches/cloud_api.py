"""A batch in AWS from its prompts: check all rows, plan the run, start it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from lambdiff.aws.deployment import select
from lambdiff.batches import alternatives as alternatives_in_prompts
from lambdiff.batches import cloud_run
from lambdiff.batches.api import Count, source_of
from lambdiff.batches.cloud_folder import to_stored
from lambdiff.batches.cloud_plan import MaxCost
from lambdiff.batches.cloud_run import CloudTarget, PreparedRun, RunDescription
from lambdiff.batches.items import ItemReader
from lambdiff.batches.prompt_files import FileFormat
from lambdiff.batches.results_folder import ResultsFolder
from lambdiff.client.client import Client
from lambdiff.client.pictures import encode_pictures
from lambdiff.protocol.batch_layout import BatchItem
from lambdiff.protocol.validation import checked

Concurrency = Annotated[int, Meta(ge=1, le=10_000)]


@dataclass(frozen=True)
class CloudBatch:
    """A batch that has been checked and planned.

    Attributes:
        target: the deployment.
        prepared: what will be uploaded, with its plan.
    """

    target: CloudTarget
    prepared: PreparedRun

    def start(self, run: str | None = None) -> RunDescription:
        """Start it.

        Args:
            run: the name of the run; by default one that begins with the time.

        Raises:
            InvalidRequest: there is a run of this name.
            CredentialsError, DeployError: it could not be started.
        """
        return cloud_run.start(self.target, self.prepared, run or cloud_run.new_run_id())


def prepare(
    prompts: str | os.PathLike[str] | Iterable[str | Mapping[str, Any]],
    output: str | os.PathLike[str] | None = None,
    *,
    n: int = 1,
    file_format: FileFormat | None = None,
    alternatives: bool = False,
    carry: Collection[str] = (),
    max_cost: float | None = None,
    concurrency: int | None = None,
    deployment: str | None = None,
    profile: str | None = None,
    on_check: Callable[[int], object] | None = None,
    **shared: Any,
) -> CloudBatch:
    """Check all prompts, and plan a run in AWS. Changes nothing in AWS.

    Args:
        prompts, n, file_format, alternatives, carry, on_check: as for `lambdiff.batch`.
        output: a results folder, whose images are not generated again.
        max_cost: dollars that the run cannot exceed whatever happens; rows that do not fit are left out.
        concurrency: images in progress at once; by default what the account has free.
        deployment: a saved deployment with `batch`; by default the saved default one.
        profile: an AWS profile.
        shared: parameters of rows without a value of their own, as for `lambdiff.batch`.

    Raises:
        InvalidRequest: rows are bad, or not even one fits into `max_cost`.
        ConfigurationError: there is no deployment, or it was deployed without `batch`.
        CredentialsError, DeployError: AWS cannot be asked.
    """
    n = checked("n", n, Count)
    if max_cost is not None:
        max_cost = checked("max_cost", max_cost, MaxCost)
    if concurrency is not None:
        concurrency = checked("max_workers", concurrency, Concurrency)
    source = source_of(prompts, file_format, frozenset(carry))
    target = cloud_run.open_target(select(deployment, profile))
    with Client(deployment=deployment, profile=profile) as client:  # the same image, and so the same model
        expand = alternatives_in_prompts.expand if alternatives else None
        reader = ItemReader(source, client.health(), encode_pictures(shared), n=n, expand=expand)
    reader.check(on_check or (lambda _: None))
    folder = Path(output).expanduser() if output is not None else None

    def items() -> Iterator[BatchItem]:
        there = _files_of(folder)
        return (to_stored(item) for item in reader.items() if item.key not in there)

    return CloudBatch(target, cloud_run.prepare(target, items, max_cost=max_cost, concurrency=concurrency))


def _files_of(folder: Path | None) -> frozenset[str]:
    """Return the keys of the images that a results folder has."""
    if folder is None or not folder.is_dir():
        return frozenset()
    results = ResultsFolder(folder)
    try:
        found = [(line.key, line.file) for line in results.latest() if line.file]
    finally:
        results.close()
    return frozenset(key for key, file in found if (folder / file).is_file())

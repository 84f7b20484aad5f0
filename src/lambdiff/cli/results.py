"""The images and failures of one `lambdiff generate`, and what the command prints about them."""

from __future__ import annotations

from typing import Any

import click

from lambdiff.cli import echo_json
from lambdiff.cli.flags import with_flags
from lambdiff.cli.output import OutputPlan
from lambdiff.client.batch import Failure
from lambdiff.client.endpoint import Endpoint
from lambdiff.client.image import GeneratedImage
from lambdiff.errors import LambdiffError
from lambdiff.printable import printable


class Results:
    """Writes each image as it arrives, and remembers what to report.

    Args:
        plan: the name of each file.
        seeds: the seed of each image.
    """

    def __init__(self, plan: OutputPlan, seeds: list[int]) -> None:
        self.plan = plan
        self.seeds = seeds
        self._images: dict[int, dict[str, Any]] = {}
        self._failures: dict[int, LambdiffError] = {}
        self._warnings: dict[str, None] = {}

    @property
    def exit_code(self) -> int:
        """The worst of the failures' exit codes; 0 without failures."""
        return max((error.exit_code for error in self._failures.values()), default=0)

    @property
    def first_file(self) -> str | None:
        """The name of the first image's file; None if there is no image."""
        return self._images[min(self._images)]["file"] if self._images else None

    def add(self, index: int, image: GeneratedImage) -> None:
        """Write image number `index` to its file.

        Raises:
            OutputError: it could not be written.
        """
        file = self.plan.write(image, index, self.seeds[index])
        self._images[index] = {"file": file, **image.to_dict()}
        self._warnings.update(dict.fromkeys(image.warnings))

    def add_any(self, index: int, result: GeneratedImage | Failure) -> None:
        """Write image number `index`, or remember why there is none."""
        try:
            if isinstance(result, Failure):
                raise result.error
            self.add(index, result)
        except LambdiffError as error:
            self._failures[index] = error

    def print_messages(self, *, quiet: bool) -> None:
        """Print each distinct warning and every failure to stderr."""
        if not quiet:
            for warning in self._warnings:
                click.echo(f"Note: {printable(with_flags(warning))}", err=True)
        for index, error in self._failures.items():
            click.echo(with_flags(f"Error: seed {self.seeds[index]}: {error.message}\n  {error.fix}"), err=True)

    def print(self, endpoint: Endpoint, *, as_json: bool) -> None:
        """Print the names of the files, or the complete report, to stdout."""
        images = [self._images[index] for index in sorted(self._images)]
        if as_json:
            failures = [
                {
                    "seed": self.seeds[index],
                    "error": error.message,
                    "fix": error.fix,
                    "exit_code": error.exit_code,
                }
                for index, error in sorted(self._failures.items())
            ]
            echo_json({"images": images, "failures": failures, **endpoint.describe()})
        elif not self.plan.stdout:
            for image in images:
                click.echo(image["file"])

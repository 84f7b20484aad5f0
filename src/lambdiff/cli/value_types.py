"""The types of options and arguments. Each refuses a bad value in the words of the library and the flag.

--steps must be a whole number in 1..100, not 0.
--scheduler must be one of ddim, ddpm, dpmpp_2m, ..., not 'eular'; did you mean euler?
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NoReturn, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from lambdiff.cli.flags import flag_of
from lambdiff.protocol import contract
from lambdiff.protocol.validation import BadValue, convert

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType  # not generic at run time before click 8.4


class Value(_Type):
    """A value of an annotated type, such as a field of the contract.

    Args:
        kind: `Literal` with the choices, or `str`, `int` or `float`, annotated with limits.
    """

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.choices = [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else []
        self.name = "choice" if self.choices else "value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value as the type that it must have."""
        try:
            return convert(self._parsed(value), self.kind)
        except BadValue as error:
            refuse(str(error), param, ctx)

    def _parsed(self, value: Any) -> Any:
        first = get_args(self.kind)[0]
        if first is str or isinstance(first, str):
            return value
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        return value

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        """List the choices in the help text."""
        return f"[{'|'.join(self.choices)}]" if self.choices else None

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete one of the choices."""
        return [CompletionItem(choice) for choice in self.choices if choice.startswith(incomplete)]


class SchedulerValue(Value):
    """A scheduler, by the contract's name or by that of another tool, such as `Euler a` or `DPM++ 2M Karras`."""

    SIGMA_SCHEDULE: Final = "lambdiff.sigma_schedule"
    """The key in `click.Context.meta` of the spacing of noise levels that the name contains."""

    def __init__(self) -> None:
        super().__init__(contract.SchedulerName)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the contract's name."""
        from lambdiff.client.foreign_metadata import samplers

        found = samplers.translate(str(value))
        if found.scheduler is None:
            if nearest := samplers.nearest(str(value)):
                refuse(f"{value!r} is not supported; the most similar one is {nearest}", param, ctx)
            return super().convert(value, param, ctx)  # refuses it
        if found.notes:
            refuse(f"{value!r}: the scheduler {found.scheduler} has no such spacing of noise levels", param, ctx)
        if ctx and found.sigma_schedule != "normal":
            ctx.meta[self.SIGMA_SCHEDULE] = found.sigma_schedule
        return found.scheduler


class Unchecked(Value):
    """A value of such a type that the command checks itself, together with its other values, to name all problems."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a number if it is one, else the text."""
        return self._parsed(value)


def whole(low: int, high: int) -> Value:
    """Return the type of a whole number in a range."""
    from msgspec import Meta

    return Value(Annotated[int, Meta(ge=low, le=high)])


def number(low: float, high: float) -> Value:
    """Return the type of a number in a range."""
    from msgspec import Meta

    return Value(Annotated[float, Meta(ge=low, le=high)])


class Size(_Type):
    """A size in pixels, such as `512x512`."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return (width, height)."""
        match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", str(value))  # noqa: RUF001 (a cross is accepted, too)
        if not match:
            refuse(f"must be a size such as 512x512, not {value!r}", param, ctx)
        sides = []
        for name, side in zip(("width", "height"), match.groups(), strict=True):
            try:
                sides.append(convert(int(side), contract.Pixels))
            except BadValue as error:
                refuse(f"{value}: the {name} {error}", param, ctx)
        return sides[0], sides[1]


class WeightedFile(_Type):
    """A file and a weight, such as `detail.safetensors:0.8`; the weight is 1 by default."""

    name = "FILE[:WEIGHT]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Return (file, weight)."""
        file, _, weight = str(value).rpartition(":")
        if not file or Path(value).exists():
            return str(value), 1.0
        try:
            return file, float(weight)
        except ValueError:
            if Path(file).exists():
                refuse(f"must end in a weight such as 0.8, not {weight!r}", param, ctx)
            return str(value), 1.0  # a colon of the path

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the file."""
        return [CompletionItem(incomplete, type="file")]


class NamedFile(_Type):
    """A file, with or without a name for it, such as `style=my-style-v2.safetensors`."""

    name = "[NAME=]FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str | None, str]:
        """Return (name, file); the name is None if there is none."""
        name, equals, file = str(value).partition("=")
        return (name, file) if equals and not Path(value).exists() else (None, str(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the file."""
        return [CompletionItem(incomplete, type="file")]


class CommaSeparated(_Type):
    """Several values of one type, separated by commas."""

    def __init__(self, item: Any) -> None:
        self.item = item
        self.name = f"{item.name},..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        """Return the values in order."""
        return [self.item.convert(part.strip(), param, ctx) for part in str(value).split(",")]


def refuse(detail: str, param: click.Parameter | None, ctx: click.Context | None) -> NoReturn:
    """Refuse the value of a parameter.

    Args:
        detail: what it must be, as in "must be 1..100, not 0".
        param: names the flag.
        ctx: for the usage line.

    Raises:
        click.UsageError: always.
    """
    text = f"{flag_of(param)} {detail}" if param else detail
    raise click.UsageError(text if text.endswith("?") else f"{text}.", ctx)

"""Turn rows of prompts into complete requests with keys: everything is checked here, before anything is generated."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from lambdiff.batches.prompt_files import PARAMETERS, PromptFile, Row
from lambdiff.client.parameters import GenerationParameters, consecutive_seeds
from lambdiff.client.pictures import EncodedPicture, encode_pictures
from lambdiff.errors import ConfigurationError, InvalidRequest
from lambdiff.protocol import pictures
from lambdiff.protocol.contract import MAX_SEED, GenerateRequest, Generation, Health
from lambdiff.protocol.request_key import request_key

MAX_NAMED: Final = 20
"""How many bad rows a message names."""
_KEPT_PICTURES: Final = 16
"""How many encoded start images stay in memory."""

Expand = Callable[[str], Iterable[str]]
"""Returns the prompts that one with alternatives stands for."""


@dataclass(frozen=True)
class Item:
    """One image to be made.

    Attributes:
        number: its position, from 1: by row, and within a row by alternative and seed.
        line: the row's line in the file; the position in a list.
        request: every parameter is set, so that no default of the endpoint can change it.
        generation: the same, as the engine takes it.
        key: names the image by its request and the model, see `request_key`.
        extra: the columns that are not parameters.
    """

    number: int
    line: int
    request: GenerateRequest = field(repr=False)
    generation: Generation = field(repr=False)
    key: str
    extra: Mapping[str, Any] = field(repr=False)


class ItemReader:
    """The items of prompts, for one model.

    Args:
        prompts: a file, or a list of texts and of mappings with parameters and other columns.
        health: the endpoint's, with its model, defaults and limits.
        shared: parameters for all rows; those of a row take precedence.
        n: images of each prompt, with consecutive seeds.
        expand: returns the prompts that a prompt stands for; by default itself.

    Attributes:
        model: the name and the revision of the model that the keys are for.

    Raises:
        ConfigurationError: the endpoint does not tell which model it has.

    Example:
        >>> with lambdiff.Client(local=True) as client:
        ...     reader = ItemReader(["a cat", {"prompt": "a dog", "seed": 7, "id": "d"}], client.health())
        >>> [(item.number, item.request.prompt, dict(item.extra)) for item in reader.items()]
        [(1, 'a cat', {}), (2, 'a dog', {'id': 'd'})]
    """

    def __init__(
        self,
        prompts: PromptFile | Iterable[str | GenerationParameters | Mapping[str, Any]],
        health: Health,
        shared: Mapping[str, Any] | None = None,
        *,
        n: int = 1,
        expand: Expand | None = None,
    ) -> None:
        if not health.model.digest:
            raise ConfigurationError(
                "The endpoint does not tell which model it has, so its images cannot be recognized in a later run.",
                fix="Deploy it again with this version of lambdiff.",
            )
        self._file = prompts if isinstance(prompts, PromptFile) else None
        self._list = [] if isinstance(prompts, PromptFile) else list(prompts)
        self._health = health
        self._shared = {name: value for name, value in (shared or {}).items() if value is not None}
        self._n = n
        self._expand = expand
        self.model = f"{health.model.name}@{health.model.revision}"
        self._pictures = _PictureCache(self._file.path.parent if self._file else Path())

    def check(self, on_row: Callable[[int], object] = lambda _: None) -> int:
        """Check all rows, and return how many images they stand for.

        Args:
            on_row: called with the number of rows so far.

        Raises:
            InvalidRequest: rows are bad; the message names the first ones with their lines, `problems` the same.
        """
        problems: list[tuple[str, str]] = []
        bad = images = rows = 0
        for rows, row in enumerate(self._rows(), 1):
            try:
                images += sum(1 for _ in self._of_row(row, Counter(), 0))
            except InvalidRequest as error:
                bad += 1
                if bad <= MAX_NAMED:
                    where = f"line {row.line}" if self._file else f"prompts[{row.line - 1}]"
                    problems += [(where if not name else f"{where}: {name}", detail) for name, detail in error.problems]
            on_row(rows)
        if bad:
            listed = "\n".join(f"{where} {detail}" for where, detail in problems)
            more = f"\nand {bad - MAX_NAMED:,} more rows" if bad > MAX_NAMED else ""
            count = f"{bad:,} row{'' if bad == 1 else 's'} of {rows:,}"
            raise InvalidRequest(
                f"{count} cannot be used:\n{listed}{more}", fix="Nothing was generated.", problems=problems
            )
        if not rows:
            raise InvalidRequest("There are no prompts.", fix="Give at least one.")
        return images

    def items(self) -> Iterator[Item]:
        """Yield the items in order.

        Raises:
            InvalidRequest: a row is bad, because the file has changed since `check`.
        """
        seen: Counter[bytes] = Counter()
        number = 0
        for row in self._rows():
            try:
                for item in self._of_row(row, seen, number):
                    number = item.number
                    yield item
            except InvalidRequest as error:
                raise InvalidRequest(
                    f"Line {row.line} has changed and is bad now: {error.message}", problems=error.problems
                ) from None

    def _rows(self) -> Iterator[Row]:
        if self._file:
            yield from self._file.rows()
            return
        for line, given in enumerate(self._list, 1):
            if isinstance(given, str):
                yield Row(line, {"prompt": given})
            elif isinstance(given, Mapping):
                fields = {name: value for name, value in given.items() if name in PARAMETERS}
                yield Row(line, fields, {name: value for name, value in given.items() if name not in PARAMETERS})
            else:
                yield Row(line, {}, problems=(("", f"must be text or a mapping, not {type(given).__name__}"),))

    def _of_row(self, row: Row, seen: Counter[bytes], number: int) -> Iterator[Item]:
        """Yield the items of a row.

        Args:
            row: the row.
            seen: how many rows without a seed were the same as one before, by their hashes; changed.
            number: of the item before.

        Raises:
            InvalidRequest: with one entry in `problems` for everything that is wrong.
        """
        if row.problems:
            raise InvalidRequest("", problems=row.problems)
        given = {**self._shared, **{name: value for name, value in row.fields.items() if value is not None}}
        fields = self._pictures.encode(given)
        # The first is checked before alternatives are expanded, whose library knows no limits.
        template = GenerateRequest.from_fields(fields)
        prompts = self._expand(template.prompt) if self._expand else [template.prompt]
        numbers = itertools.count(number + 1)
        for prompt in prompts:
            request = (
                template if prompt == template.prompt else GenerateRequest.from_fields({**fields, "prompt": prompt})
            )
            first = request.seed if request.seed is not None else _derived_seed(request, seen)
            for seed in consecutive_seeds(first, self._n):
                yield self._item(next(numbers), row, msgspec.structs.replace(request, seed=seed))

    def _item(self, number: int, row: Row, request: GenerateRequest) -> Item:
        health = self._health
        health.limits.check_pictures(request)
        generation = request.resolve(health.defaults, health.limits)
        health.limits.check(generation)
        plain = [name for name in PARAMETERS if name not in pictures.KINDS]
        complete = msgspec.structs.replace(request, **{name: getattr(generation, name) for name in plain})
        return Item(number, row.line, complete, generation, request_key(generation, health.model.digest), row.extra)


def _derived_seed(request: GenerateRequest, seen: Counter[bytes]) -> int:
    """Return a seed that follows from the request itself, so that the same file gives the same images in every run.

    The second of two equal requests gets another one.
    """
    content = hashlib.sha256(request.to_json()).digest()
    seen[content[:8]] += 1
    digest = hashlib.sha256(content + seen[content[:8]].to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:8], "big") % (MAX_SEED + 1)


class _PictureCache:
    """Start images and masks, encoded; the last ones stay in memory, because rows often share them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._encoded: dict[Any, EncodedPicture] = {}

    def encode(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return fields whose pictures are base64; paths are relative to the folder."""
        kinds = [kind for kind in pictures.KINDS if fields.get(kind) is not None]
        if not kinds:
            return fields
        size = (fields.get("width"), fields.get("height"))
        encoded = dict(fields)
        for kind in kinds:
            source = fields[kind]
            path = str(self._folder / Path(source).expanduser()) if isinstance(source, str) else None
            key = (kind, size, path)
            if path is None or key not in self._encoded:
                given = {kind: path or source, "width": size[0], "height": size[1]}
                picture = encode_pictures(given)[kind]
                if path is not None:
                    self._encoded = dict([*self._encoded.items(), (key, picture)][-_KEPT_PICTURES:])
            else:
                picture = self._encoded[key]
            encoded[kind] = picture.text
        return encoded

"""Makes the image of one item of a batch run, and keeps it in the run's bucket.

    is it there?    HEAD of the image: nothing to do, and nothing is loaded
    is it ours?     the key must be that of the request at the model in this container image
    claim           at most one execution at a time generates an image (`claims.py`)
    generate        by the same `App` that answers the Function URL
    PUT             with If-None-Match, then a record of what was done

Images are not repeated: an error ends the item, and the next run of the same file makes what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lambdiff.errors import LambdiffError
from lambdiff.handler import event, request_log
from lambdiff.handler.app import App
from lambdiff.handler.claims import ImageClaimed, acquire, release
from lambdiff.protocol.batch_layout import BatchEvent, BatchRecord, Outcome, image_name, record_name
from lambdiff.protocol.contract import GenerateRequest
from lambdiff.protocol.headers import JSON, WARNINGS_HEADER, decode_warnings
from lambdiff.protocol.http import HttpRequest, HttpResponse
from lambdiff.protocol.problems import Problem
from lambdiff.protocol.request_key import request_key

if TYPE_CHECKING:
    from lambdiff.handler.claims import ObjectStore

_NO_CONTEXT_S: Final = 900.0
"""Lambda's longest timeout, where nothing says how much time is left."""


class ItemRefused(Exception):
    """The item cannot be generated, and trying again would not help. The message names fields, never their values."""


class GenerationFailed(Exception):
    """The image could not be generated this time; the log has details."""


class BatchWorker:
    """Makes images of batch runs, one after the other.

    Args:
        app: generates the images.
        open_store: returns the bucket; called once.
        write_log: takes one entry per item.
        clock: the time, in seconds since the epoch.
        started: when this environment started, which the first item's record includes; None if that is unknown.
    """

    def __init__(
        self,
        app: App,
        open_store: Callable[[], ObjectStore],
        *,
        write_log: request_log.Log = request_log.discard,
        clock: Callable[[], float] = time.time,
        started: float | None = None,
    ) -> None:
        self._app = app
        self._open_store = open_store
        self._write_log = write_log
        self._clock = clock
        self._started = started
        self._store: ObjectStore | None = None

    def __call__(self, lambda_event: object, context: event.LambdaContext | None = None) -> dict[str, Any]:
        """Handle one event of the state machine.

        Returns:
            `key`, `outcome` and `seconds` of the record, but no text that may quote the prompt.

        Raises:
            ItemRefused: the request is wrong, or belongs to another model.
            ImageClaimed: another execution is generating the image.
            GenerationFailed: something failed, for example because the time ran out.
        """
        begun = self._clock() if self._started is None else self._started
        self._started = None
        try:
            given = msgspec.convert(lambda_event, BatchEvent)
        except msgspec.ValidationError:
            # msgspec's message may quote what was sent.
            raise ItemRefused("The event is not an item of a batch run.") from None
        item = _Item(given, self._app, self.store, event.request_id(lambda_event, context), _seconds_left(context))
        error: Exception | None = None
        try:
            outcome: Outcome = item.make(self._clock)
        except ItemRefused as refused:
            outcome, error = "refused", refused
        except ImageClaimed as claimed:
            outcome, error = "claimed", claimed
        except GenerationFailed as failed:
            outcome, error = "failed", failed
        record = BatchRecord(
            key=given.item.key,
            outcome=outcome,
            seconds=round(self._clock() - begun, 3),
            problem=item.problem,
            fields=item.fields,
            warnings=item.warnings,
            request_id=item.request_id,
        )
        self._write_log(
            {
                "level": "INFO" if outcome in ("generated", "present", "claimed") else "ERROR",
                "request_id": item.request_id,
                "run": given.run,
                "key": record.key,
                "outcome": outcome,
                "seconds": record.seconds,
                **({"problem": record.problem} if record.problem else {}),
            }
        )
        self.store.put(record_name(given.run, record), msgspec.json.encode(record), use_multipart=False)
        if error is not None:
            raise error
        return {"key": record.key, "outcome": outcome, "seconds": record.seconds}

    @property
    def store(self) -> ObjectStore:
        """The bucket."""
        if self._store is None:
            self._store = self._open_store()
        return self._store


class _Item:
    """One item in progress, and what its record will say."""

    def __init__(self, given: BatchEvent, app: App, store: ObjectStore, request_id: str, seconds_left: float) -> None:
        self._key, self._body = given.item.key, msgspec.json.encode(given.item.request)
        self._app, self._store = app, store
        self._seconds_left = seconds_left
        self.request_id = request_id
        self.problem = ""
        self.fields: list[str] = []
        self.warnings: list[str] = []

    def make(self, clock: Callable[[], float]) -> Outcome:
        """Make the image, unless it is there."""
        deadline = time.monotonic() + self._seconds_left
        try:
            request = GenerateRequest.from_json(self._body)
        except LambdiffError as error:
            raise self._refused("invalid-value", error) from None
        name = image_name(self._key, request.image_format)
        if self._exists(name):
            return "present"
        self._check_key(request)
        claim = acquire(self._store, self._key, self.request_id, self._seconds_left, clock=clock)
        if claim.taken_over and self._exists(name):
            return "present"
        response = self._app.handle(
            HttpRequest(
                method="POST",
                headers={"content-type": JSON},
                body=self._body,
                request_id=self.request_id,
                deadline=deadline,
            )
        )
        if response.status != 200:
            release(self._store, claim)
            raise self._failed(response)
        self.warnings = decode_warnings(response.headers.get(WARNINGS_HEADER))
        return self._save(name, response)

    def _check_key(self, request: GenerateRequest) -> None:
        try:
            manifest = self._app.engine.manifest
            manifest.limits.check_pictures(request)
            generation = request.resolve(manifest.defaults, manifest.limits)
            manifest.limits.check(generation)
            generation.decode_pictures()
        except LambdiffError as error:
            raise self._refused("invalid-value", error) from None
        if request_key(generation, manifest.digest) != self._key:
            self.problem = "wrong-key"
            raise ItemRefused(
                "The key is not that of the request at this model: the request is incomplete, or the deployment has "
                "another model now."
            )

    def _save(self, name: str, response: HttpResponse) -> Outcome:
        from obstore.exceptions import AlreadyExistsError

        try:
            self._store.put(
                name,
                response.body,
                mode="create",
                attributes={"Content-Type": response.content_type},
                use_multipart=False,
            )
        except AlreadyExistsError:  # of an execution whose claim had expired
            self.problem = "already-there"
        return "generated"

    def _exists(self, name: str) -> bool:
        try:
            self._store.head(name)
        except FileNotFoundError:
            return False
        return True

    def _refused(self, slug: str, error: LambdiffError) -> ItemRefused:
        known = set(GenerateRequest.__struct_fields__)
        names = {name for name, _ in getattr(error, "problems", [])}
        self.problem = slug
        self.fields = sorted({name if name in known else "?" for name in names})  # unknown names may quote the prompt
        return ItemRefused(f"The request was refused ({slug}): {', '.join(self.fields) or type(error).__name__}.")

    def _failed(self, response: HttpResponse) -> Exception:
        problem = msgspec.json.decode(response.body, type=Problem)
        self.problem = problem.type.rpartition(":")[2]
        self.fields = sorted({each.field for each in problem.errors} & set(GenerateRequest.__struct_fields__))
        if response.status < 500:
            return ItemRefused(f"The request was refused ({self.problem}): {', '.join(self.fields)}.")
        return GenerationFailed(f"The image could not be generated ({self.problem}).")


def _seconds_left(context: event.LambdaContext | None) -> float:
    return _NO_CONTEXT_S if context is None else context.get_remaining_time_in_millis() / 1000

"""Claims: at most one execution at a time generates an image.

A claim is an object with an owner and the time at which it expires. It is created with `If-None-Match: *`, and an
expired one is taken over with `If-Match`, so that of two executions exactly one succeeds. It expires when Lambda has
ended the call that holds it for sure; until then nobody knows whether a killed call is still running.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from lambdiff.protocol.batch_layout import claim_name

if TYPE_CHECKING:
    from obstore.store import MemoryStore, S3Store

    ObjectStore = S3Store | MemoryStore

SKEW_S: Final = 10.0
"""Seconds by which the clocks of two hosts may differ."""


class ImageClaimed(Exception):
    """Another execution is generating the image, or was killed while it did, and its claim has not expired.

    Attributes:
        seconds: until the claim expires.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Another execution has claimed this image; its claim expires in {seconds:.0f} s.")
        self.seconds = seconds


class _Content(Struct, frozen=True):
    owner: str
    expires: float


@dataclass(frozen=True)
class Claim:
    """A claim that this execution holds.

    Attributes:
        name: the claim's object.
        version: identifies what was written, for conditional writes.
        taken_over: whether it was another execution's, which may have finished the image.
    """

    name: str
    version: dict[str, str]
    owner: str
    taken_over: bool = False


def acquire(
    store: ObjectStore, key: str, owner: str, seconds: float, *, clock: Callable[[], float] = time.time
) -> Claim:
    """Claim an image.

    Args:
        store: the bucket.
        key: the image's key.
        owner: identifies the call, for whoever looks at the bucket.
        seconds: the time after which the call has ended for sure.
        clock: the time, in seconds since the epoch.

    Raises:
        ImageClaimed: another execution holds the claim.

    Example:
        >>> from obstore.store import MemoryStore
        >>> store = MemoryStore()
        >>> claim = acquire(store, "ab", "one", 60, clock=lambda: 1000.0)
        >>> acquire(store, "ab", "two", 60, clock=lambda: 1030.0)
        Traceback (most recent call last):
            ...
        lambdiff.handler.claims.ImageClaimed: Another execution has claimed this image; its claim expires in 40 s.
        >>> acquire(store, "ab", "two", 60, clock=lambda: 1070.0).taken_over
        True
    """
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    name, now = claim_name(key), clock()
    content = msgspec.json.encode(_Content(owner, now + seconds + SKEW_S))
    try:
        return Claim(name, _version(store.put(name, content, mode="create", use_multipart=False)), owner)
    except AlreadyExistsError:
        pass
    try:
        found = store.get(name)
        left = _expiry(bytes(found.bytes())) - now
        if left > 0:
            raise ImageClaimed(left)
        mode: Any = _version(found.meta)
        return Claim(name, _version(store.put(name, content, mode=mode, use_multipart=False)), owner, taken_over=True)
    except (FileNotFoundError, PreconditionError):
        # Deleted by the bucket's lifecycle, or taken over by another execution, just now.
        raise ImageClaimed(seconds) from None


def release(store: ObjectStore, claim: Claim) -> None:
    """Let the claim expire now, because the image was not generated; do nothing if it is another execution's by now."""
    from obstore.exceptions import PreconditionError

    mode: Any = claim.version
    try:
        store.put(claim.name, msgspec.json.encode(_Content(claim.owner, 0.0)), mode=mode, use_multipart=False)
    except (FileNotFoundError, PreconditionError):
        return


def _expiry(content: bytes) -> float:
    """When a claim expires; one that cannot be read has expired."""
    try:
        return msgspec.json.decode(content, type=_Content).expires
    except msgspec.DecodeError:
        return 0.0


def _version(meta: Any) -> dict[str, str]:
    """What a conditional write has to match: the tag and, in stores that have them, the version."""
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}

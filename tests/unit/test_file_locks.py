"""Files that several processes change (file_locks.py): no change is lost, and no lock outlives its holder."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import pytest

from lambdiff import config
from lambdiff.client import progress
from lambdiff.config import Deployment
from lambdiff.errors import OutputError
from lambdiff.file_locks import locked

WORKERS = 12
ROUNDS = 3
FORK = multiprocessing.get_context("fork")


def save_many(number: int, start: Barrier) -> None:
    """Save a deployment and a duration in each round, at the same time as the others."""
    for round_number in range(ROUNDS):
        start.wait(60)
        config.save(Deployment(name=f"d{number}-{round_number}", url="https://x/", region="us-east-1"))
        progress.remember_seconds(f"https://{number}/{round_number}", number)


def remove_many(number: int, start: Barrier) -> None:
    """Remove a deployment in each round, at the same time as the others."""
    for round_number in range(ROUNDS):
        start.wait(60)
        config.remove(f"d{number}-{round_number}")


def run_at_once(work: Callable[[int, Barrier], None], workers: type) -> None:
    """Run `work` in twelve threads or processes that start each round together."""
    barrier = threading.Barrier if workers is threading.Thread else FORK.Barrier
    start = barrier(WORKERS)
    running = [workers(target=work, args=(number, start)) for number in range(WORKERS)]
    for each in running:
        each.start()
    for each in running:
        each.join(60)
        assert getattr(each, "exitcode", 0) == 0


@pytest.mark.linux
@pytest.mark.parametrize("workers", [FORK.Process, threading.Thread], ids=["processes", "threads"])
def test_parallel_changes_are_all_kept(workers: type) -> None:
    """Twelve writers at once lose nothing, neither what they add nor what they remove."""
    run_at_once(save_many, workers)
    names = {f"d{number}-{each}" for number in range(WORKERS) for each in range(ROUNDS)}
    assert config.load().deployments.keys() == names
    kept = [
        progress.expected_seconds(f"https://{number}/{each}") for number in range(WORKERS) for each in range(ROUNDS)
    ]
    assert kept == [number for number in range(WORKERS) for _ in range(ROUNDS)]
    run_at_once(remove_many, workers)
    assert config.load() == config.Deployments()


def hold(path: Path, held: Event) -> None:
    """Hold a lock until this process is killed."""
    with locked(path):
        held.set()
        time.sleep(600)


@pytest.mark.linux
def test_a_lock_excludes_others_and_ends_with_its_process() -> None:
    """While another process holds the lock, a change is refused after a while; once it is killed, it succeeds."""
    held = FORK.Event()
    holder = FORK.Process(target=hold, args=(config.path(), held))
    holder.start()
    try:
        assert held.wait(60)
        with pytest.raises(OutputError, match="Another process"), locked(config.path(), patience=0.1):
            pass
    finally:
        os.kill(holder.pid or 0, signal.SIGKILL)
        holder.join()
    started = time.monotonic()
    config.save(Deployment(name="mine", url="https://x/", region="us-east-1"))
    assert time.monotonic() - started < 5


@pytest.mark.linux
@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EROFS, errno.EINVAL, errno.ENOSYS])
def test_without_locks_a_change_is_written_all_the_same(monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    """A file system that supports no locks, such as some network shares, prevents no change."""

    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr("fcntl.flock", refuse)
    config.save(Deployment(name="mine", url="https://x/", region="us-east-1"))
    assert list(config.load().deployments) == ["mine"]


def test_a_failed_change_writes_nothing_and_releases_the_lock() -> None:
    """An exception in the middle of a change leaves the file as it was, and the next change need not wait."""
    config.save(Deployment(name="mine", url="https://x/", region="us-east-1"))
    before = config.path().read_bytes()
    with pytest.raises(ZeroDivisionError), config.change() as saved:
        saved.default = str(1 / 0)
    assert config.path().read_bytes() == before
    config.remove("mine")


def test_durations_of_old_endpoints_are_forgotten() -> None:
    """Only the last endpoints are remembered, so the file does not grow for ever."""
    for port in range(60):
        progress.remember_seconds(f"http://127.0.0.1:{port}/", 1.5)
    assert progress.expected_seconds("http://127.0.0.1:9/") is None
    assert progress.expected_seconds("http://127.0.0.1:10/") == 1.5

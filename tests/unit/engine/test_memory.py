"""How much memory this process may use."""

from __future__ import annotations

import os

import pytest

from lambdiff.engine import memory

pytestmark = pytest.mark.linux


@pytest.fixture
def container(monkeypatch, tmp_path):
    """The files in which the kernel shows a container's limit; neither exists yet."""
    files = (tmp_path / "memory.max", tmp_path / "limit_in_bytes")
    monkeypatch.setattr(memory, "CGROUP_LIMITS", files)
    return files


def test_without_a_container_it_is_the_machines_memory(container):
    """Without limits, it is the machine's physical memory."""
    assert memory.limit_bytes() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize("version", [0, 1])
def test_a_container_may_have_less(container, version):
    """The limit of a container counts if it is less than the machine's memory."""
    container[version].write_text("1048576\n")
    assert memory.limit_bytes() == 2**20


@pytest.mark.parametrize("text", ["max\n", f"{2**63 - 4096}\n"])
def test_a_container_without_a_limit_has_the_machines_memory(container, text):
    """Both versions of cgroups have their own way to say that there is no limit."""
    machine = memory.limit_bytes()
    container[0].write_text(text)
    assert memory.limit_bytes() == machine


def test_it_is_unknown_where_the_system_does_not_say(monkeypatch):
    """Systems without `sysconf` give None."""
    monkeypatch.delattr(os, "sysconf")
    assert memory.limit_bytes() is None

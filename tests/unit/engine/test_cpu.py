"""What the processor can do, read from the system and from the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lambdiff.engine import cpu

X86 = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f avx512_bf16 avx512_vnni\n\nprocessor\t: 1\nflags\t\t: other\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp bf16 sve\n"


@pytest.fixture
def cpuinfo(monkeypatch):
    """Replaces the kernel's list."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)

    def put(text):
        def read_text(self, **_):
            assert self == Path("/proc/cpuinfo")
            if text is None:
                raise FileNotFoundError(self)
            return text

        monkeypatch.setattr(Path, "read_text", read_text)

    return put


def test_features_are_those_that_matter_in_a_fixed_order(cpuinfo):
    """The first processor's flags, of x86 and of Arm; none where there is no such file."""
    cpuinfo(X86)
    assert cpu.features() == ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"]
    cpuinfo(ARM)
    assert cpu.features() == ["asimd", "asimddp", "bf16", "sve"]
    cpuinfo(None)
    assert cpu.features() == []


@pytest.mark.parametrize(
    ("held_to", "allowed"),
    [
        (None, True),
        ("", True),
        ("ALL", True),
        ("avx512_core_bf16", True),
        ("AVX512_CORE_AMX", True),
        ("AVX2", False),
        ("AVX512_CORE", False),
        ("AVX512_CORE_VNNI", False),
        ("AVX2_VNNI_2", False),
    ],
)
def test_bf16_needs_the_flag_and_no_lower_limit(cpuinfo, monkeypatch, held_to, allowed):
    """oneDNN's variable switches bf16 off; without the flag nothing switches it on."""
    if held_to is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", held_to)
    cpuinfo(X86)
    assert cpu.has_bf16() is allowed
    cpuinfo("flags : avx2\n")
    assert cpu.has_bf16() is False


@pytest.mark.parametrize(("held_to", "allowed"), [("", True), ("AVX512_CORE_VNNI", True), ("AVX512_CORE", False)])
def test_vnni_needs_the_flag_and_no_lower_limit(cpuinfo, monkeypatch, held_to, allowed):
    """As bf16, one step lower."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", held_to)
    cpuinfo(X86)
    assert cpu.has_vnni() is allowed
    cpuinfo(ARM)
    assert cpu.has_vnni() is False


def test_threads_are_the_processors_of_this_process():
    """As many as the scheduler allows, at least one."""
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert cpu.threads() == expected >= 1

"""The processor's features, as listed by the kernel and limited by the environment (engine/cpu.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lambdiff.engine import cpu

X86 = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f avx512_bf16 avx512_vnni\n\nprocessor\t: 1\nflags\t\t: other\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp bf16 sve\n"


@pytest.fixture
def cpuinfo(monkeypatch):
    """A function that replaces the contents of /proc/cpuinfo; None stands for a system without it."""
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


def test_relevant_features_are_listed_in_a_fixed_order(cpuinfo):
    """The first processor's relevant features are listed, on x86 and on Arm; without /proc/cpuinfo there are none."""
    cpuinfo(X86)
    assert cpu.features() == ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"]
    cpuinfo(ARM)
    assert cpu.features() == ["asimd", "asimddp", "bf16", "sve"]
    cpuinfo(None)
    assert cpu.features() == []


@pytest.mark.parametrize(
    ("limit", "allowed"),
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
def test_bf16_needs_the_cpu_flag_and_a_sufficient_isa_limit(cpuinfo, monkeypatch, limit, allowed):
    """bf16 needs the processor's flag, and oneDNN's ISA limit can turn it off."""
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    cpuinfo(X86)
    assert cpu.has_bf16() is allowed
    cpuinfo("flags : avx2\n")
    assert cpu.has_bf16() is False


@pytest.mark.parametrize(("limit", "allowed"), [("", True), ("AVX512_CORE_VNNI", True), ("AVX512_CORE", False)])
def test_vnni_needs_the_cpu_flag_and_a_sufficient_isa_limit(cpuinfo, monkeypatch, limit, allowed):
    """VNNI needs the processor's flag, and oneDNN's ISA limit can turn it off."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    cpuinfo(X86)
    assert cpu.has_vnni() is allowed
    cpuinfo(ARM)
    assert cpu.has_vnni() is False


def test_there_is_one_thread_for_each_available_processor():
    """The number of threads is the number of processors on which this process may run."""
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert cpu.threads() == expected >= 1

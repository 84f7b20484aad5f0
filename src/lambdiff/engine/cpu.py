"""The capabilities of this machine's processor."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

# Prefixes of ONEDNN_MAX_CPU_ISA's values that allow the instructions. Any other value forbids them.
_ISA_WITH_BF16: Final = ("DEFAULT", "ALL", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10")
_ISA_WITH_VNNI: Final = (*_ISA_WITH_BF16, "AVX512_CORE_VNNI")
_LIBRARY_VARIABLES: Final = ("ONEDNN_", "DNNL_", "OV_", "OPENVINO_")
_REPORTED: Final = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "bf16",
    "sve",
)


def threads() -> int:
    """Return the number of processors that this process may use: Lambda's vCPUs, or those of a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def features() -> list[str]:
    """Return the instruction sets that matter for inference, as the kernel names them; empty outside Linux."""
    flags = _flags()
    return [name for name in _REPORTED if name in flags]


def identity() -> list[str]:
    """Return everything that decides which instructions OpenVINO compiles for: what the processor has, and what the
    environment allows.
    """
    limits = [f"{name}={value}" for name, value in os.environ.items() if name.startswith(_LIBRARY_VARIABLES)]
    return sorted([platform.machine(), *_flags(), *limits])


def has_bf16() -> bool:
    """Whether the processor has bfloat16 arithmetic and the environment allows it.

    OpenVINO lists BF16 among its capabilities even if `ONEDNN_MAX_CPU_ISA` forbids it, and then crashes.
    """
    return _has({"avx512_bf16", "amx_bf16", "bf16"}, _ISA_WITH_BF16)


def has_vnni() -> bool:
    """Whether the processor has AVX-512's eight-bit dot products and the environment allows them.

    With eight-bit weights, OpenVINO also rounds activations to eight bits, which needs these instructions. If
    `ONEDNN_MAX_CPU_ISA` limits it to AVX2, it fails to compile instead.
    """
    return _has({"avx512_vnni"}, _ISA_WITH_VNNI)


def _has(flags: set[str], allowed_by: tuple[str, ...]) -> bool:
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "DEFAULT"
    return limit.upper().startswith(allowed_by) and not _flags().isdisjoint(flags)


def _flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return set()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return set(value.split())
    return set()

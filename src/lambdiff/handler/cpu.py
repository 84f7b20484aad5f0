"""The features of this machine's processor that decide how fast an engine is. Copied into the image."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

# Linux's names, x86 first: https://github.com/torvalds/linux/blob/master/arch/x86/include/asm/cpufeatures.h,
# then Arm: https://docs.kernel.org/arch/arm64/elf_hwcaps.html
KNOWN: Final = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16", "avx_vnni",
    "asimd", "asimddp", "sve", "i8mm", "bf16",
)  # fmt: skip


@functools.cache
def features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """The known features of the first processor; nothing where the system is not Linux."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return ()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            present = set(value.split())
            return tuple(feature for feature in KNOWN if feature in present)
    return ()

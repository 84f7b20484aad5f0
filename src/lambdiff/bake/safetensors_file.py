"""A `.safetensors` file: its header is read and checked, its tensors are not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lambdiff.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]

_PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_FIX_PICKLE: Final = "Download the .safetensors version of the file: pickles can run code when they are read."
_FIX_DOWNLOAD: Final = "Download the file again and compare its size with the page's."
_NUMBERS: Final = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
"""The types of weights that can be baked. Eight-bit floating point is widened to f16."""
_FIRST_BYTES: Final[dict[bytes, tuple[str, str]]] = {
    b"PK\x03\x04": ("a pickle", _FIX_PICKLE),
    b"\x80\x02": ("a pickle", _FIX_PICKLE),
    b"GGUF": ("a GGUF file", "Download the .safetensors version of the file."),
    b"version https://git-lfs": ("a Git LFS pointer and not the file itself", _FIX_DOWNLOAD),
    b"<": ("a web page", "Log in to the website and download the file itself."),
    b"{": (
        "JSON, such as a website's error message",
        "Log in to the website and download the file itself; of a model that diffusers saved, pass the folder.",
    ),
}


@dataclass(frozen=True)
class SafetensorsFile:
    """The header of a file of weights.

    Attributes:
        path: the file.
        shapes: the shape of each tensor, by name.
        types: the type of each tensor by name, such as `F16`.
        metadata: texts that the program which wrote the file has added.
    """

    path: Path
    shapes: Mapping[str, Shape]
    types: Mapping[str, str]
    metadata: Mapping[str, str]

    def named(self, prefix: str) -> dict[str, Shape]:
        """Return the shapes of the tensors whose names begin with `prefix`, without the prefix."""
        return {name.removeprefix(prefix): shape for name, shape in self.shapes.items() if name.startswith(prefix)}

    def check_numbers(self, names: Iterable[str]) -> None:
        """Check that tensors are floating-point numbers.

        Raises:
            ModelError: one is quantized or has integers.
        """
        for name in names:
            if self.types[name] not in _NUMBERS:
                raise ModelError(
                    f"{self.path} stores {name} as {self.types[name]}, which is not supported.",
                    fix="Download a version in f16, bf16, f32 or eight-bit floating point.",
                )

    def tensors(self, accept: Callable[[str], bool] = lambda _: True) -> dict[str, Tensor]:
        """Read the tensors whose names are accepted, eight-bit floating point as f16 and f64 as f32.

        Raises:
            ModelError: the file cannot be read.
        """
        import torch

        widened = {torch.float8_e4m3fn: torch.float16, torch.float8_e5m2: torch.float16, torch.float64: torch.float32}

        def read() -> Iterator[tuple[str, Tensor]]:
            with _open(self.path) as file:
                for name in filter(accept, self.shapes):
                    tensor = file.get_tensor(name)
                    yield name, tensor.to(widened.get(tensor.dtype, tensor.dtype))

        return dict(read())

    def sha256(self) -> str:
        """Return the hash of the file in hexadecimal."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def read(path: Path) -> SafetensorsFile:
    """Read the header of a `.safetensors` file, which takes milliseconds.

    Raises:
        ModelError: the file is missing, is not a safetensors file, or is damaged.
    """
    if path.suffix.lower() in _PICKLES:
        raise ModelError(f"{path} is a pickle.", fix=_FIX_PICKLE)
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a folder, not a .safetensors file.", fix="Pass the file inside it.")
        with path.open("rb") as stream:
            first = stream.read(64)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path} cannot be read: {reason}.", fix="Check the path of the file.") from None
    _check_first_bytes(path, first)
    with _open(path) as file:
        names = list(file.keys())
        slices = {name: file.get_slice(name) for name in names}
        return SafetensorsFile(
            path,
            {name: tuple(part.get_shape()) for name, part in slices.items()},
            {name: str(part.get_dtype()) for name, part in slices.items()},
            dict(file.metadata() or {}),
        )


def _check_first_bytes(path: Path, first: bytes) -> None:
    if not first:
        raise ModelError(f"{path} is empty.", fix=_FIX_DOWNLOAD)
    for beginning, (what, fix) in _FIRST_BYTES.items():
        # The first eight bytes of a safetensors file are a number, which is followed by a JSON object.
        if first.startswith(beginning) and first[8:9] != b"{":
            raise ModelError(f"{path} is {what}.", fix=fix)


def _open(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{path} is not a complete safetensors file: {reason[:200]}.", fix=_FIX_DOWNLOAD) from None

"""Records an engine's inferences: `OpenVinoEngine(folder, manifest, observe=calls.record)`."""

from __future__ import annotations

from typing import Any


class ObservedCalls(list[tuple[str, int]]):
    """The part and the batch size of every inference, in order."""

    def record(self, part: str, inputs: dict[str, Any]) -> None:
        """Append an inference; pass this method as an engine's `observe`."""
        self.append((part, len(next(iter(inputs.values())))))

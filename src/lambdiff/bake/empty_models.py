"""Models of diffusers and transformers without memory for their weights, to compare names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def make(class_name: str, config: Mapping[str, Any]) -> Any:
    """Return the model that a configuration describes.

    Args:
        class_name: its class; CLIP's are in transformers, all others in diffusers.
        config: the content of its `config.json`.

    Raises:
        Exception: the library's own, if the configuration is not valid.
    """
    import diffusers
    import torch
    import transformers

    with torch.device("meta"):
        if class_name.startswith("CLIP"):
            return getattr(transformers, class_name)(transformers.CLIPTextConfig.from_dict(dict(config)))
        return getattr(diffusers, class_name).from_config(dict(config))

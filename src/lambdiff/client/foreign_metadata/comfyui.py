"""ComfyUI, which stores the graph that it ran (`prompt`) and the one that the editor shows (`workflow`), both as JSON.

A graph can compute an image in any way. Parameters are read only where the graph leaves no doubt: from the one sampler
that starts from an empty latent image, and from the one text that reaches it. Formats: `SaveImage` in
https://github.com/comfyanonymous/ComfyUI, nodes.py, and `SaveAnimatedWEBP` in comfy_extras/nodes_images.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Literal

from msgspec import Struct

from lambdiff.client.foreign_metadata.recorded import json_object, recorded
from lambdiff.errors import MetadataError
from lambdiff.protocol.metadata import ImageMetadata

_TEXT_INPUTS: Final = (
    "text",
    "text_g",
    "text_l",
    "clip_l",
    "clip_g",
    "t5xxl",
    "prompt",
    "string",
    "value",
    "positive_prompt",
)
_VALUE_INPUTS: Final = (
    "value",
    "seed",
    "noise_seed",
    "int",
    "float",
    "number",
    "steps",
    "cfg",
    "sampler_name",
    "scheduler",
)
_MAX_DEPTH: Final = 20
_MAX_NODES: Final = 2_000
_NOT_CONDITIONING: Final = frozenset(
    {"clip", "model", "vae", "control_net", "image", "pixels", "mask", "clip_vision_output"}
)
_PLAIN_NODES: Final = (
    "BasicGuider", "BasicScheduler", "CFGGuider", "CLIPLoader", "CLIPTextEncode", "CheckpointLoader",
    "ConditioningZeroOut", "DualCLIPLoader", "Empty", "KSampler", "Note", "Preview", "Primitive", "RandomNoise",
    "Reroute", "SamplerCustom",
    "SaveAnimatedWEBP", "SaveImage", "Seed", "String", "TripleCLIPLoader", "UNETLoader", "VAEDecode", "VAELoader",
)  # fmt: skip
"""Beginnings of the classes of nodes that lambdiff's own parameters cover; all others are named in a note."""
_WIDGETS: Final = {
    "CFGGuider": ("cfg",),
    "CLIPTextEncode": ("text",),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("add_noise", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler"),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "PrimitiveNode": ("value",),
    "RandomNoise": ("noise_seed",),
    "UNETLoader": ("unet_name",),
}
"""The editor's graph has the values of a node as a list: their names in that order, "" for the editor's own."""


class _Node(Struct):
    kind: str
    inputs: dict[str, Any]


_Graph = dict[str, _Node]


def read(prompt: Any, workflow: Any) -> ImageMetadata | None:
    """Read the parameters from a graph.

    Args:
        prompt: the text of the graph that ran.
        workflow: the text of the editor's graph, which is used if the other is missing.

    Returns:
        The metadata; None if there is no graph.

    Raises:
        MetadataError: the graph does not tell which prompt generated the image.
    """
    graph = _parse(json_object(prompt) or {}) or _parse_workflow(json_object(workflow) or {})
    samplers = {name: node for name, node in graph.items() if _is_sampler(node)}
    if not samplers or len(graph) > _MAX_NODES:
        return None
    used = {source for node in graph.values() for source in _links(graph, node)}
    executed = {name: node for name, node in samplers.items() if name in used} or samplers
    first = [node for node in executed.values() if _empty_latent(graph, node) is not None]
    base = first or list(executed.values())
    found = [_parameters(graph, node) for node in base]
    prompts = {each["prompt"] for each in found}
    if len(prompts) != 1 or None in prompts:
        raise MetadataError(
            "The image contains no generation parameters that can be read: it is unclear which prompt of its ComfyUI "
            "graph generated it.",
            fix="Pass the prompt yourself.",
        )
    agreed = {name: value for name, value in found[0].items() if all(each[name] == value for each in found)}
    unclear = [name for name in found[0] if name not in agreed]
    notes = [f"The graph has several values for {', '.join(unclear)}: none is used."] if unclear else []
    if len(executed) > len(base):
        notes.append("The graph refines the image with further samplers, which lambdiff does not.")
    kinds = dict.fromkeys(node.kind for node in graph.values() if not node.kind.startswith(_PLAIN_NODES))
    unsupported = dict.fromkeys(kinds, "")
    if not first:
        unsupported["an input image"] = ""
    elif agreed.get("denoise") not in (None, 1, 1.0):
        unsupported["denoise"] = agreed["denoise"]
    denoise = agreed.pop("denoise", None)
    settings = {**agreed, "denoise": denoise, "nodes": ", ".join(sorted({node.kind for node in graph.values()}))}
    return recorded("ComfyUI", **agreed, settings=settings, unsupported=unsupported, notes=notes)


def is_graph(document: dict[str, Any]) -> bool:
    """Whether a JSON object is a graph that ran."""
    return bool(_parse(document))


def _parse(document: dict[str, Any]) -> _Graph:
    """Return the nodes of the graph that ran; empty if the document is not one."""
    graph = {}
    for name, node in document.items():
        if isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict):
            graph[name] = _Node(node["class_type"], node["inputs"])
    return graph


def _parse_workflow(document: dict[str, Any]) -> _Graph:
    """Translate the editor's graph; nodes that are muted or bypassed are left out."""
    nodes, links = document.get("nodes"), document.get("links")
    if not isinstance(nodes, list) or not isinstance(links, list):
        return {}
    sources = {str(link[0]): [str(link[1]), str(link[2])] for link in links if isinstance(link, list) and len(link) > 4}
    graph = {}
    for node in nodes:
        if not isinstance(node, dict) or not isinstance(node.get("type"), str) or node.get("mode") in (2, 4):
            continue
        values = node.get("widgets_values")
        if isinstance(values, list):
            values = dict(zip(_WIDGETS.get(node["type"], ()), values, strict=False))
        inputs = values if isinstance(values, dict) else {}
        sockets = node.get("inputs")
        for socket in sockets if isinstance(sockets, list) else ():
            if isinstance(socket, dict) and str(socket.get("link")) in sources:
                inputs[str(socket.get("name"))] = sources[str(socket["link"])]
        graph[str(node.get("id"))] = _Node(node["type"], inputs)
    return graph


def _source(graph: _Graph, value: Any) -> str | None:
    """Return the name of the node that an input is linked to."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int) and str(value[0]) in graph:
        return str(value[0])
    return None


def _links(graph: _Graph, node: _Node) -> Iterator[str]:
    """Yield the names of the nodes that a node's inputs are linked to."""
    return filter(None, (_source(graph, value) for value in node.inputs.values()))


def _is_sampler(node: _Node) -> bool:
    names = node.inputs.keys()
    return {"steps", "cfg", "positive"} <= names or ({"sampler", "sigmas"} <= names and "latent_image" in names)


def _parameters(graph: _Graph, sampler: _Node) -> dict[str, Any]:
    """Return lambdiff's parameters of one sampler, None for those that the graph does not tell."""
    guider = graph.get(_source(graph, sampler.inputs.get("guider")) or "", sampler)
    sigmas = _upstream(graph, sampler.inputs.get("sigmas"), "steps") or sampler
    noise = graph.get(_source(graph, sampler.inputs.get("noise")) or "", sampler)
    chosen = graph.get(_source(graph, sampler.inputs.get("sampler")) or "", sampler)
    positive = guider.inputs.get("positive", guider.inputs.get("conditioning"))
    width, height = _empty_latent(graph, sampler) or (None, None)
    return {
        "prompt": _text(graph, positive, "positive"),
        "negative": _text(graph, guider.inputs.get("negative"), "negative"),
        "steps": _value(graph, sigmas.inputs.get("steps")),
        "scale": _value(graph, guider.inputs.get("cfg")),
        "seed": _value(graph, noise.inputs.get("seed", noise.inputs.get("noise_seed"))),
        "width": width,
        "height": height,
        "sampler": _value(graph, chosen.inputs.get("sampler_name", chosen.kind)),
        "schedule": _value(graph, sigmas.inputs.get("scheduler", "")),
        "model": _model(graph, sampler.inputs.get("model", guider.inputs.get("model"))),
        "denoise": _value(graph, sigmas.inputs.get("denoise")),
    }


def _upstream(graph: _Graph, value: Any, name: str, via: frozenset[str] | None = None) -> _Node | None:
    """Return the nearest node with an input `name`, following links, or only those of the inputs `via`."""
    for node in _walk(graph, value, via):
        if name in node.inputs:
            return node
    return None


def _walk(graph: _Graph, value: Any, via: frozenset[str] | None = None) -> Iterator[_Node]:
    """Yield the nodes that lead to an input, the nearest first."""
    seen: set[str] = set()
    waiting = deque([value])
    while waiting:
        name = _source(graph, waiting.popleft())
        if name is None or name in seen:
            continue
        seen.add(name)
        node = graph[name]
        yield node
        waiting.extend(each for key, each in node.inputs.items() if via is None or key in via)


def _empty_latent(graph: _Graph, sampler: _Node) -> tuple[Any, Any] | None:
    """Return the size of the empty latent image that a sampler starts from; None if it starts from another image."""
    for node in _walk(graph, sampler.inputs.get("latent_image"), frozenset({"samples", "latent", "latent_image", ""})):
        if _is_sampler(node):
            return None
        for prefix in ("", "empty_latent_"):
            if (prefix or "Empty" in node.kind) and f"{prefix}width" in node.inputs:
                return tuple(_value(graph, node.inputs.get(f"{prefix}{side}")) for side in ("width", "height"))
    return None


def _value(graph: _Graph, value: Any) -> Any:
    """Return a number or a text, also if it comes from a node that does nothing but hold it."""
    for _ in range(_MAX_DEPTH):
        name = _source(graph, value)
        if name is None:
            return None if isinstance(value, list | dict) else value
        inputs = graph[name].inputs
        value = next((inputs[key] for key in (*_VALUE_INPUTS, *_TEXT_INPUTS, "") if key in inputs), None)
    return None


def _model(graph: _Graph, value: Any) -> Any:
    for name in ("ckpt_name", "unet_name"):
        if node := _upstream(graph, value, name):
            return _value(graph, node.inputs[name])
    return None


def _text(graph: _Graph, conditioning: Any, side: Literal["positive", "negative"]) -> str | None:
    """Return the one text that a conditioning is made of; None if there is none, or more than one.

    Args:
        conditioning: an input of a sampler.
        side: which input; nodes that have both, such as a ControlNet, are followed on the same side.
    """
    texts: set[str | None] = set()
    waiting, seen = [conditioning], set()
    while waiting:
        link = waiting.pop()
        name = _source(graph, link)
        if isinstance(link, str):
            texts.add(link)
        if name is None or name in seen:
            continue
        seen.add(name)
        node = graph[name]
        own = [value for key, value in node.inputs.items() if key in _TEXT_INPUTS]
        if node.kind == "ConditioningZeroOut":
            texts.add("")
        elif own:
            texts.update(_string(graph, value) for value in own)
        elif {"positive", "negative"} <= node.inputs.keys():
            waiting.append(node.inputs[side])
        else:
            waiting.extend(
                value for key, value in node.inputs.items() if key not in _NOT_CONDITIONING and isinstance(value, list)
            )
    if len(texts) > 1:
        texts.discard("")
    return texts.pop() if len(texts) == 1 else None


def _string(graph: _Graph, value: Any) -> str | None:
    found = _value(graph, value)
    return found if isinstance(found, str) else None

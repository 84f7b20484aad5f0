"""The OpenAPI document of the gateway, as far as it is lambdiff's own: the images API, models and health."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from lambdiff._version import __version__
from lambdiff.gateway.openai_fields import IGNORED, OURS
from lambdiff.gateway.settings import MAX_IMAGES
from lambdiff.protocol.contract import MAX_PROMPT, GenerateRequest

_FORMATS: Final = ["png", "jpeg", "webp"]
_ERRORS: Final = {
    400: "A field is wrong.",
    401: "The API key is missing or wrong.",
    403: "A web page of another origin calls.",
    413: "The body is too large.",
    415: "The body has another media type.",
    421: "The gateway does not answer under this name.",
    429: "The endpoint is busy, or the limit of images in an hour is reached.",
    502: "The endpoint failed, or the gateway cannot use it.",
    503: "The endpoint cannot be reached.",
    504: "The endpoint did not answer in time.",
}


def openapi() -> dict[str, Any]:
    """Return the document, in OpenAPI 3.1.

    Example:
        >>> sorted(openapi()["paths"])[-3:]
        ['/v1/images/generations', '/v1/models', '/v1/models/{model}']
    """
    images = _reply("Images, or with `stream` events.", {"$ref": "#/components/schemas/ImagesResponse"})
    event = {"type": "object", "properties": {"event": {"type": "string"}, "data": {"type": "string"}}}
    images["content"]["text/event-stream"] = {"schema": event}
    model = {"$ref": "#/components/schemas/Model"}
    models = {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"data": {"type": "array", "items": model}},
    }
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lambdiff gateway",
            "version": __version__,
            "summary": "OpenAI's images API for an endpoint.",
        },
        "paths": {
            "/health": {"get": _operation("Whether the gateway runs.", _reply("It runs.", {"type": "object"}), 401)},
            "/v1/images/generations": {
                "post": {
                    **_operation("Generate images.", images, *_ERRORS),
                    "requestBody": _body("application/json", _fields()),
                }
            },
            "/v1/images/edits": {
                "post": {
                    **_operation("Generate images from a start image.", images, *_ERRORS),
                    "requestBody": _body("multipart/form-data", _fields(pictures=True)),
                }
            },
            "/v1/models": {"get": _operation("List the model.", _reply("The model.", models), 401, 403, 502, 503, 504)},
            "/v1/models/{model}": {
                "get": {
                    **_operation("Describe the model.", _reply("The model.", model), 401, 403, 502, 503, 504),
                    "parameters": [name],
                }
            },
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _fields(*, pictures: bool = False) -> dict[str, Any]:
    _, components = msgspec.json.schema_components((GenerateRequest,))
    contract = components["GenerateRequest"]["properties"]
    properties: dict[str, Any] = {
        "prompt": {"type": "string", "minLength": 1, "maxLength": MAX_PROMPT, "pattern": r"\S"},
        "n": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_IMAGES},
        "size": {"type": ["string", "null"], "pattern": r"^(auto|\d{2,4}x\d{2,4})$"},
        "response_format": {"enum": ["b64_json", "url", None]},
        "output_format": {"enum": [*_FORMATS, None]},
        "background": {"enum": ["opaque", "auto", None]},
        "model": {"type": ["string", "null"]},
        "stream": {"type": ["boolean", "null"]},
        "partial_images": {"type": ["integer", "null"], "minimum": 0, "maximum": 3},
        **{name: {"description": "Ignored."} for name in IGNORED},
        **{name: contract[name] for name in OURS if pictures or name != "strength"},
    }
    if pictures:
        file = {"type": "string", "contentMediaType": "application/octet-stream"}
        properties |= {"image": file, "mask": file}
    required = ["prompt", *(["image"] if pictures else [])]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _schemas() -> dict[str, Any]:
    text = {"type": ["string", "null"]}
    error = {
        "type": "object",
        "required": ["message", "type", "param", "code"],
        "properties": {"message": {"type": "string"}, "type": {"type": "string"}, "param": text, "code": text},
    }
    image = {
        "type": "object",
        "required": ["seed"],
        "properties": {
            "b64_json": {"type": "string"},
            "url": {"type": "string", "format": "uri"},
            "seed": {"type": "integer"},
        },
    }
    return {
        "Error": {"type": "object", "required": ["error"], "properties": {"error": error}},
        "ImagesResponse": {
            "type": "object",
            "required": ["created", "data", "output_format", "size", "warnings"],
            "properties": {
                "created": {"type": "integer"},
                "data": {"type": "array", "items": image, "minItems": 1},
                "output_format": {"enum": _FORMATS},
                "size": {"type": "string"},
                "warnings": {"type": "array", "items": {"type": "string"}},
            },
        },
        "Model": {
            "type": "object",
            "required": ["id", "object", "created", "owned_by"],
            "properties": {"id": {"type": "string"}, "object": {"const": "model"}},
        },
    }


def _operation(summary: str, success: dict[str, Any], *errors: int) -> dict[str, Any]:
    failure = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    texts = {**_ERRORS, 404: "There is no such model."}
    replies = {str(status): {"description": texts[status], "content": failure} for status in (404, *errors)}
    return {"summary": summary, "responses": {"200": success, **replies}}


def _reply(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {media_type: {"schema": schema}}}

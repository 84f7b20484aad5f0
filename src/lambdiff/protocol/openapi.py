"""The OpenAPI 3.1 document of an endpoint, made from `contract.py`."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from lambdiff._version import __version__
from lambdiff.protocol import contract

_STATUSES = {"get": (403, 429, 503), "post": (400, 403, 413, 415, 422, 429, 500, 502, 503)}


def openapi() -> dict[str, Any]:
    """The document: both operations, every field with its limits, every problem."""
    types = (contract.GenerateRequest, contract.Health, contract.Problem)
    (request, health, problem), components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    components["GenerateRequest"]["description"] = "What to draw; whatever is left out is the model's default."
    picture = {media: {"schema": {"type": "string", "format": "binary"}} for media in contract.MEDIA_TYPES.values()}
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "lambdiff",
            "version": __version__,
            "description": "A text-to-image diffusion model behind an IAM-protected AWS Lambda Function URL.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"sigv4": []}],
        "paths": {
            "/": {
                "get": {
                    "operationId": "health",
                    "summary": "What answers here: version, model, engine, defaults and limits.",
                    "responses": {
                        "200": {"description": "The endpoint is well.", "content": {contract.JSON: {"schema": health}}},
                        **_refusals("get", problem),
                    },
                },
                "post": {
                    "operationId": "generate",
                    "summary": "Draw one picture.",
                    "requestBody": {"required": True, "content": {contract.JSON: {"schema": request}}},
                    "responses": {
                        "200": {
                            "description": "The picture, its parameters inside.",
                            "headers": _headers(),
                            "content": picture,
                        },
                        **_refusals("post", problem),
                    },
                },
            }
        },
        "components": {
            "schemas": components,
            "securitySchemes": {
                "sigv4": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "AWS Signature Version 4, service `lambda`.",
                }
            },
        },
    }
    return cast("dict[str, Any]", msgspec.json.decode(msgspec.json.encode(document)))  # tuples become lists, as in JSON


def _headers() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        contract.SEED_HEADER: {"description": "The seed that was used.", "schema": {"type": "integer"}},
        contract.MODEL_HEADER: {"description": "The model's name and revision.", "schema": text},
        contract.ENGINE_HEADER: {"description": "The engine and its precision.", "schema": text},
        contract.WARNINGS_HEADER: {"description": "A JSON list of sentences.", "schema": text},
        contract.REQUEST_ID_HEADER: {"description": "The request's id in the logs.", "schema": text},
        contract.TIMING_HEADER: {"description": "Milliseconds by phase (Server-Timing).", "schema": text},
    }


def _refusals(method: str, problem: dict[str, Any]) -> dict[str, Any]:
    titles: dict[int, list[str]] = {}
    for status, title in contract.PROBLEMS.values():
        titles.setdefault(status, []).append(title)
    content = {contract.PROBLEM_JSON: {"schema": problem}}
    return {
        str(status): {"description": "; ".join(titles[status]) + ".", "content": content}
        for status in _STATUSES[method]
    }

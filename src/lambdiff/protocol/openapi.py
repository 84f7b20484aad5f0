"""The OpenAPI 3.1 document of an endpoint, generated from the contract."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from lambdiff._version import __version__
from lambdiff.protocol import headers
from lambdiff.protocol.contract import GenerateRequest, Health
from lambdiff.protocol.problems import PROBLEMS, Problem

_ERRORS = {"get": (403, 429, 503), "post": (400, 403, 413, 415, 422, 429, 500, 502, 503)}
"""Statuses of the error replies by method."""


def openapi() -> dict[str, Any]:
    """Return the document: both operations, every field with its limits, every problem."""
    (request, health, problem), components = msgspec.json.schema_components(
        (GenerateRequest, Health, Problem), ref_template="#/components/schemas/{name}"
    )
    components["GenerateRequest"]["description"] = "The parameters of one image; the model's defaults fill in the rest."
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "lambdiff",
            "version": __version__,
            "description": "A text-to-image diffusion model behind an IAM-protected AWS Lambda Function URL.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"sigv4": []}],
        "paths": {"/": {"get": _health(health, problem), "post": _generate(request, problem)}},
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


def _health(health: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": "health",
        "summary": "Version, model, engine, defaults and limits of this endpoint.",
        "responses": {
            "200": {"description": "The endpoint works.", "content": {headers.JSON: {"schema": health}}},
            **_error_replies("get", problem),
        },
    }


def _generate(request: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    image = {media: {"schema": {"type": "string", "format": "binary"}} for media in headers.MEDIA_TYPES.values()}
    return {
        "operationId": "generate",
        "summary": "Generate one image.",
        "requestBody": {"required": True, "content": {headers.JSON: {"schema": request}}},
        "responses": {
            "200": {
                "description": "The image, with its parameters inside.",
                "headers": _reply_headers(),
                "content": image,
            },
            **_error_replies("post", problem),
        },
    }


def _reply_headers() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        headers.SEED_HEADER: {"description": "The seed that was used.", "schema": {"type": "integer"}},
        headers.MODEL_HEADER: {"description": "The model's name and revision.", "schema": text},
        headers.ENGINE_HEADER: {"description": "The engine and its precision.", "schema": text},
        headers.WARNINGS_HEADER: {"description": "A JSON list of sentences.", "schema": text},
        headers.REQUEST_ID_HEADER: {"description": "The request's id in the logs.", "schema": text},
        headers.TIMING_HEADER: {"description": "Milliseconds by phase (Server-Timing).", "schema": text},
    }


def _error_replies(method: str, problem: dict[str, Any]) -> dict[str, Any]:
    titles: dict[int, list[str]] = {}
    for status, title in PROBLEMS.values():
        titles.setdefault(status, []).append(title)
    content = {headers.PROBLEM_JSON: {"schema": problem}}
    return {
        str(status): {"description": "; ".join(titles[status]) + ".", "content": content} for status in _ERRORS[method]
    }

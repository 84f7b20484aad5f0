"""The OpenAPI document (protocol/openapi.py)."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
from openapi_spec_validator import validate

from lambdiff.errors import InvalidRequest
from lambdiff.protocol.contract import GenerateRequest
from lambdiff.protocol.openapi import openapi
from lambdiff.protocol.problems import PROBLEMS

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


def test_the_document_is_valid_openapi() -> None:
    """An independent validator accepts the document."""
    validate(openapi())


def test_the_committed_document_is_current() -> None:
    """docs/openapi.json is current; after a change of the contract, `lambdiff schema` prints the new document."""
    assert json.loads(COMMITTED.read_text()) == openapi()


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a cat"},
        {"prompt": "a cat", "num_inference_steps": 4, "guidance_scale": 7.5, "seed": 0},
        {"prompt": "a cat", "width": 1024, "height": 64, "scheduler": "euler", "image_format": "webp"},
        {"prompt": "x" * 2000, "negative_prompt": "", "seed": 2**32 - 1},
        {},
        {"prompt": ""},
        {"prompt": "x" * 2001},
        {"prompt": 1},
        {"prompt": "x", "num_inference_steps": 0},
        {"prompt": "x", "num_inference_steps": 101},
        {"prompt": "x", "num_inference_steps": True},
        {"prompt": "x", "guidance_scale": 30.1},
        {"prompt": "x", "guidance_scale": -1},
        {"prompt": "x", "width": 65},
        {"prompt": "x", "height": 1032},
        {"prompt": "x", "seed": 2**32},
        {"prompt": "x", "seed": -1},
        {"prompt": "x", "seed": 1.5},
        {"prompt": "x", "seed": 4.0},
        {"prompt": "x", "seed": 1e300},
        {"prompt": "x", "scheduler": "magic"},
        {"prompt": "x", "image_format": "gif"},
        {"prompt": "x", "unknown": 1},
    ],
)
def test_schema_and_code_agree(fields: dict[str, object]) -> None:
    """The document's schema and the code accept the same requests."""
    document = openapi()
    schema = {**document["components"]["schemas"]["GenerateRequest"], "components": document["components"]}
    try:
        GenerateRequest.from_json(msgspec.json.encode(fields))
        accepted = True
    except InvalidRequest:
        accepted = False
    assert jsonschema.Draft202012Validator(schema).is_valid(fields) == accepted


def test_every_status_of_the_contract_is_documented() -> None:
    """The document lists the status of every problem, except those of paths and methods that it does not have."""
    documented = {status for each in openapi()["paths"]["/"].values() for status in each["responses"]}
    undocumented = {str(status) for status, _ in PROBLEMS.values()} - documented
    assert undocumented == {"404", "405"}

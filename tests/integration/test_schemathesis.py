"""Schemathesis tests the Function URL on loopback against the generated OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import schemathesis
from botocore.credentials import ReadOnlyCredentials
from hypothesis import settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from lambdiff.auth.credentials import Keys
from lambdiff.auth.signing import FunctionUrlAuth
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from lambdiff.protocol.contract import Limits
from lambdiff.protocol.openapi import openapi
from support.stub_engine import MANIFEST, StubEngine

pytestmark = pytest.mark.slow

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
AUTH = FunctionUrlAuth(lambda: ReadOnlyCredentials(*KEYS), "us-east-1")
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
schema = schemathesis.openapi.from_dict(openapi())
schema.config.generation.update(modes=list(schemathesis.GenerationMode), with_security_parameters=False)


@pytest.fixture(scope="module")
def function() -> Iterator[FunctionUrlServer]:
    """A Function URL whose engine supports everything that the contract allows."""
    manifest = msgspec.structs.replace(MANIFEST, limits=Limits())
    with FunctionUrlServer(App(lambda: StubEngine(manifest=manifest)), KEYS, "us-east-1") as running:
        yield running


@schema.parametrize()
@settings(max_examples=150, deadline=None)
def test_the_document_describes_the_endpoint(case: schemathesis.Case, function: FunctionUrlServer) -> None:
    """Status codes, content types, headers and bodies agree with the document; invalid requests are refused."""
    case.call_and_validate(base_url=function.url, auth=AUTH, checks=CHECKS, timeout=20)

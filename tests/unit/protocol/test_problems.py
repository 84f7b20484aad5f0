"""problems.py: error replies."""

from __future__ import annotations

import msgspec
import pytest

from lambdiff.protocol.problems import PROBLEMS, make_problem


@pytest.mark.parametrize("slug", sorted(PROBLEMS))
def test_every_problem_is_a_complete_document(slug: str) -> None:
    """RFC 9457 requires type, title, status and detail; the instance is the request's id."""
    document = msgspec.to_builtins(make_problem(slug, "why", instance="abc", errors=[("seed", "is odd")]))
    assert document["type"] == f"urn:lambdiff:problem:{slug}"
    assert 400 <= document["status"] < 600
    assert document["title"]
    assert document["instance"].endswith("abc")
    assert document["errors"] == [{"field": "seed", "detail": "is odd"}]

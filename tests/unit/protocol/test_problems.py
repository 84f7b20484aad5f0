"""Problem documents (protocol/problems.py)."""

from __future__ import annotations

import msgspec
import pytest

from lambdiff.protocol.problems import PROBLEMS, make_problem


@pytest.mark.parametrize("slug", sorted(PROBLEMS))
def test_every_problem_is_a_complete_document(slug: str) -> None:
    """Every problem is a complete document in the sense of RFC 9457, with the request's id as its instance."""
    document = msgspec.to_builtins(make_problem(slug, "why", instance="abc", errors=[("seed", "is odd")]))
    assert document["type"] == f"urn:lambdiff:problem:{slug}"
    assert 400 <= document["status"] < 600
    assert document["title"]
    assert document["instance"].endswith("abc")
    assert document["errors"] == [{"field": "seed", "detail": "is odd"}]

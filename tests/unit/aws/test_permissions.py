"""The IAM policies in docs/deploy.md against the calls in the source code (aws/ and auth/)."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import xform_name

import lambdiff

PACKAGE = Path(lambdiff.__file__).parent
PAGE = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text(encoding="utf-8")

CDK = {"sts:AssumeRole": "the CDK CLI publishes the image and updates the stack with the roles of its bootstrap stack"}
"""Actions that the deploying identity needs although no call in `aws/` uses them, with the reason."""
S3_ACTIONS = {
    "s3:ListObjectsV2": {"s3:ListBucket"},
    "s3:DeleteObjects": {"s3:DeleteObject"},
    "s3:generate_presigned_url": {"s3:GetObject"},
    "s3:upload_file": {"s3:PutObject", "s3:AbortMultipartUpload"},
}
"""Actions of the calls to S3 that are not named like an operation, or that make others."""
PREFIXES = {"stepfunctions": "states"}
"""Prefixes of actions that are not the name of the service."""
ALWAYS_ALLOWED = {"sts:GetCallerIdentity"}
"""Actions that AWS allows to every identity."""


def section(title: str) -> str:
    """Return the text below a heading of the page."""
    found = re.search(rf"^### {title}$(.*?)^##", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def policy(title: str) -> set[str]:
    """Return the actions that the policy below a heading allows."""
    block = re.search(r"^```json$(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)
    assert block is not None
    actions = [each["Action"] for each in json.loads(block[1])["Statement"]]
    return {name for each in actions for name in ([each] if isinstance(each, str) else each)}


def actions_of(source: str) -> set[str]:
    """Return the IAM actions of the calls in a module: each is named like the operation of AWS's API.

    Raises:
        AssertionError: a client is used in a way that this function does not understand.
    """
    tree = ast.parse(source)
    clients = {id(node): service for node in ast.walk(tree) if (service := _service(node))}
    names = {
        target.id: clients[id(node.value)]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and id(node.value) in clients
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    understood = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Assign)}
    actions = set()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        receiver = node.func.value
        service = clients.get(id(receiver)) or (names.get(receiver.id) if isinstance(receiver, ast.Name) else None)
        if service:
            understood.add(id(receiver))
            action = f"{PREFIXES.get(service, service)}:{_operation(service, node.func.attr, node)}"
            actions |= S3_ACTIONS.get(action, {action})
    assert set(clients) <= understood, "a client is neither assigned to a name nor called directly"
    return actions


def _service(node: ast.AST) -> str | None:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "client":
        first = node.args[0] if node.args else None
        return str(first.value) if isinstance(first, ast.Constant) else None
    return None


def _operation(service: str, method: str, call: ast.Call) -> str:
    if method in ("get_paginator", "get_waiter"):
        assert isinstance(call.args[0], ast.Constant)
        name = str(call.args[0].value)
        if method == "get_waiter":
            model: Any = botocore.session.Session().get_waiter_model(service)
            return str(
                next(model.get_waiter(each).operation for each in model.waiter_names if xform_name(each) == name)
            )
        method = name
    client: Any = boto3.client(service, "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")  # type: ignore[call-overload]
    return str(client.meta.method_to_api_mapping.get(method, method))


def calls_of(package: str) -> Iterator[str]:
    """Yield the actions of all modules of a package that need a permission."""
    for path in (PACKAGE / package).glob("*.py"):
        yield from actions_of(path.read_text(encoding="utf-8")) - ALWAYS_ALLOWED


def test_the_policy_for_deploying_allows_exactly_what_is_called() -> None:
    """The policy has each action that `aws/` needs, except the doctor's, which the text below it lists, and no more."""
    sentence = re.search(r"`lambdiff doctor` also uses (.*?) to explain", section("For deploying"), re.DOTALL)
    assert sentence is not None
    optional = set(re.findall(r"`(\w+:\w+)`", sentence[1]))
    called = set(calls_of("aws"))
    assert {"cloudformation:UpdateStack", "lambda:ListFunctions", "logs:FilterLogEvents"} <= called
    assert policy("For deploying") - set(CDK) == called - optional
    assert set(CDK) <= policy("For deploying") - called
    assert optional <= called


def test_the_policy_for_generating_allows_exactly_what_is_called() -> None:
    """Reading the secret is the policy, and assuming the role is the alternative that the text names."""
    alternative = "sts:AssumeRole"
    assert f"`{alternative}`" in section("For generating only")
    assert policy("For generating only") == set(calls_of("auth")) - {alternative}
    assert alternative in set(calls_of("auth"))


@pytest.mark.parametrize(
    ("source", "actions"),
    [
        ('account.client("ecr").put_image(imageTag="x")', {"ecr:PutImage"}),
        ('c = account.client("ecr", region_name="x")\nc.put_image()', {"ecr:PutImage"}),
        ('account.client("lambda").get_paginator("list_aliases").paginate()', {"lambda:ListAliases"}),
        ('account.client("lambda").get_waiter("function_exists").wait()', {"lambda:GetFunction"}),
        ("account.client(service)", set()),
    ],
)
def test_every_form_of_a_call_is_found(source: str, actions: set[str]) -> None:
    """Direct calls, calls through a name, paginators and waiters count; a client that is passed on is an error."""
    assert actions_of(source) == actions
    with pytest.raises(AssertionError, match="neither assigned"):
        actions_of(f'{source}\nuse(account.client("iam"))')

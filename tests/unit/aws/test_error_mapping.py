"""Translating botocore's exceptions, which few packages may see, into lambdiff's errors (aws/error_mapping.py)."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError, NoCredentialsError

import lambdiff
from lambdiff.auth import credential_errors
from lambdiff.aws import function, images, logs, stacks
from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import Conflict, InvalidValue, NotFound, PermissionDenied, Rejected, translated
from lambdiff.config import Sourced
from lambdiff.errors import CredentialsError, DeployError, LambdiffError

PACKAGE = Path(lambdiff.__file__).parent
MAY_SEE_BOTOCORE = ("aws/", "client/", "auth/")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ExpiredToken", 400, CredentialsError),
        ("AccessDenied", 403, PermissionDenied),
        ("AccessDeniedException", 400, PermissionDenied),
        ("ResourceNotFoundException", 404, NotFound),
        ("ResourceConflictException", 409, Conflict),
        ("InvalidParameterValueException", 400, InvalidValue),
        ("ThrottlingException", 400, Rejected),
        ("ValidationError", 400, Rejected),
        ("InternalFailure", 500, DeployError),
    ],
)
def test_each_code_has_its_error(code: str, status: int, kind: type[LambdiffError]) -> None:
    """Each AWS error code becomes one error class, whose message quotes AWS's code and text."""
    answer = {"Error": {"Code": code, "Message": "the reason"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(LambdiffError) as caught, translated("The stack demo", "deleted"):
        raise ClientError(answer, "DeleteStack")
    assert type(caught.value) is kind
    assert caught.value.message == f"The stack demo could not be deleted. AWS says: {code}: the reason"
    assert caught.value.fix


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("SignatureDoesNotMatch", "Signature expired: 20261130T100000Z is now earlier than 20261130T101500Z (...)"),
        ("InvalidSignatureException", "Signature not yet current: 20261130T103000Z is still later than (...)"),
        ("RequestExpired", "Request has expired."),
        ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
    ],
)
def test_a_wrong_clock_is_not_mistaken_for_an_expired_session(code: str, text: str) -> None:
    """If AWS says that the signature's time is off, the fix is to set the clock."""
    answer = {"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    with pytest.raises(CredentialsError) as caught, translated("The stack demo"):
        raise ClientError(answer, "DescribeStacks")
    assert "clock" in caught.value.fix


def test_what_aws_says_is_safe_to_print() -> None:
    """Control characters in AWS's code and text are escaped, and a long text is cut."""
    answer = {"Error": {"Code": "\x1b[31m", "Message": "\x9b2J" + "x" * 100_000}}
    with pytest.raises(DeployError) as caught, translated("The stack demo"):
        raise ClientError(answer, "DescribeStacks")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1_200


@pytest.mark.parametrize("start", ["The signature does not match.\n\n", ""])
def test_the_headers_that_aws_repeats_are_left_out(start: str) -> None:
    """To a wrong signature, AWS answers with what it has received, the session token included."""
    text = f"{start}The Canonical String should have been\n'POST\n/\n\nx-amz-security-token:invoker-secret\n'"
    answer = {"Error": {"Code": "SignatureDoesNotMatch", "Message": text}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    for translation in (translated("The stack demo"), credential_errors.translated("The secret")):
        with pytest.raises(CredentialsError) as caught, translation:
            raise ClientError(answer, "DescribeStacks")
        assert "invoker-secret" not in str(caught.value)


def test_an_error_without_a_status_may_have_taken_effect() -> None:
    """Without an HTTP status the error is not `Rejected`, which would promise that nothing has changed."""
    with pytest.raises(DeployError) as caught, translated("The stack demo"):
        raise ClientError({"Error": {"Code": "Unknown"}}, "DescribeStacks")
    assert not isinstance(caught.value, Rejected)


def test_missing_credentials_are_explained() -> None:
    """Missing credentials become a `CredentialsError` whose fix names the commands to sign in."""
    with pytest.raises(CredentialsError, match="no AWS credentials") as caught, translated("The stack demo"):
        raise NoCredentialsError
    assert "aws sso login" in caught.value.fix


def test_other_errors_pass_through() -> None:
    """Exceptions that are not botocore's are not translated."""
    with pytest.raises(ZeroDivisionError), translated("The stack demo"):
        _ = 1 / 0


@pytest.mark.parametrize("service", ["lambda", "function", "cloudformation", "logs", "ecr", "ssm"])
def test_a_missing_connection_is_explained(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every function that reads from AWS raises a `DeployError` if AWS cannot be reached."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    account = Account(boto3.Session("a", "b"), "1", "arn", Sourced("us-east-1", "test"))
    call: Callable[[], object] = {
        "lambda": account.concurrency,
        "function": lambda: function.read(account, "lambdiff"),
        "cloudformation": lambda: stacks.read(account, "lambdiff"),
        "logs": lambda: list(logs.read(account, "group", since=0)),
        "ecr": lambda: images.size(account, "123456789012.dkr.ecr.us-east-1.amazonaws.com/assets:one"),
        "ssm": account.bootstrap_version,
    }[service]
    with pytest.raises(DeployError, match="cannot be reached"):
        call()


def modules() -> list[Path]:
    """Return every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def imported_by(module: Path) -> set[str]:
    """Return the names of all modules that a module imports, at the top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return names


def test_botocores_exceptions_are_imported_by_few_modules() -> None:
    """Only modules in MAY_SEE_BOTOCORE import botocore's exceptions."""
    importers = {
        module.relative_to(PACKAGE).as_posix()
        for module in modules()
        if any(name.startswith("botocore.exceptions") for name in imported_by(module))
    }
    assert "aws/error_mapping.py" in importers
    assert {name for name in importers if not name.startswith(MAY_SEE_BOTOCORE)} == set()


def test_aws_is_called_from_one_package_only() -> None:
    """Only modules in MAY_SEE_BOTOCORE create AWS clients, so no call escapes the translation."""
    callers = {
        module.relative_to(PACKAGE).as_posix()
        for module in modules()
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "client"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert "aws/stacks.py" in callers
    assert {name for name in callers if not name.startswith(MAY_SEE_BOTOCORE)} == set()


OPENS_CLIENT = re.compile(r"\.client\([^()]*\)$")


def untranslated(source: str) -> list[str]:
    """Return the calls of AWS in a module that are not inside a block of `translated`."""
    tree = ast.parse(source)
    inside = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.With) and any("translated(" in ast.unparse(item.context_expr) for item in block.items)
        for node in ast.walk(block)
    }
    clients = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and OPENS_CLIENT.search(ast.unparse(node.value))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return [
        ast.unparse(node)
        for node in calls
        if id(node) not in inside
        and isinstance(node.func, ast.Attribute)
        and node.func.attr != "get_paginator"  # calls nothing yet
        and (ast.unparse(node.func.value) in clients or OPENS_CLIENT.search(ast.unparse(node.func.value)))
    ]


@pytest.mark.parametrize("path", sorted((PACKAGE / "aws").glob("*.py")), ids=lambda path: path.name)
def test_every_call_of_aws_is_translated(path: Path) -> None:
    """No error of botocore leaves the package: every call is inside a block of `translated`."""
    assert untranslated(path.read_text(encoding="utf-8")) == []


def test_an_untranslated_call_is_found() -> None:
    """Calls through a name and direct calls are found, but not those in a block."""
    assert len(untranslated("c = account.client('s3')\nc.list_buckets()\naccount.client('s3').head_bucket()")) == 2
    assert untranslated("with translated('x'):\n    account.client('s3').list_buckets()") == []

"""A Lambda function's configuration, with moto in place of AWS (aws/function.py)."""

from __future__ import annotations

from typing import Any, ClassVar

import boto3
import pytest

from lambdiff import pricing
from lambdiff.aws import function as functions
from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound
from lambdiff.aws.function import Function
from lambdiff.errors import CredentialsError, DeployError
from support.aws_resources import OUTPUTS, REGION, make_function, refusing

NAME = OUTPUTS["FunctionName"]


class AnsweringAccount(Account):
    """An account whose GetFunction replies are changed by `configuration` and `code`."""

    configuration: ClassVar[dict[str, Any]] = {}
    code: ClassVar[dict[str, Any]] = {}

    def client(self, service: str) -> Any:
        client = super().client(service)

        def change(parsed: dict[str, Any], **_: Any) -> None:
            parsed["Configuration"].update(self.configuration)
            parsed["Code"].update(self.code)

        client.meta.events.register("after-call.lambda.GetFunction", change)
        return client


def answering(account: Account, configuration: dict[str, Any], code: dict[str, Any]) -> Account:
    """Return the same account with changed replies."""
    kind = type("Answering", (AnsweringAccount,), {"configuration": configuration, "code": code})
    return kind(account.session, account.id, account.arn, account.region)


def test_values_that_aws_omits_have_defaults(account: Account) -> None:
    """AWS leaves out values that have their default; they are filled in."""
    arn = make_function()
    assert functions.read(account, NAME) == Function(
        name=NAME, arn=arn, memory_mb=3008, tmp_mb=512, timeout_s=600, architecture="x86_64", state="Active",
        updating=False, snapstart=False, log_group=f"/aws/lambda/{NAME}", image_uri="",
    )  # fmt: skip


def test_every_value_is_read(account: Account) -> None:
    """Architecture, /tmp, SnapStart, update status, log group and image are read."""
    make_function()
    uri = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/assets:one"
    found = functions.read(
        answering(
            account,
            {
                "Architectures": ["arm64"],
                "EphemeralStorage": {"Size": 1024},
                "LastUpdateStatus": "InProgress",
                "LoggingConfig": {"LogGroup": "mine"},
                "SnapStart": {"ApplyOn": "PublishedVersions"},
                "State": "Pending",
            },
            {"ImageUri": uri},
        ),
        NAME,
    )
    assert (found.architecture, found.tmp_mb, found.log_group, found.image_uri) == ("arm64", 1024, "mine", uri)
    assert (found.updating, found.snapstart, found.ready) == (True, True, False)


def test_a_missing_function_is_none_or_an_error(account: Account) -> None:
    """For a missing function `find` returns None and `read` raises `NotFound`."""
    assert functions.find(account, "none") is None
    assert functions.find(account, None) is None
    with pytest.raises(NotFound, match="The function none"):
        functions.read(account, "none")


def test_the_price_follows_memory_and_duration(account: Account) -> None:
    """The price is that of the current memory, or of a given one."""
    make_function()
    found = functions.read(account, NAME)
    assert found.price(2.0) == pricing.invocation(3008, 2.0)
    assert found.price(2.0, 512) == pricing.invocation(512, 2.0)


def test_reserved_concurrency_is_read(account: Account) -> None:
    """The reserved concurrency is None without a reservation; 0, which disables the function, is a reservation."""
    make_function()
    assert functions.reserved_concurrency(account, NAME) is None
    client = boto3.client("lambda", REGION)
    client.put_function_concurrency(FunctionName=NAME, ReservedConcurrentExecutions=0)
    assert functions.reserved_concurrency(account, NAME) == 0


def listing(account: Account, *functions: dict[str, Any]) -> Account:
    """Return the same account, in which other functions are listed."""

    class Listing(Account):
        def client(self, service: str) -> Any:
            client = super().client(service)
            replies: Any = lambda parsed, **_: parsed.update(Functions=list(functions))  # noqa: E731
            client.meta.events.register("after-call.lambda.ListFunctions", replies)
            return client

    return Listing(account.session, account.id, account.arn, account.region)


def test_the_users_of_an_image_are_told_by_its_digest(account: Account) -> None:
    """Versions count; functions from archives do not, and their hashes mean something else."""
    one, two = "1" * 64, "2" * 64
    found = functions.users_of_images(
        listing(
            account,
            {"FunctionName": "a", "PackageType": "Image", "CodeSha256": one, "Version": "$LATEST"},
            {"FunctionName": "b", "PackageType": "Image", "CodeSha256": one, "Version": "3"},
            {"FunctionName": "b", "PackageType": "Image", "CodeSha256": two, "Version": "$LATEST"},
            {"FunctionName": "c", "PackageType": "Zip", "CodeSha256": "YWJj", "Version": "$LATEST"},
        )
    )
    assert found == {f"sha256:{one}": {"a", "b"}, f"sha256:{two}": {"b"}}


def test_the_users_of_an_image_may_be_unknown(account: Account) -> None:
    """Without permission to list functions, or if a hash is no digest, nothing is known; other refusals are errors."""
    assert functions.users_of_images(refusing(account, "ListFunctions")) is None
    assert functions.users_of_images(listing(account, {"FunctionName": "a", "PackageType": "Image"})) is None
    with pytest.raises(DeployError):
        functions.users_of_images(refusing(account, "ListFunctions", "TooManyRequestsException"))


@pytest.mark.parametrize(("code", "known"), [("1" * 64, True), ("2" * 64, False)])
def test_the_hash_of_the_code_is_compared_with_the_image(account: Account, code: str, known: bool) -> None:
    """An image is known only if the hash of the function's code is its digest."""
    make_function()
    resolved = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/assets@sha256:{'1' * 64}"
    found = functions.read(answering(account, {"CodeSha256": code}, {"ResolvedImageUri": resolved}), NAME)
    assert found.image_known is known


def test_permissions_to_call_name_the_alias_of_a_snapstart_function(account: Account) -> None:
    """The URL of a function with SnapStart belongs to the alias of its published version."""
    arn = make_function()
    assert functions.read(account, NAME).target_arn == arn
    snapstart = answering(account, {"SnapStart": {"ApplyOn": "PublishedVersions"}}, {})
    assert functions.read(snapstart, NAME).target_arn == f"{arn}:live"


def test_the_memory_can_be_changed(account: Account) -> None:
    """The new memory takes effect, and a refusal names the function."""
    make_function()
    functions.set_memory(account, NAME, 2048)
    functions.wait_until_updated(account, NAME)
    assert functions.read(account, NAME).memory_mb == 2048
    with pytest.raises(CredentialsError, match=f"The memory of {NAME} could not be changed"):
        functions.set_memory(refusing(account, "UpdateFunctionConfiguration"), NAME, 1024)

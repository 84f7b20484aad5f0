"""Objects in S3: uploading, listing, and emptying a bucket."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, translated


class _Condition(TypedDict, total=False):
    IfNoneMatch: str


@dataclass(frozen=True)
class StoredObject:
    """An object in a list of a bucket's.

    Attributes:
        name: the whole name.
        size: bytes.
        modified: when it was written.
    """

    name: str
    size: int
    modified: datetime.datetime


def upload(account: Account, bucket: str, key: str, path: Path, progress: Callable[[int], None]) -> None:
    """Upload a file, in parts if it is large.

    Args:
        account: the account.
        bucket: the name of the bucket.
        key: the name of the object.
        path: the file.
        progress: receives the number of bytes that were sent since its last call, from any thread.
    """
    from boto3.exceptions import S3UploadFailedError

    with translated(f"{path.name}, for the bucket {bucket},", "uploaded"):
        try:
            account.client("s3").upload_file(str(path), bucket, key, Callback=progress)
        except S3UploadFailedError as error:
            # boto3 hides what botocore said about a part of the file.
            raise (error.__context__ or error) from None


def put(account: Account, bucket: str, key: str, content: bytes, *, replace: bool = True) -> None:
    """Write an object.

    Args:
        account: the account.
        bucket: the name of the bucket.
        key: the name of the object.
        content: what it holds.
        replace: overwrite an object of this name.

    Raises:
        Conflict: there is one, and `replace` is false.
        CredentialsError, DeployError: it cannot be written.
    """
    condition: _Condition = {} if replace else {"IfNoneMatch": "*"}
    with translated(f"{key} in the bucket {bucket}", "written"):
        account.client("s3").put_object(Bucket=bucket, Key=key, Body=content, **condition)


def get(account: Account, bucket: str, key: str) -> bytes:
    """Return what an object holds.

    Raises:
        NotFound: there is no such object.
        CredentialsError, DeployError: it cannot be read.
    """
    with translated(f"{key} in the bucket {bucket}"):
        return account.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()


def presigned(account: Account, bucket: str, key: str, seconds: int) -> str:
    """Return a link with which anybody can read an object, without calling AWS.

    It expires after `seconds`, or before that with the credentials that signed it: those of a role are temporary.
    """
    with translated(f"A link to {key}", "signed"):
        client = account.client("s3")
        return client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key}, ExpiresIn=seconds)


def delete(account: Account, bucket: str, key: str) -> None:
    """Delete an object; do nothing if it or its bucket does not exist."""
    with contextlib.suppress(NotFound), translated(f"{key} in the bucket {bucket}", "deleted"):
        account.client("s3").delete_object(Bucket=bucket, Key=key)


@dataclass(frozen=True)
class Content:
    """What a bucket holds under a prefix.

    Attributes:
        objects: how many objects.
        bytes: their sizes, summed up.
    """

    objects: int = 0
    bytes: int = 0


def measure(account: Account, bucket: str, prefix: str = "") -> Content | None:
    """Return what a bucket holds, or None if it does not exist. Takes a call for 1,000 objects."""
    try:
        sizes = [each.size for each in list_objects(account, bucket, prefix)]
    except NotFound:
        return None
    return Content(len(sizes), sum(sizes))


def list_objects(account: Account, bucket: str, prefix: str = "") -> Iterator[StoredObject]:
    """Yield the objects of a bucket, in the order of their names.

    Raises:
        NotFound: there is no such bucket.
        CredentialsError, DeployError: it cannot be read.
    """
    with translated(f"The bucket {bucket}"):
        for page in account.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for each in page.get("Contents", []):
                yield StoredObject(each["Key"], each["Size"], each["LastModified"])


def remove(account: Account, bucket: str) -> None:
    """Delete a bucket without versions and all objects in it; do nothing if it does not exist."""
    empty(account, bucket)
    with contextlib.suppress(NotFound), translated(f"The bucket {bucket}", "deleted"):
        account.client("s3").delete_bucket(Bucket=bucket)


def empty(account: Account, bucket: str) -> None:
    """Delete all objects of a bucket without versions; do nothing if it does not exist."""
    client = account.client("s3")
    with contextlib.suppress(NotFound), translated(f"The bucket {bucket}", "emptied"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            names = [each["Key"] for each in page.get("Contents", [])]
            if names:
                client.delete_objects(
                    Bucket=bucket, Delete={"Objects": [{"Key": name} for name in names], "Quiet": True}
                )

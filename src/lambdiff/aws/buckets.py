"""Objects in S3: uploading an archive, and emptying a bucket."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, translated


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


def delete(account: Account, bucket: str, key: str) -> None:
    """Delete an object; do nothing if it or its bucket does not exist."""
    with contextlib.suppress(NotFound), translated(f"{key} in the bucket {bucket}", "deleted"):
        account.client("s3").delete_object(Bucket=bucket, Key=key)


def empty(account: Account, bucket: str) -> None:
    """Delete all objects of a bucket without versions; do nothing if it does not exist."""
    client = account.client("s3")
    with contextlib.suppress(NotFound), translated(f"The bucket {bucket}", "emptied"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for each in page.get("Contents", []):
                client.delete_object(Bucket=bucket, Key=each["Key"])

"""An account in which an access key is rotated: moto's IAM and secrets, CloudFormation's phases, and a real endpoint.

moto's CloudFormation has neither access keys nor phases, so both are added here in the order that AWS documents: create
the new key, write it to the secret, wait, delete the old key. AWS needs some time until all of it knows of a key; the
endpoint counts that time in requests.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

import boto3
import pytest

from lambdiff.auth.credentials import Keys
from lambdiff.auth.verification import ReceivedRequest, SignatureRefused, Verifier
from lambdiff.aws import outputs
from lambdiff.aws.account import Account
from lambdiff.handler.app import App
from support.aws_resources import REGION, make_stack, save_deployment
from support.stub_engine import StubEngine

USER = "lambdiff-Invoker"


class Reply(NamedTuple):
    """What botocore reads of a reply."""

    status_code: int


class Endpoint:
    """A Function URL on loopback that accepts the keys of the user, and learns of changes with a delay.

    Args:
        spread: how many requests it takes until a new key is accepted.
        linger: how many requests it takes until a deleted key is refused.

    Attributes:
        url: its address.
        answers: the id of the key and the status of each request.
        status: the status of requests that are accepted.
    """

    def __init__(self, spread: int = 0, linger: int = 0) -> None:
        self.spread, self.linger, self.status = spread, linger, 200
        self.answers: list[tuple[str, int]] = []
        self._keys: dict[str, Keys] = {}
        self._delays: dict[str, int] = {}
        self._deleted: set[str] = set()
        app = App(StubEngine)
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status = endpoint.answer(ReceivedRequest("GET", self.path, tuple(self.headers.items())))
                event = {"version": "2.0", "rawPath": "/", "requestContext": {"http": {"method": "GET", "path": "/"}}}
                body = app.invoke(event)["body"] if status == 200 else '{"Message": "Forbidden"}'
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, keys: Keys, delay: int) -> None:
        """Accept a key after some requests."""
        self._keys[keys.access_key_id], self._delays[keys.access_key_id] = keys, delay

    def remove(self, key_id: str) -> None:
        """Refuse a key after `linger` requests."""
        self._deleted.add(key_id)
        self._delays[key_id] = self.linger

    def answer(self, request: ReceivedRequest) -> int:
        """Return the status for a request."""
        for key_id, keys in self._keys.items():
            if any(f"Credential={key_id}/" in value for value in request.values("authorization")):
                waiting, self._delays[key_id] = self._delays[key_id] > 0, self._delays[key_id] - 1
                accepted = waiting is (key_id in self._deleted)
                with contextlib.suppress(SignatureRefused):
                    Verifier(keys, REGION).verify(request)
                    status = self.status if accepted else 403
                    self.answers.append((key_id, status))
                    return status
        self.answers.append(("", 403))
        return 403


class RotatingCloud:
    """CloudFormation's part: `install` adds it to every account.

    Args:
        endpoint: learns of new and deleted keys.

    Attributes:
        secret: the ARN of the secret.
        monitoring: how many more looks at the stack it takes until the old key is deleted.
        cancellable: whether the update can be cancelled; if not, it is complete when somebody tries.
        failing: whether the new key cannot be created.
        calls: called with the number of each look at the stack during an update.
    """

    def __init__(self, endpoint: Endpoint, *, secret_text: str | None = None) -> None:
        self.endpoint = endpoint
        self.monitoring, self.cancellable, self.failing = 3, True, False
        self.status, self.serial, self.looks = "", 1, 0
        self.calls: Callable[[int], None] = lambda _: None
        self._iam = boto3.client("iam")
        self._secrets = boto3.client("secretsmanager", REGION)
        self._iam.create_user(UserName=USER)
        self.keys = self._create_key(0)
        self.replaced: Keys | None = None
        text = self._text(self.keys) if secret_text is None else secret_text
        self.secret = self._secrets.create_secret(Name="InvokerSecret", SecretString=text)["ARN"]
        make_stack(outputs={outputs.URL: endpoint.url, outputs.SECRET_ARN: self.secret})
        save_deployment(url=endpoint.url, secret_arn=self.secret)

    @property
    def key_ids(self) -> set[str]:
        """The ids of the user's access keys."""
        return {key["AccessKeyId"] for key in self._iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]}

    def rotate(self) -> None:
        """Replace the key at once, as the end of a rotation does."""
        old, self.keys = self.keys, self._create_key(self.endpoint.spread)
        self._write_secret(self.keys)
        self._delete_key(old)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Self:
        """Let every account see it."""
        original = Account.client

        def client(account: Account, service: Any) -> Any:
            opened = original(account, service)
            for operation, handler in (
                ("UpdateStack", self._update),
                ("CancelUpdateStack", self._cancel),
            ):
                opened.meta.events.register(f"before-call.cloudformation.{operation}", handler)
            opened.meta.events.register("after-call.cloudformation.DescribeStacks", self._describe)
            return opened

        monkeypatch.setattr(Account, "client", client)
        return self

    def _create_key(self, delay: int) -> Keys:
        made = self._iam.create_access_key(UserName=USER)["AccessKey"]
        keys = Keys(made["AccessKeyId"], made["SecretAccessKey"])
        self.endpoint.add(keys, delay)
        return keys

    def _delete_key(self, keys: Keys) -> None:
        with contextlib.suppress(self._iam.exceptions.NoSuchEntityException):
            self._iam.delete_access_key(UserName=USER, AccessKeyId=keys.access_key_id)
        self.endpoint.remove(keys.access_key_id)

    def _write_secret(self, keys: Keys) -> None:
        self._secrets.put_secret_value(SecretId=self.secret, SecretString=self._text(keys))

    @staticmethod
    def _text(keys: Keys) -> str:
        return json.dumps({"AWS_ACCESS_KEY_ID": keys.access_key_id, "AWS_SECRET_ACCESS_KEY": keys.secret_access_key})

    def _update(self, params: dict[str, Any], **_: Any) -> tuple[Reply, dict[str, Any]]:
        assert self.status in ("", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
        assert params["body"]["RollbackConfiguration.MonitoringTimeInMinutes"] == 1
        self.serial = int(params["body"]["Parameters.member.1.ParameterValue"])
        self.status, self.looks = "UPDATE_IN_PROGRESS", 0
        return Reply(200), {}

    def _cancel(self, **_: Any) -> tuple[Reply, dict[str, Any]]:
        assert self.replaced is not None
        if not self.cancellable:
            self._complete(self.replaced)
            error = {"Code": "ValidationError", "Message": "CancelUpdateStack cannot be called in this status"}
            return Reply(400), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}
        self._write_secret(self.replaced)
        self._delete_key(self.keys)
        self.keys, self.replaced = self.replaced, None
        self.serial -= 1
        self.status = "UPDATE_ROLLBACK_COMPLETE"
        return Reply(200), {}

    def _describe(self, parsed: dict[str, Any], **_: Any) -> None:
        if self.status == "UPDATE_IN_PROGRESS":
            self._advance()
        for stack in parsed.get("Stacks", []):
            stack["StackStatus"] = self.status or stack["StackStatus"]
            stack["Parameters"] = [{"ParameterKey": outputs.KEY_SERIAL, "ParameterValue": str(self.serial)}]

    def _advance(self) -> None:
        self.looks += 1
        if self.failing:
            self.status, self.serial = "UPDATE_ROLLBACK_COMPLETE", self.serial - 1
        elif self.looks == 2:
            self.replaced, self.keys = self.keys, self._create_key(self.endpoint.spread)
            self._write_secret(self.keys)
        elif self.looks >= 2 + self.monitoring and self.replaced is not None:
            self._complete(self.replaced)
        self.calls(self.looks)

    def _complete(self, old: Keys) -> None:
        self._delete_key(old)
        self.replaced, self.status = None, "UPDATE_COMPLETE"

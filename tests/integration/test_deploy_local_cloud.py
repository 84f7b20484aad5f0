"""The life of a deployment in a local cloud: deploy, generate, status, logs, rotate, failures, destroy.

`support/localcloud/__init__.py` says what is real and what is emulated. Each test builds on the ones before it, so they
run together and in this order.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lambdiff.local import builtin
from support.localcloud import install, settings
from support.localcloud.cloud import Cloud
from support.localcloud.machine import Machine

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

PROMPT = "a cat in a top hat"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """The local cloud, installed if necessary."""
    install.install()
    with Cloud() as running:
        yield running


@pytest.fixture(scope="module")
def machine(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine that has no deployment yet."""
    return Machine(cloud, tmp_path_factory.mktemp("machine"), builtin.builtin_model_dir())


@pytest.fixture(scope="module")
def first(machine: Machine) -> subprocess.CompletedProcess[str]:
    """The first `lambdiff deploy`, in an account that is not bootstrapped for CDK."""
    return machine.lambdiff("deploy", "--yes")


def test_one_command_deploys(first: subprocess.CompletedProcess[str], machine: Machine) -> None:
    """It bootstraps, builds, pushes, creates, generates an image, and prints the price and the next command."""
    print(first.stderr)
    assert first.returncode == 0, first.stderr
    for words in (
        "Bootstrapping the account for CDK",
        "Building the image",
        "Pushing the image",
        "Updating the stack",
        f"Generating {PROMPT}",
        "at most $",
        f'Next: lambdiff generate "{PROMPT}"',
    ):
        assert words in first.stderr
    assert machine.deployment["url"].endswith(f".lambda-url.{settings.REGION}.on.aws/")


def test_no_secret_is_written_to_disk(first: subprocess.CompletedProcess[str], machine: Machine) -> None:
    """Neither half of the key pair is in lambdiff's state, logs or output."""
    for value in machine.keys().values():
        assert value not in first.stdout + first.stderr
        for path in machine.home.rglob("*"):
            if path.is_file() and "toolchain" not in path.parts:
                assert value.encode() not in path.read_bytes(), path


def test_generate_uses_the_deployment(machine: Machine) -> None:
    """Without URL, region or key, it makes a PNG that holds the prompt: the same image as with --local."""
    remote, local = machine.folder / "cat.png", machine.folder / "local.png"
    done = machine.lambdiff("generate", PROMPT, "--seed", "7", "-o", str(remote))
    assert done.returncode == 0, done.stderr
    assert "this machine" not in done.stderr
    assert remote.read_bytes().startswith(b"\x89PNG")
    info = machine.lambdiff("info", str(remote))
    assert PROMPT in info.stdout
    assert machine.lambdiff("generate", PROMPT, "--seed", "7", "--local", "-o", str(local)).returncode == 0
    assert psnr(remote, local) > 30


def psnr(one: Path, other: Path) -> float:
    """Return the peak signal-to-noise ratio of two images in dB."""
    import numpy as np

    a, b = (np.asarray(Image.open(path).convert("RGB"), dtype=np.float64) for path in (one, other))
    assert a.shape == b.shape
    error = float(((a - b) ** 2).mean())
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def test_a_client_without_lambdiff_works(machine: Machine) -> None:
    """Twenty lines of botocore and requests, with the keys from the secret."""
    assert machine.call_plainly(**machine.keys()) == "200 image/png"
    assert Image.open(machine.folder / "plain.png").format == "PNG"


def test_all_other_callers_are_refused(machine: Machine) -> None:
    """A request without a signature, with a wrong secret, or with the key of another user of the account gets a 403."""
    program = "import requests, sys; print(requests.post(sys.argv[1], json={'prompt': 'x'}, timeout=60).status_code)"
    assert machine.cloud.run(sys.executable, "-c", program, machine.deployment["url"]).stdout.strip() == "403"
    keys = machine.keys()
    wrong = {**keys, "AWS_SECRET_ACCESS_KEY": keys["AWS_SECRET_ACCESS_KEY"][::-1]}
    assert machine.call_plainly(**wrong).startswith("403")
    iam = machine.cloud.client("iam")
    iam.create_user(UserName="stranger")
    key = iam.create_access_key(UserName="stranger")["AccessKey"]
    stranger = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    assert machine.call_plainly(**stranger).startswith("403")
    iam.delete_access_key(UserName="stranger", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="stranger")


def test_deploying_again_changes_nothing(machine: Machine) -> None:
    """It says so, and needs neither CDK nor a container engine."""
    done = machine.lambdiff("deploy", "--yes", CDK_DOCKER="/nonexistent")
    assert done.returncode == 0, done.stderr
    assert "Nothing has changed" in done.stderr
    assert machine.report("deploy", "--yes")["changed"] is False


def test_status_reports_each_value_with_its_source(machine: Machine) -> None:
    """The deployment is healthy and has the default size. Reserved concurrency is not emulated; see test_stack.py."""
    report = machine.report("status")
    assert report["healthy"] is True
    facts = {name: (fact["value"], fact["source"]) for name, fact in report["facts"].items()}
    assert facts["stack"] == ("CREATE_COMPLETE", "CloudFormation")
    assert facts["memory_mb"] == (10_240, "Lambda")
    assert facts["url"] == (machine.deployment["url"], "stack lambdiff")
    assert facts["model"] == (machine.deployment["model"], "stack lambdiff")
    assert facts["newer base image"] == ("none", settings.BASE_REGISTRY)
    assert report["errors"] == []


def test_logs_show_requests_but_no_prompt(machine: Machine) -> None:
    """Each request has one line of JSON, which --request-id finds."""
    done = machine.lambdiff("logs", "--since", "1h")
    assert done.returncode == 0, done.stderr
    assert PROMPT not in done.stdout
    entries = [json.loads(line.split("  ", 1)[1]) for line in done.stdout.splitlines() if '"request_id"' in line]
    generations = [entry for entry in entries if "timings" in entry]
    assert generations
    last = generations[-1]["request_id"]
    assert last in machine.lambdiff("logs", "--since", "1h", "--request-id", last).stdout


def test_cost_doctor_and_warm(machine: Machine) -> None:
    """The price comes from measured seconds, the doctor sees no problem, and two environments answer."""
    cost = machine.report("cost")
    assert cost["images"] >= 1
    assert 0 < cost["dollars_per_image"] < 0.1
    diagnosis = machine.report("doctor")
    checks = diagnosis["checks"]
    assert [check for check in checks if check["status"] == "error"] == []
    assert {"clock", "bootstrap", "stack", "endpoint", "container engine"} <= {check["check"] for check in checks}
    assert all(verdict["ready"] for verdict in diagnosis["verdicts"])
    assert machine.report("warm", "-n", "2")["answered"] == 2


CALLER = """
import sys, pathlib, lambdiff
client, refused, calls = lambdiff.Client(), [], 0
print("ready", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    calls += 1
    try:
        client.health()
    except lambdiff.LambdiffError as error:
        refused.append(str(error))
print(calls, refused, flush=True)
"""


def test_rotation_replaces_the_key(machine: Machine) -> None:
    """The new key is tried and the old one seen refused, while a client that was there before never fails."""
    old, stop = machine.keys(), machine.folder / "rotated"
    caller = subprocess.Popen(
        machine.cloud.command(sys.executable, "-c", CALLER, stop), text=True, stdout=subprocess.PIPE,
        env=machine.cloud.env(**machine.state),
    )  # fmt: skip
    assert caller.stdout is not None
    assert caller.stdout.readline() == "ready\n"
    report = machine.report("rotate")
    assert (report["serial"], report["new_key"], report["old_key"]) == (2, "accepted", "refused")
    stop.touch()
    calls, _, refused = caller.communicate(timeout=120)[0].partition(" ")
    assert (refused, int(calls) > 1) == ("[]\n", True)
    new = machine.keys()
    assert new["AWS_ACCESS_KEY_ID"] != old["AWS_ACCESS_KEY_ID"]
    assert machine.call_plainly(**old).startswith("403")
    assert machine.call_plainly(**new) == "200 image/png"
    out = machine.folder / "rotated.png"
    done = machine.lambdiff("generate", PROMPT, "-o", str(out))
    assert done.returncode == 0, done.stderr


def test_the_image_runs_as_lambda_runs_it(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs no writable folder but /tmp, no /dev/shm and no privileges. The sizes of the layers are printed."""
    function = machine.cloud.client("lambda").get_function(FunctionName=machine.deployment["function_name"])
    image = function["Code"]["ImageUri"]
    layers = settings.podman("history", "--format={{.Size}}\t{{.CreatedBy}}", image).stdout.splitlines()
    size = int(settings.podman("image", "inspect", "--format={{.Size}}", image).stdout)
    with capsys.disabled():
        print(f"\nimage: {size / 1e6:.0f} MB, including the substitute base image")
        for layer in layers:
            if not layer.startswith("0 B"):
                print(f"  {layer[:100]}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    container = settings.podman(
        *("run", "--detach", "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:size=512m", "--ipc=none"),
        *("--user=993:990", f"--publish=127.0.0.1:{port}:8080", "--env=AWS_LAMBDA_FUNCTION_TIMEOUT=120", image),
    ).stdout.strip()
    try:
        event = {
            "version": "2.0",
            "rawPath": "/",
            "headers": {"content-type": "application/json"},
            "requestContext": {"http": {"method": "POST", "path": "/"}},
            "body": json.dumps({"prompt": PROMPT, "seed": 7}),
            "isBase64Encoded": False,
        }
        reply = invoke(port, event)
        assert reply["statusCode"] == 200, reply
        content = base64.b64decode(reply["body"])
        assert Image.open(io.BytesIO(content)).format == "PNG"
        assert len(json.dumps(reply)) < 6_291_556
    finally:
        print(settings.podman("logs", container, check=False).stdout[-3000:])
        settings.podman("rm", "--force", "--time=0", container)


def invoke(port: int, event: dict[str, Any]) -> dict[str, Any]:
    """Send an event to the emulator in the container, as soon as it listens."""
    url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, json.dumps(event).encode(), timeout=120) as reply:
                return dict(json.load(reply))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_codebuild_builds_on_the_patched_base_image(machine: Machine) -> None:
    """Without a container engine, a newer base image is built on in CodeBuild, and callers notice nothing.

    The first build fails, with the build's own words. The endpoint stays as it was.
    """
    before, keys = machine.deployment, machine.keys()
    digest = machine.cloud.patch_base_image()
    newer = machine.report("status")["facts"]["newer base image"]["value"]
    assert newer.startswith(digest)
    settings.BUILD_FAULTS.write_text('{"FAULT": "build"}')
    done = machine.lambdiff("deploy", "--yes", CDK_DOCKER="/nonexistent")
    settings.BUILD_FAULTS.unlink()
    assert done.returncode == 7, done.stderr
    assert "No container engine answers" in done.stderr
    assert "Build the image in AWS CodeBuild, for $0.005 a minute, at most $0.30? yes" in done.stderr
    assert "The image could not be built. The tool says: injected fault in build" in done.stderr
    assert machine.lambdiff("warm").returncode == 0
    done = machine.lambdiff("deploy", "--yes", CDK_DOCKER="/nonexistent")
    print(done.stderr)
    assert done.returncode == 0, done.stderr
    for words in (
        "has changed since the last deployment",
        "Uploading the build context",
        "Starting CodeBuild",
        "Building the image",
        "Pushing the image",
        "CodeBuild took",
        "at most $",
    ):
        assert words in done.stderr
    after = machine.deployment
    assert (after["url"], after["secret_arn"], machine.keys()) == (before["url"], before["secret_arn"], keys)
    image = machine.cloud.client("lambda").get_function(FunctionName=after["function_name"])["Code"]["ImageUri"]
    assert re.fullmatch(r"\d+\.dkr\.ecr\.[\w.-]+/lambdiff-builder-images[\w-]+@sha256:[0-9a-f]{64}", image)
    labels = settings.podman("image", "inspect", "--format={{json .Labels}}", machine.cloud.stored_image(image)).stdout
    assert json.loads(labels)["org.opencontainers.image.base.digest"] == digest
    assert machine.report("deploy", "--yes")["changed"] is False
    assert machine.report("status")["facts"]["newer base image"]["value"] == "none"
    log = (machine.home / "logs" / "deploy-lambdiff.log").read_text()
    assert "Running command docker push" in log
    assert "stand-in-password" not in log + done.stderr


def test_an_interrupted_build_in_codebuild_is_recoverable(machine: Machine) -> None:
    """SIGTERM stops the build in CodeBuild; after SIGKILL it goes on, and the next run waits for it."""
    model = str(machine.changed_model("codebuild"))
    command = ("deploy", "--yes", "--model", model, "--no-smoke")
    settings.BUILD_FAULTS.write_text('{"HOLD": "build"}')
    for number, status, state in ((signal.SIGTERM, 130, "STOPPED"), (signal.SIGKILL, -9, "IN_PROGRESS")):
        process = start(machine, *command)
        wait_for_line(process, machine.home / "logs" / "deploy-lambdiff.log", "Running command docker build")
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == status, errors
        client = machine.cloud.client("codebuild")
        (build, *_) = client.list_builds_for_project(projectName="lambdiff-Builder")["ids"]
        assert client.batch_get_builds(ids=[build])["builds"][0]["buildStatus"] == state
    with (machine.folder / "stderr").open("w") as errors:
        process = start(machine, *command, stderr=errors)
        wait_for_line(process, Path(errors.name), "An earlier run has started this build")
        settings.BUILD_FAULTS.unlink()
        assert process.wait(timeout=300) == 0, Path(errors.name).read_text()
    assert machine.deployment["model"].startswith("codebuild-")


def start(machine: Machine, *arguments: str, stderr: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start `lambdiff` without waiting for it."""
    return subprocess.Popen(
        machine.cloud.command(sys.executable, "-m", "lambdiff", *arguments), stdin=subprocess.DEVNULL, text=True,
        stderr=stderr, env=machine.cloud.env(**machine.state),
    )  # fmt: skip


def wait_for_line(process: subprocess.Popen[str], path: Path, words: str) -> None:
    """Wait until a process has written a line with some words into a file, after what the file had before."""
    before, deadline = len(path.read_text()), time.monotonic() + 300
    while words not in path.read_text()[before:]:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def other(machine: Machine) -> tuple[str, ...]:
    """The arguments of a second deployment, whose image has never been built, so that every step runs."""
    return "deploy", "--yes", "--name", "other", "--model", str(machine.changed_model("other")), "--no-smoke"


def saved(machine: Machine) -> set[str]:
    """Return the names of the saved deployments."""
    return set(json.loads((machine.home / "deployments.json").read_text())["deployments"])


@pytest.mark.parametrize(
    ("fault", "words"), [("build", "The image could not be built."), ("push", "could not be pushed")]
)
def test_a_failing_step_is_named(machine: Machine, other: tuple[str, ...], fault: str, words: str) -> None:
    """The exit code is 7, the message has the meaning and the tool's own words, and nothing is saved."""
    done = machine.lambdiff(*other, FAULT=fault)
    assert done.returncode == 7, done.stderr
    assert words in done.stderr
    assert f"injected fault in {fault}" in done.stderr
    assert saved(machine) == {"lambdiff"}


def wait_until(condition: Callable[[], Any], seconds: float = 300) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stack_names(machine: Machine) -> set[str]:
    """Return the names of all stacks."""
    return {stack["StackName"] for stack in machine.cloud.client("cloudformation").describe_stacks()["Stacks"]}


def stack_status(machine: Machine, name: str) -> str:
    """Return the status of a stack; empty if there is none."""
    stacks = machine.cloud.client("cloudformation").describe_stacks()["Stacks"]
    return next((str(stack["StackStatus"]) for stack in stacks if stack["StackName"] == name), "")


@pytest.mark.parametrize(
    ("begun", "slow", "number", "status"),
    [
        ("$ cdk", "none", signal.SIGHUP, 130),
        ("start: Building lambdiff image", "build", signal.SIGTERM, 130),
        ("start: Publishing lambdiff image", "push", signal.SIGINT, 130),
        ("start: Publishing lambdiff image", "push", signal.SIGKILL, -9),
    ],
)
def test_an_interrupted_deployment_leaves_no_trace(
    machine: Machine, other: tuple[str, ...], begun: str, slow: str, number: signal.Signals, status: int
) -> None:
    """If it is interrupted during synthesis, build or push, all that it has started ends, and no stack is created.

    Within two seconds it says what it is doing. Nothing is saved, and no temporary folder is left.
    """
    log = machine.home / "logs" / "deploy-other.log"
    before, folders = len(log.read_text()), temporary_folders()
    process = machine.start(*other, SLOW=slow)
    wait_until(lambda: process.poll() is not None or begun in log.read_text()[before:])
    assert process.poll() is None
    os.kill(process.pid, number)
    sent = time.monotonic()
    if number != signal.SIGKILL:
        assert process.stderr is not None
        while "Stopping the CDK CLI and the build" not in process.stderr.readline():
            assert process.poll() is None
        assert time.monotonic() - sent < (2 if os.environ.get("STRICT_TIMING") else 10)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    if number != signal.SIGKILL:
        assert "The stack lambdiff-other was not changed" in errors
        assert "Run `lambdiff deploy` again" in errors
    assert "Traceback" not in errors
    wait_until(lambda: not machine.processes, seconds=20)
    assert temporary_folders() == folders
    assert saved(machine) == {"lambdiff"}
    assert stack_names(machine) == {"CDKToolkit", "lambdiff", "lambdiff-Builder"}


def temporary_folders() -> set[Path]:
    """Return the temporary folders of all deployments; a killed test run may have left some."""
    return set(settings.TMP.glob("lambdiff-*"))


def interrupt_creation(machine: Machine, arguments: tuple[str, ...], number: signal.Signals) -> tuple[int, str]:
    """Interrupt a deployment while CloudFormation creates its stack; return the exit status and what was printed."""
    settings.STACK_DELAY.write_text("8")
    try:
        process = machine.start(*arguments)
        wait_until(
            lambda: process.poll() is not None or stack_status(machine, "lambdiff-other") == "CREATE_IN_PROGRESS"
        )
        time.sleep(1)
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
    finally:
        settings.STACK_DELAY.unlink()
    wait_until(lambda: not machine.processes, seconds=20)
    assert saved(machine) == {"lambdiff"}
    return process.returncode, errors


def test_a_creation_that_continues_in_aws_can_be_destroyed(machine: Machine, other: tuple[str, ...]) -> None:
    """SIGTERM stops the CDK CLI; the message says what CloudFormation does. `destroy` finds the stack by its name."""
    status, errors = interrupt_creation(machine, other, signal.SIGTERM)
    assert status == 130, errors
    assert "The stack lambdiff-other is CREATE_IN_PROGRESS: this continues in AWS." in errors
    removed = machine.report("destroy", "--deployment", "other", "--yes")["removed"]
    assert removed[0] == "stack lambdiff-other"
    assert stack_names(machine) == {"CDKToolkit", "lambdiff", "lambdiff-Builder"}


def test_a_creation_that_continues_in_aws_is_adopted(machine: Machine, other: tuple[str, ...]) -> None:
    """After SIGKILL, the next deployment waits for CloudFormation, finds everything up to date, and saves it.

    The stack begins as what an interrupt during the creation of the change set leaves: under review, and empty.
    """
    machine.cloud.client("cloudformation").create_change_set(
        StackName="lambdiff-other", ChangeSetName="cdk-deploy-change-set", ChangeSetType="CREATE",
        TemplateBody=json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}),
    )  # fmt: skip
    assert stack_status(machine, "lambdiff-other") == "REVIEW_IN_PROGRESS"
    assert interrupt_creation(machine, other, signal.SIGKILL)[0] == -9
    report = machine.report(*other)
    assert report["changed"] is False
    assert "Waiting for an earlier change of the stack" in report["stages"]
    assert saved(machine) == {"lambdiff", "other"}


def test_snapstart_and_the_callers_identity_can_be_changed(machine: Machine, other: tuple[str, ...]) -> None:
    """The question names what is replaced; the next deployment keeps it; going back restores a key pair."""
    iam = machine.cloud.client("iam")
    before = machine.report("status", "--deployment", "other")["facts"]
    changes = ("--snapstart", "--principal", f"arn:aws:iam::{settings.ACCOUNT}:root")
    done = machine.lambdiff(*other, *changes)
    assert done.returncode == 0, done.stderr
    assert f"Turning SnapStart on replaces the URL {before['url']['value']}" in done.stderr
    assert "key pair and the secret are deleted" in done.stderr
    after = machine.report("status", "--deployment", "other")["facts"]
    assert after["url"]["value"] != before["url"]["value"]
    assert (after["auth"]["value"], len(iam.list_users()["Users"])) == ("role", 1)
    assert machine.report(*other)["changed"] is False
    done = machine.lambdiff(*other, "--no-snapstart", "--auth", "key-pair")
    assert done.returncode == 0, done.stderr
    assert "Turning SnapStart off replaces the URL" in done.stderr
    assert f"The role {after['role']['value']} is deleted" in done.stderr
    out = machine.folder / "key-pair-again.png"
    done = machine.lambdiff("generate", PROMPT, "--deployment", "other", "-o", str(out))
    assert done.returncode == 0, done.stderr


def test_a_half_deleted_stack_can_be_deleted(machine: Machine, other: tuple[str, ...]) -> None:
    """What prevents the deletion is named with the next command; then `destroy` finishes it."""
    iam = machine.cloud.client("iam")
    user = next(each["UserName"] for each in iam.list_users()["Users"] if "other" in each["UserName"])
    key = iam.create_access_key(UserName=user)["AccessKey"]["AccessKeyId"]
    failed = machine.lambdiff("destroy", "--deployment", "other", "--yes")
    assert failed.returncode == 7, failed.stderr
    assert "DELETE_FAILED" in failed.stderr
    assert "must delete access keys first" in failed.stderr
    assert "--retain-resources Invoker" in failed.stderr
    refused = machine.lambdiff(*other)
    assert refused.returncode == 7, refused.stderr
    assert "Finish deleting it with `lambdiff destroy`" in refused.stderr
    iam.delete_access_key(UserName=user, AccessKeyId=key)
    machine.report("destroy", "--deployment", "other", "--yes")
    assert stack_names(machine) == {"CDKToolkit", "lambdiff", "lambdiff-Builder"}


def test_a_stack_that_was_never_complete_is_not_saved(machine: Machine, other: tuple[str, ...]) -> None:
    """The account does not allow functions of 10,240 MB; who declines the size that AWS names keeps a failed stack."""
    settings.MEMORY_CAP.write_text("3008")
    deploy = [argument for argument in other if argument != "--yes"]
    done = subprocess.run(
        machine.cloud.command(sys.executable, "-m", "lambdiff", *deploy), input="y\nn\n", text=True,
        capture_output=True, env=machine.cloud.env(**machine.state), timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert "--memory 3008" in done.stderr
    assert stack_status(machine, "lambdiff-other") == "ROLLBACK_COMPLETE"
    assert saved(machine) == {"lambdiff"}


def test_the_next_attempt_succeeds(machine: Machine, other: tuple[str, ...]) -> None:
    """After failures and interrupts, a deployment with a role, and so without a key, succeeds.

    The failed stack is deleted and created again, rolls back because of the limit, and is created with the size that
    AWS names.
    """
    assert settings.MEMORY_CAP.exists()
    anybody = f"arn:aws:iam::{settings.ACCOUNT}:root"
    report = machine.report(*other, "--principal", anybody)
    assert (report["name"], report["auth"], report["memory_mb"]) == ("other", "role", 3008)
    assert "3,008 MB" in " ".join(report["notes"])
    assert machine.report(*other)["changed"] is False
    assert len(machine.cloud.client("iam").list_users()["Users"]) == 1
    out = machine.folder / "role.png"
    done = machine.lambdiff("generate", PROMPT, "--deployment", "other", "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert report["model"].startswith("other-")
    assert saved(machine) == {"lambdiff", "other"}
    destroyed = machine.report("destroy", "--deployment", "other", "--yes")
    assert destroyed["removed"][0] == "stack lambdiff-other"


def test_destroy_leaves_nothing(machine: Machine) -> None:
    """No stack, function, user, secret, log group, alarm or image is left, and lambdiff forgets the endpoint."""
    machine.report("destroy", "--yes")
    client = machine.cloud.client
    stacks = client("cloudformation").describe_stacks()["Stacks"]
    assert [stack["StackName"] for stack in stacks] == ["CDKToolkit"]
    assert client("lambda").list_functions()["Functions"] == []
    assert client("iam").list_users()["Users"] == []
    assert client("secretsmanager").list_secrets()["SecretList"] == []
    assert client("logs").describe_log_groups()["logGroups"] == []
    assert client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert client("codebuild").list_projects()["projects"] == []
    assert len(client("ecr").describe_repositories()["repositories"]) == 1
    assert len(client("s3").list_buckets()["Buckets"]) == 1
    repository = f"cdk-hnb659fds-container-assets-{settings.ACCOUNT}-{settings.REGION}"
    assert client("ecr").describe_images(repositoryName=repository)["imageDetails"] == []
    assert machine.lambdiff("status").returncode == 3

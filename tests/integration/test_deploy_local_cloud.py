"""The whole way, for real but for AWS itself: deploy, generate, status, logs, rotate, faults, destroy.

See `localcloud/__init__.py` for what is real and what is not. The tests go one after the other through the life of
one deployment, so they are run together and in this order.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lambdiff.engine import manifest as manifests
from lambdiff.local import builtin
from support.localcloud import install, places
from support.localcloud.cloud import Cloud

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

PROMPT = "a cat in a top hat"
TUTORIAL = Path(__file__).parents[2] / "examples" / "sigv4_client.py"


class Machine:
    """A person's machine: lambdiff, its state, and a way to the cloud."""

    def __init__(self, cloud: Cloud, folder: Path, model: Path) -> None:
        self.cloud = cloud
        self.model = model
        self.folder = folder
        self.home = folder / "home"

    def lambdiff(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return self.cloud.run(sys.executable, "-m", "lambdiff", *arguments, **self.state, **environment)

    @property
    def state(self) -> dict[str, str]:
        """Environment variables that keep lambdiff to this machine's folder."""
        return {"LAMBDIFF_HOME": str(self.home)}

    def report(self, *arguments: str) -> Any:
        """The --json of a command that must succeed."""
        answer = self.lambdiff(*arguments, "--json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    @property
    def deployment(self) -> dict[str, Any]:
        """What was saved of the deployment."""
        known = json.loads((self.home / "deployments.json").read_text())
        return dict(known["deployments"][known["default"]])

    def keys(self) -> dict[str, str]:
        """The secret's content, which is what environment variables look like."""
        text = self.cloud.client("secretsmanager").get_secret_value(SecretId=self.deployment["secret_arn"])
        return dict(json.loads(text["SecretString"]))

    def tutorial(self, **keys: str) -> str:
        """Status and media type that the tutorials' client gets; the picture goes to tutorial.png."""
        out = self.folder / "tutorial.png"
        answer = self.cloud.run(sys.executable, TUTORIAL, self.deployment["url"], places.REGION, out, **keys)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.strip()


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """The local cloud, installed if need be."""
    install.install()
    with Cloud() as running:
        yield running


@pytest.fixture(scope="module")
def machine(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine on which nothing was deployed yet."""
    return Machine(cloud, tmp_path_factory.mktemp("machine"), builtin.builtin_model_dir())


@pytest.fixture(scope="module")
def first(machine: Machine) -> subprocess.CompletedProcess[str]:
    """The first `lambdiff deploy` in an account that CDK does not know yet."""
    return machine.lambdiff("deploy", "--yes")


def test_one_command_deploys(first: subprocess.CompletedProcess[str], machine: Machine) -> None:
    """It bootstraps, builds, pushes, creates, draws a picture, names the price and the next command."""
    print(first.stderr)
    assert first.returncode == 0, first.stderr
    for words in (
        "Bootstrapping the account for CDK",
        "Building the image",
        "Pushing the image",
        "Updating the stack",
        f"Drawing {PROMPT}",
        "at most $",
        f'Next: lambdiff generate "{PROMPT}" -o cat.png',
    ):
        assert words in first.stderr
    assert machine.deployment["url"].endswith(f".lambda-url.{places.REGION}.on.aws/")


def test_no_secret_is_written_to_this_machine(first: subprocess.CompletedProcess[str], machine: Machine) -> None:
    """Neither half of the key is in lambdiff's state, its logs or what it printed."""
    for value in machine.keys().values():
        assert value not in first.stdout + first.stderr
        for path in machine.home.rglob("*"):
            if path.is_file() and "toolchain" not in path.parts:
                assert value.encode() not in path.read_bytes(), path


def test_generate_finds_the_endpoint_by_itself(machine: Machine) -> None:
    """No URL, no region, no key: a PNG with the prompt inside, the same picture that this machine draws."""
    remote, local = machine.folder / "cat.png", machine.folder / "local.png"
    answer = machine.lambdiff("generate", PROMPT, "--seed", "7", "-o", str(remote))
    assert answer.returncode == 0, answer.stderr
    assert "this machine" not in answer.stderr
    assert remote.read_bytes().startswith(b"\x89PNG")
    info = machine.lambdiff("info", str(remote))
    assert PROMPT in info.stdout
    assert machine.lambdiff("generate", PROMPT, "--seed", "7", "--local", "-o", str(local)).returncode == 0
    assert psnr(remote, local) > 30


def psnr(one: Path, other: Path) -> float:
    """Peak signal-to-noise ratio of two pictures in dB."""
    import numpy as np

    a, b = (np.asarray(Image.open(path).convert("RGB"), dtype=np.float64) for path in (one, other))
    assert a.shape == b.shape
    error = float(((a - b) ** 2).mean())
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def test_the_tutorials_client_works(machine: Machine) -> None:
    """Twenty lines of botocore and requests, with the secret's keys."""
    assert machine.tutorial(**machine.keys()) == "200 image/png"
    assert Image.open(machine.folder / "tutorial.png").format == "PNG"


def test_nobody_else_gets_in(machine: Machine) -> None:
    """403 without a signature, with a wrong secret, and with the key of another user of the account."""
    program = "import requests, sys; print(requests.post(sys.argv[1], json={'prompt': 'x'}, timeout=60).status_code)"
    assert machine.cloud.run(sys.executable, "-c", program, machine.deployment["url"]).stdout.strip() == "403"
    keys = machine.keys()
    wrong = {**keys, "AWS_SECRET_ACCESS_KEY": keys["AWS_SECRET_ACCESS_KEY"][::-1]}
    assert machine.tutorial(**wrong).startswith("403")
    iam = machine.cloud.client("iam")
    iam.create_user(UserName="stranger")
    theirs = iam.create_access_key(UserName="stranger")["AccessKey"]
    stranger = {"AWS_ACCESS_KEY_ID": theirs["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": theirs["SecretAccessKey"]}
    assert machine.tutorial(**stranger).startswith("403")
    iam.delete_access_key(UserName="stranger", AccessKeyId=theirs["AccessKeyId"])
    iam.delete_user(UserName="stranger")


def test_deploying_again_changes_nothing(machine: Machine) -> None:
    """It says so, quickly: no build, no CDK."""
    start = time.monotonic()
    answer = machine.lambdiff("deploy", "--yes")
    assert answer.returncode == 0, answer.stderr
    assert "Nothing has changed" in answer.stderr
    assert time.monotonic() - start < 20
    assert machine.report("deploy", "--yes")["changed"] is False


def test_status_tells_each_value_with_its_source(machine: Machine) -> None:
    """Healthy and at the default size; reserved concurrency is not emulated here (test_stack.py has it)."""
    report = machine.report("status")
    assert report["healthy"] is True
    facts = {name: (fact["value"], fact["source"]) for name, fact in report["facts"].items()}
    assert facts["stack"] == ("CREATE_COMPLETE", "CloudFormation")
    assert facts["memory_mb"] == (10_240, "Lambda")
    assert facts["url"] == (machine.deployment["url"], "stack lambdiff")
    assert facts["model"] == (machine.deployment["model"], "stack lambdiff")
    assert report["errors"] == []


def test_logs_show_requests_but_no_prompt(machine: Machine) -> None:
    """One line of JSON per request, found again by its id."""
    answer = machine.lambdiff("logs", "--since", "1h")
    assert answer.returncode == 0, answer.stderr
    assert PROMPT not in answer.stdout
    entries = [json.loads(line.split("  ", 1)[1]) for line in answer.stdout.splitlines() if '"request_id"' in line]
    drawn = [entry for entry in entries if "timings" in entry]
    assert drawn
    found = machine.lambdiff("logs", "--since", "1h", "--request-id", drawn[-1]["request_id"]).stdout
    assert drawn[-1]["request_id"] in found


def test_cost_doctor_and_warm(machine: Machine) -> None:
    """A price from measured seconds, nothing bad to find, and two more answers."""
    cost = machine.report("cost")
    assert cost["images"] >= 1
    assert 0 < cost["dollars_per_image"] < 0.1
    findings = machine.report("doctor")
    assert [finding for finding in findings if finding["status"] == "error"] == []
    assert {"clock", "bootstrap", "stack", "endpoint", "container engine"} <= {each["check"] for each in findings}
    assert machine.report("warm", "-n", "2")["answered"] == 2


def test_rotation_replaces_the_key(machine: Machine) -> None:
    """The old key is answered with 403; lambdiff reads the new one by itself."""
    old = machine.keys()
    assert machine.report("rotate")["serial"] == 2
    new = machine.keys()
    assert new["AWS_ACCESS_KEY_ID"] != old["AWS_ACCESS_KEY_ID"]
    assert machine.tutorial(**old).startswith("403")
    assert machine.tutorial(**new) == "200 image/png"
    out = machine.folder / "rotated.png"
    answer = machine.lambdiff("generate", PROMPT, "-o", str(out))
    assert answer.returncode == 0, answer.stderr


def test_the_image_runs_as_lambda_runs_it(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Read-only but for /tmp, no /dev/shm, an unprivileged user, no network; the layers' sizes are reported."""
    function = machine.cloud.client("lambda").get_function(FunctionName=machine.deployment["function_name"])
    image = function["Code"]["ImageUri"]
    layers = places.podman("history", "--format={{.Size}}\t{{.CreatedBy}}", image).stdout.splitlines()
    size = int(places.podman("image", "inspect", "--format={{.Size}}", image).stdout)
    with capsys.disabled():
        print(f"\nimage: {size / 1e6:.0f} MB, the stand-in base image included")
        for layer in layers:
            if not layer.startswith("0 B"):
                print(f"  {layer[:100]}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    container = places.podman(
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
        picture = base64.b64decode(reply["body"])
        assert Image.open(io.BytesIO(picture)).format == "PNG"
        assert len(json.dumps(reply)) < 6_291_556
    finally:
        print(places.podman("logs", container, check=False).stdout[-3000:])
        places.podman("rm", "--force", "--time=0", container)


def invoke(port: int, event: dict[str, Any]) -> dict[str, Any]:
    """Send an event to the emulator in the container, once it listens."""
    url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
    give_up = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, json.dumps(event).encode(), timeout=120) as answer:
                return dict(json.load(answer))
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.2)


@pytest.fixture(scope="module")
def other(machine: Machine) -> tuple[str, ...]:
    """Arguments for a second deployment; its image was never built before, so that there is something to go wrong."""
    folder = shutil.copytree(machine.model, machine.folder / "other-model")
    manifest = json.loads((folder / manifests.FILENAME).read_text())
    manifest["name"] = f"other-{uuid.uuid4().hex[:8]}"
    (folder / manifests.FILENAME).write_text(json.dumps(manifest))
    return "deploy", "--yes", "--name", "other", "--model", str(folder), "--no-smoke"


def known(machine: Machine) -> set[str]:
    """The names of the saved deployments."""
    return set(json.loads((machine.home / "deployments.json").read_text())["deployments"])


@pytest.mark.parametrize(
    ("fault", "words"), [("build", "The image could not be built."), ("push", "could not be pushed")]
)
def test_a_failing_step_is_named(machine: Machine, other: tuple[str, ...], fault: str, words: str) -> None:
    """Exit code 7, what it means and what was said; nothing is saved, and the first endpoint goes on."""
    answer = machine.lambdiff(*other, FAULT=fault)
    assert answer.returncode == 7, answer.stderr
    assert words in answer.stderr
    assert f"injected fault in {fault}" in answer.stderr
    assert known(machine) == {"lambdiff"}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_deployment_that_is_cut_off_leaves_no_trace(
    machine: Machine, other: tuple[str, ...], number: signal.Signals, status: int
) -> None:
    """Ctrl-C, or killed outright, while the image is on its way: nothing is saved, no stack was begun."""
    process = subprocess.Popen(
        machine.cloud.command(sys.executable, "-m", "lambdiff", *other), stdin=subprocess.DEVNULL, text=True,
        stderr=subprocess.PIPE, env=machine.cloud.env(**machine.state, SLOW="push"),
    )  # fmt: skip
    log = machine.home / "logs" / "deploy-other.log"
    before = len(log.read_text())
    give_up = time.monotonic() + 300
    while "start: Publishing lambdiff image" not in log.read_text()[before:]:
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    assert known(machine) == {"lambdiff"}
    stacks = machine.cloud.client("cloudformation").describe_stacks()["Stacks"]
    assert {stack["StackName"] for stack in stacks} == {"CDKToolkit", "lambdiff"}


def test_the_next_try_succeeds(machine: Machine, other: tuple[str, ...]) -> None:
    """After a failed build, a failed push, Ctrl-C and a kill; with a role, that is without any key, this time.

    And in an account that may not have functions of 10,240 MB: the stack rolls back, and the size is taken that AWS
    names.
    """
    places.MEMORY_CAP.write_text("3008")
    report = machine.report(*other, "--auth", "role")
    assert (report["name"], report["auth"], report["memory_mb"]) == ("other", "role", 3008)
    assert "3,008 MB" in " ".join(report["notes"])
    assert machine.report(*other, "--auth", "role")["changed"] is False
    assert len(machine.cloud.client("iam").list_users()["Users"]) == 1
    out = machine.folder / "role.png"
    answer = machine.lambdiff("generate", PROMPT, "--deployment", "other", "-o", str(out))
    assert answer.returncode == 0, answer.stderr
    assert report["model"].startswith("other-")
    assert known(machine) == {"lambdiff", "other"}
    destroyed = machine.report("destroy", "--deployment", "other", "--yes")
    assert destroyed["removed"][0] == "stack lambdiff-other"


def test_destroy_leaves_nothing(machine: Machine) -> None:
    """No stack, function, user, secret, log group or image; and lambdiff forgets the endpoint."""
    machine.report("destroy", "--yes")
    client = machine.cloud.client
    stacks = client("cloudformation").describe_stacks()["Stacks"]
    assert [stack["StackName"] for stack in stacks] == ["CDKToolkit"]
    assert client("lambda").list_functions()["Functions"] == []
    assert client("iam").list_users()["Users"] == []
    assert client("secretsmanager").list_secrets()["SecretList"] == []
    assert client("logs").describe_log_groups()["logGroups"] == []
    assert client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    repository = f"cdk-hnb659fds-container-assets-{places.ACCOUNT}-{places.REGION}"
    assert client("ecr").describe_images(repositoryName=repository)["imageDetails"] == []
    assert machine.lambdiff("status").returncode == 3

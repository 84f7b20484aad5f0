"""CodeBuild for the local cloud: runs the phases of an inline build specification on this machine.

Real: the archive from S3, the variables and their overrides, the commands of `install`, `pre_build`, `build` and
`post_build` in bash, their output in the log stream, the states of build and phases, StopBuild.

Different: there is no container and no virtual machine of its own, and no architecture but this one. `docker` is podman
on the cloud's store (container-engine.sh), and `aws ecr get-login-password` is a stand-in. The project's role is not
assumed, so its permissions are not checked (test_builder_stack.py does). The time limit, the queue and the account's
limits are ignored, and every build starts at once.

Imported by emulator.py, in the emulator's environment.
"""

import contextvars
import copy
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import yaml
from ministack.core.responses import error_response_json, json_response
from ministack.services import codebuild

PHASES = ("install", "pre_build", "build", "post_build")
_processes = {}
_stopped = set()


def start_build(data):
    """Start a build in a thread and return its description."""
    project = codebuild._projects.get(data.get("projectName", ""))
    if project is None:
        return error_response_json("ResourceNotFoundException", f"Project not found: {data.get('projectName')}", 400)
    project = copy.deepcopy(project)
    source, environment = project["source"], project["environment"]
    source["type"] = data.get("sourceTypeOverride", source.get("type"))
    source["location"] = data.get("sourceLocationOverride", source.get("location"))
    variables = {each["name"]: each for each in environment.get("environmentVariables", [])}
    variables |= {each["name"]: each for each in data.get("environmentVariablesOverride", [])}
    environment["environmentVariables"] = list(variables.values())
    build = codebuild._make_build_record(project, codebuild._build_id(project["name"]))
    del build["endTime"]
    build |= {"buildStatus": "IN_PROGRESS", "currentPhase": "QUEUED", "phases": []}
    group = project.get("logsConfig", {}).get("cloudWatchLogs", {}).get("groupName")
    if group:
        build["logs"]["groupName"] = group
    codebuild._builds[build["id"]] = build
    worker = contextvars.copy_context()  # ministack keeps account and region in it
    threading.Thread(target=worker.run, args=(run, build, project), daemon=True).start()
    return json_response({"build": copy.deepcopy(build)})


def stop_build(data):
    """End the command of a build that is running."""
    build = codebuild._builds.get(data.get("id", ""))
    if build is None:
        return error_response_json("ResourceNotFoundException", f"Build not found: {data.get('id')}", 400)
    if build["buildStatus"] == "IN_PROGRESS":
        _stopped.add(build["id"])
        if process := _processes.get(build["id"]):
            os.killpg(process.pid, signal.SIGKILL)
        finish(build, "STOPPED")
    return json_response({"build": copy.deepcopy(build)})


def run(build, project):
    """Run all phases; the first that fails fails the build."""
    emit = codebuild._log_sink(build)
    folder = Path(tempfile.mkdtemp(prefix="codebuild-"))
    try:
        phase(build, "DOWNLOAD_SOURCE", emit, lambda: download(project["source"], folder / "src"))
        specification = yaml.safe_load(project["source"]["buildspec"])
        for name in PHASES:
            commands = specification["phases"].get(name, {}).get("commands", [])
            runner = in_order(build, project, folder, commands, emit)
            phase(build, name.upper(), emit, runner)
        finish(build, "SUCCEEDED")
    except Exception as error:
        emit(f"[Container] {stamp()} {error}")
        finish(build, "FAILED")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def phase(build, name, emit, action):
    """Run one phase and record it, as CodeBuild's log does."""
    if build["id"] in _stopped:
        raise RuntimeError("the build was stopped")
    build["currentPhase"] = name
    record = {"phaseType": name, "startTime": int(time.time())}
    build["phases"].append(record)
    try:
        action()
    except Exception as error:
        record |= {"phaseStatus": "FAILED", "endTime": int(time.time())}
        record["contexts"] = [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": str(error)}]
        emit(f"[Container] {stamp()} Phase complete: {name} State: FAILED")
        raise
    record |= {"phaseStatus": "SUCCEEDED", "endTime": int(time.time())}
    emit(f"[Container] {stamp()} Phase complete: {name} State: SUCCEEDED")


def in_order(build, project, folder, commands, emit):
    """Return a function that runs commands one after the other."""

    def action():
        for command in commands:
            emit(f"[Container] {stamp()} Running command {command}")
            execute(build, project, folder, command, emit)

    return action


def execute(build, project, folder, command, emit):
    """Run a command in bash, and copy its output to the log.

    Raises:
        RuntimeError: it failed.
    """
    variables = {each["name"]: each["value"] for each in project["environment"].get("environmentVariables", [])}
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder / "src",
        env={**os.environ, **tools(folder), **faults(), **variables, "AWS_REGION": os.environ["MINISTACK_REGION"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    _processes[build["id"]] = process
    for line in process.stdout:
        emit(line.rstrip("\n"))
    status = process.wait()
    if status != 0:
        raise RuntimeError(f"Error while executing command: {command}. Reason: exit status {status}")


def tools(folder):
    """Return a PATH with the tools of CodeBuild's image: docker, and the one command of the AWS CLI that is needed."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    aws = '#!/bin/sh\n[ "$1 $2" = "ecr get-login-password" ] || exit 2\necho stand-in-password\n'
    for name, script in (("aws", aws), ("docker", f'#!/bin/sh\nexec {os.environ["LOCALCLOUD_SHIM"]} "$@"\n')):
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    return {"PATH": f"{tools}:{os.environ['PATH']}"}


def faults():
    """Return the variables FAULT and HOLD of container-engine.sh, which tests write into a file."""
    path = Path(os.environ["LOCALCLOUD_BUILD_FAULTS"])
    return json.loads(path.read_text()) if path.exists() else {}


def download(source, folder):
    """Unpack the archive that a source in S3 names, with the emulator's own API."""
    import boto3

    if source["type"] != "S3":
        raise RuntimeError(f"the stand-in reads sources in S3 only, not {source['type']}")
    bucket, _, key = re.sub("^arn:aws:s3:::", "", source["location"]).partition("/")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], verify=os.environ["LOCALCLOUD_BUNDLE"])
    archive = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    folder.mkdir()
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        file.extractall(folder)


def finish(build, status):
    """Record the end of a build, unless it has ended before."""
    if build["buildStatus"] == "IN_PROGRESS":
        build |= {"buildStatus": status, "currentPhase": "COMPLETED", "endTime": int(time.time())}


def stamp():
    """Return the time as CodeBuild's log has it."""
    return time.strftime("%Y/%m/%d %H:%M:%S.000000", time.gmtime())

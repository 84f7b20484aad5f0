"""Builds in AWS CodeBuild: starting, following and stopping one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, translated

RECENT: Final = 10
"""How many builds of a project are searched for one in progress."""


@dataclass(frozen=True)
class Build:
    """A build as CodeBuild describes it.

    Attributes:
        status: `IN_PROGRESS`, `SUCCEEDED`, `FAILED`, `FAULT`, `STOPPED` or `TIMED_OUT`.
        phase: the current phase, such as `PROVISIONING` or `BUILD`.
        log_group, log_stream: where its output goes; empty until it has started.
        reasons: what CodeBuild says about phases that failed.
        variables: its environment variables, those of its project included.
        seconds: how long it has run, or ran.
    """

    id: str
    status: str
    phase: str = ""
    log_group: str = ""
    log_stream: str = ""
    reasons: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.status == "IN_PROGRESS"


def start(account: Account, project: str, source: str, variables: Mapping[str, str]) -> str:
    """Start a build and return its id.

    Args:
        account: the account.
        project: the name of the project.
        source: an archive in S3, as `BUCKET/KEY`.
        variables: environment variables of the build; everybody who may read builds sees them.
    """
    with translated(f"The build in {project}", "started"):
        reply = account.client("codebuild").start_build(
            projectName=project,
            sourceTypeOverride="S3",
            sourceLocationOverride=source,
            environmentVariablesOverride=[
                {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables.items()
            ],
        )
    return reply["build"]["id"]


def read(account: Account, build_id: str) -> Build:
    """Read a build.

    Raises:
        NotFound: there is no such build.
    """
    found = _read(account, [build_id])
    if not found:
        raise NotFound(f"There is no build {build_id}.", fix="Deploy again.")
    return found[0]


def running(account: Account, project: str) -> list[Build]:
    """Return the builds of a project that are in progress; none if there is no such project."""
    try:
        with translated(f"The builds of {project}", "listed"):
            client = account.client("codebuild")
            ids = client.list_builds_for_project(projectName=project, sortOrder="DESCENDING")["ids"]
    except NotFound:
        return []
    return [build for build in _read(account, ids[:RECENT]) if build.running]


def stop(account: Account, build_id: str) -> None:
    """Stop a build; do nothing if it has ended."""
    with contextlib.suppress(NotFound), translated(f"The build {build_id}", "stopped"):
        account.client("codebuild").stop_build(id=build_id)


def _read(account: Account, ids: list[str]) -> list[Build]:
    if not ids:
        return []
    with translated("The state of the build"):
        reply = account.client("codebuild").batch_get_builds(ids=ids)
    builds = []
    for each in reply["builds"]:
        phases = each.get("phases", [])
        logs = each.get("logs", {})
        end = each.get("endTime")
        builds.append(
            Build(
                id=each["id"],
                status=each["buildStatus"],
                phase=each.get("currentPhase", ""),
                log_group=logs.get("groupName", ""),
                log_stream=logs.get("streamName", ""),
                reasons=tuple(
                    context["message"]
                    for phase in phases
                    for context in phase.get("contexts", [])
                    if phase.get("phaseStatus") not in ("SUCCEEDED", None) and context.get("message")
                ),
                variables={
                    variable["name"]: variable["value"]
                    for variable in each.get("environment", {}).get("environmentVariables", [])
                },
                seconds=(end - each["startTime"]).total_seconds() if end else 0.0,
            )
        )
    return builds

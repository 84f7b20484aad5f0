"""Distributed Maps as Step Functions runs them, for ministack, which this replaces.

ministack takes MaxConcurrency and the tolerated failures only as constants, goes on with the children of a stopped
execution, and looks at the tolerated failures when all children have ended. It never throttles a function without a
reservation; here, a file can hold the account's limit. Differences to AWS that remain: the whole item file is in
memory, there are no limits of size, the ramp is immediate, and neither ResultWriter nor redrive exists.
"""

import contextvars
import copy
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ministack.services import stepfunctions

LIMIT = Path(os.environ["LOCALCLOUD_CONCURRENCY"])
"""Holds the number of calls that may run at once; more are throttled. Without the file, there is no limit."""
STATES = ("pending", "running", "succeeded", "failed", "timedOut", "aborted", "total", "resultsWritten",
          "failuresNotRedrivable", "pendingRedrive")  # fmt: skip

THROTTLED = Path(os.environ["LOCALCLOUD_THROTTLED"])
"""Gets the number of throttled calls."""

running = throttled = 0
lock = threading.Lock()
call_lambda = stepfunctions._call_lambda


def call_or_throttle(function, event):
    """Call a function, or throttle the call as Lambda does, which has then not been started."""
    global running, throttled  # noqa: PLW0603
    with lock:
        if LIMIT.exists() and running >= int(LIMIT.read_text()):
            throttled += 1
            THROTTLED.write_text(str(throttled))
            raise stepfunctions._ExecutionError("Lambda.TooManyRequestsException", "Rate Exceeded.")
        running += 1
    try:
        return call_lambda(function, event)
    finally:
        with lock:
            running -= 1


class MapRun:
    """One Map Run: a child execution for each item."""

    def __init__(self, state, effective, execution, context):
        self.state, self.effective, self.execution, self.context = state, effective, execution, context
        self.items = stepfunctions._read_map_items(state["ItemReader"], effective, context)
        self.concurrency = int(self.setting("MaxConcurrency", 0)) or 1000
        self.tolerated = float(self.setting("ToleratedFailurePercentage", 0))
        self.lock = threading.Lock()
        self.exceeded = False
        machine = execution["stateMachineArn"]
        name = machine.rpartition(":")[2]
        base = machine.split(":stateMachine:")[0]
        label = state["Label"]
        self.machine = f"{base}:stateMachine:{name}/{label}"
        self.children = f"{base}:execution:{name}/{label}"
        counts = {**dict.fromkeys(STATES, 0), "total": len(self.items), "pending": len(self.items)}
        self.record = {
            "mapRunArn": f"{base}:mapRun:{name}/{label}:{stepfunctions.new_uuid()}",
            "executionArn": execution["executionArn"],
            "status": "RUNNING",
            "startDate": stepfunctions.now_iso(),
            "maxConcurrency": self.concurrency,
            "toleratedFailurePercentage": self.tolerated,
            "toleratedFailureCount": 0,
            "itemCounts": counts,
            "executionCounts": dict(counts),
            "redriveCount": 0,
            "_stateMachineArn": self.machine,
        }
        stepfunctions._map_runs[self.record["mapRunArn"]] = self.record

    def setting(self, name, default):
        """A number of the state, which may be a path into its input."""
        if f"{name}Path" in self.state:
            return stepfunctions._resolve_path_or_ctx(self.state[f"{name}Path"], self.effective, self.context)
        return self.state.get(name, default)

    @property
    def stopped(self):
        """Whether no further child may start: the execution was stopped, or too many items have failed."""
        return self.exceeded or self.execution["status"] != "RUNNING"

    def move(self, before, after):
        """Count one item in another state."""
        with self.lock:
            for counts in (self.record["itemCounts"], self.record["executionCounts"]):
                counts[before] -= 1
                counts[after] += 1
            failed = self.record["itemCounts"]["failed"]
            self.exceeded = self.exceeded or failed * 100 > self.tolerated * len(self.items)

    def run(self):
        """Run the children; return the map's output and the next state."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            for number, item in enumerate(self.items):
                pool.submit(contextvars.copy_context().run, self.run_child, number, item)
        if self.execution["status"] != "RUNNING":
            self.record["status"] = "ABORTED"
        else:
            self.record["status"] = "FAILED" if self.exceeded else "SUCCEEDED"
        self.record["stopDate"] = stepfunctions.now_iso()
        if self.record["status"] == "FAILED":
            raise stepfunctions._ExecutionError(
                "States.ExceedToleratedFailureThreshold", "The specified tolerated failure threshold was exceeded"
            )
        output = stepfunctions._apply_result_path(self.state, self.effective, [{}] * len(self.items))
        return output, stepfunctions._next_or_end(self.state)

    def run_child(self, number, item):
        """Run one item, unless the Map Run has been stopped."""
        if self.stopped:
            self.move("pending", "aborted")
            return
        context = copy.deepcopy(self.context)
        context["Map"] = {"Item": {"Index": number, "Value": item}}
        given = stepfunctions._resolve_params_obj(self.state["ItemSelector"], self.effective, context)
        name = stepfunctions.new_uuid()
        child = {
            "executionArn": f"{self.children}:{name}",
            "stateMachineArn": self.machine,
            "name": name,
            "status": "RUNNING",
            "startDate": stepfunctions.now_iso(),
            "stopDate": None,
            "input": json.dumps(given),
            "inputDetails": {"included": True},
            "output": None,
            "outputDetails": {"included": True},
            "mapRunArn": self.record["mapRunArn"],
            "events": [],
            "testCase": "",
            "mockAttempts": {},
        }
        stepfunctions._executions[child["executionArn"]] = child
        self.move("pending", "running")
        processor = self.state["ItemProcessor"]
        try:
            output = stepfunctions._run_sub_machine(processor["States"], processor["StartAt"], given, child, context)
            child.update(status="SUCCEEDED", output=json.dumps(output))
        except stepfunctions._ExecutionError as error:
            child.update(status="FAILED", error=error.error, cause=error.cause)
        if self.execution["status"] != "RUNNING":  # the call went on, but nobody waits for its result any more
            child.update(status="ABORTED", output=None)
        child["stopDate"] = stepfunctions.now_iso()
        self.move("running", child["status"].lower())


def run_distributed_map(state, raw_input, effective, iterator, execution, context):
    """Run a Distributed Map whose items are in S3."""
    return MapRun(state, effective, execution, context).run()


def install():
    """Replace ministack's own functions."""
    stepfunctions._run_distributed_map = run_distributed_map
    stepfunctions._call_lambda = call_or_throttle

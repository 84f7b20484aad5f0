"""Commands that manage a deployment: their exit codes, text and JSON (cli/status.py, logs.py, cost.py and others)."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from typing import Any

import boto3
import botocore.session
import click
import pytest
from click.testing import CliRunner, Result

from lambdiff.aws import account as accounts
from lambdiff.cli import cli, main
from lambdiff.errors import ConfigurationError, CredentialsError, LambdiffError
from lambdiff.ops import rotate
from support.aws_resources import OUTPUTS, REGION, make_function, make_logs, make_stack, save_deployment, stack_states
from support.rotating_cloud import Endpoint, RotatingCloud


def run(*arguments: str, answer: str | None = None) -> Result:
    """Run a command; an exception is kept in the result."""
    return CliRunner().invoke(cli, arguments, input=answer, standalone_mode=False)


def document(*arguments: str) -> Any:
    """Return the JSON document that a successful command prints."""
    result = run(*arguments, "--json")
    assert result.exception is None, result.output
    return json.loads(result.stdout)


@pytest.fixture(autouse=True)
def deployed(aws: None) -> None:
    """A deployment that has generated one image."""
    make_stack()
    make_function(reserved=10)
    make_logs(
        json.dumps({"level": "INFO", "request_id": "r", "status": 200, "timings": {}}),
        "REPORT RequestId: r\tDuration: 1999 ms\tBilled Duration: 2000 ms\tMemory Size: 3008 MB\tMax Memory Used: 9 MB",
    )
    save_deployment()


def test_status_prints_values_with_their_sources() -> None:
    """`status` prints each value with its source, as text or JSON, and exits with 0 if the deployment is healthy."""
    result = run("status")
    assert result.return_value == 0
    assert "stack         CREATE_COMPLETE  (CloudFormation)" in result.stdout
    assert result.stdout.endswith("healthy       yes\n")
    assert document("status")["facts"]["function"] == {"value": OUTPUTS["FunctionName"], "source": "Lambda"}


def test_logs_prints_lines_or_json() -> None:
    """`logs` prints the log's lines, or with --json one object per line."""
    assert "REPORT RequestId: r" in run("logs").stdout
    lines = [json.loads(line) for line in run("logs", "--json", "--since", "5m").stdout.splitlines()]
    assert [set(line) for line in lines] == [{"time", "stream", "text"}] * 2


HOSTILE = '{"level":"ERROR"} \x1b]0;title\x07\x9b2J\u202e\n2026-01-01T00:00:00.000+00:00  forged'


def test_foreign_text_in_the_log_does_not_reach_the_terminal() -> None:
    """Control characters are escaped, and a line break cannot forge another line; JSON keeps the text."""
    boto3.client("logs", REGION).delete_log_group(logGroupName=OUTPUTS["LogGroup"])
    make_logs(HOSTILE)
    for command in ("logs", "status"):
        shown = run(command).stdout
        assert r"\x1b]0;title\x07\x9b2J\u202e" in shown
        assert all(line.isprintable() for line in shown.splitlines())
        assert "\n2026-01-01T00" not in shown
        shown = run(command, "--json").stdout
        assert all(line.isprintable() for line in shown.splitlines())
    assert HOSTILE in [json.loads(line)["text"] for line in run("logs", "--json").stdout.splitlines()]
    assert HOSTILE in document("status")["errors"][0]


def test_cost_prints_the_cost_of_an_image_and_of_a_month() -> None:
    """`cost` prints the measured durations and the cost per month, as text or JSON."""
    result = run("cost")
    assert "1 image, 0 cold starts; median billed: 2.00 s warm, none cold" in result.stdout
    assert "10,000 a month" in result.stdout
    assert document("cost")["seconds_warm"] == 2.0


def test_cost_before_the_first_image() -> None:
    """Without an image, `cost` asks for one instead of guessing."""
    assert "No image since 0s: generate one first" in run("cost", "--since", "0s").stdout


def test_rotate_prints_the_new_serial(monkeypatch: pytest.MonkeyPatch) -> None:
    """`rotate` prints the new serial and whether the keys were tried, as text or JSON."""
    monkeypatch.setattr(rotate, "_POLL", 0.0)
    with Endpoint() as endpoint:
        RotatingCloud(endpoint).install(monkeypatch)
        assert document("rotate")["serial"] == 2
        result = run("rotate")
    assert "Key rotated (serial 3, tried; the old one is refused)" in result.stderr


def test_destroy_asks_first() -> None:
    """`destroy` deletes nothing if the answer is no, and everything with --yes."""
    assert run("destroy", answer="n\n").exception is not None
    assert document("destroy", "--yes")["removed"][0] == "stack lambdiff"
    assert isinstance(run("status").exception, ConfigurationError)


def test_destroy_does_not_guess_the_deployment() -> None:
    """With --yes, one of several deployments must be named; otherwise a second run would delete another one."""
    save_deployment(name="other", stack="lambdiff-other")
    error = run("destroy", "--yes").exception
    assert isinstance(error, ConfigurationError)
    assert "lambdiff, other" in error.message
    assert document("destroy", "--yes", "--deployment", "lambdiff")["removed"][0] == "stack lambdiff"


def test_json_never_asks() -> None:
    """With --json but without --yes, the command fails instead of asking a question that nobody sees."""
    result = run("destroy", "--json")
    assert "add --yes" in str(result.exception)


def test_doctor_prints_one_line_for_each_check() -> None:
    """`doctor` prints each check below its task, then the verdicts; it exits with 3, as the endpoint does not exist."""
    report = json.loads(run("doctor", "--json").stdout)
    checks = {(each["task"], each["check"]): each for each in report["checks"]}
    assert checks["deploy", "credentials"]["status"] == "ok"
    assert checks["deploy", "stack"]["detail"] == "CREATE_COMPLETE"
    assert checks["call an endpoint", "endpoint"]["status"] == "error"
    assert [each["ready"] for each in report["verdicts"]][:2] == [True, False]
    result = run("doctor")
    assert result.return_value == 3
    assert "call an endpoint:\n  ok     region: us-east-1\n  error  endpoint: " in result.stdout
    assert "\ngenerate here     yes\ncall an endpoint  no, endpoint: " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("deploy", "--export", "out", "--builder", "codebuild"), "the pipeline builds the image"),
        (("deploy", "--tag", "nothing"), "not KEY=VALUE"),
        (("deploy", "--memory", "lots"), "128..10240, not 'lots'"),
        (("logs", "--since", "yesterday"), "must be an age such as 10m"),
        (("status", "--deployment", "none"), "There is no deployment 'none'"),
        (("warm", "-n", "0"), "1..256, not 0"),
    ],
)
def test_invalid_usage_is_refused(arguments: tuple[str, ...], words: str) -> None:
    """Invalid usage is explained before anything is done."""
    assert words in str(run(*arguments).exception)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cost", "--since", "2x"), "must be an age such as 10m"),
        (("logs", "--request-id", 'a" OR "b'), "is not a request id"),
        (("configure", "--stack", "not a name"), "is not the name of a stack"),
        (("configure", "--stack", "lambdiff", "--name", "Prod"), "is not a valid deployment name"),
        (("configure", "--stack", "lambdiff", "--region", "mars"), "no AWS region 'mars'"),
        (("configure", "--url", OUTPUTS["LambdaUrl"], "--role", "me"), "--role must look like arn:aws:iam"),
        (("destroy", "--deployment", "Prod"), "is not a valid deployment name"),
        (("destroy", "--region", "mars"), "no AWS region 'mars'"),
    ],
)
def test_mistakes_are_usage_errors_without_aws(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What needs no AWS is checked before AWS is called: with exit code 2, and without credentials."""
    monkeypatch.setattr(botocore.session.Session, "get_credentials", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_an_incomplete_stack_is_not_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack without outputs that was never complete is reported with its state, not as somebody else's."""
    stack_states(monkeypatch, {"StackStatus": "ROLLBACK_COMPLETE", "Outputs": []})
    error = run("configure", "--stack", "lambdiff").exception
    assert isinstance(error, ConfigurationError)
    assert error.message == "The stack lambdiff is not complete: ROLLBACK_COMPLETE"


def test_configure_saves_the_outputs_of_a_stack() -> None:
    """`configure --stack` saves URL, secret and function; a missing stack is reported with its region."""
    saved = document("configure", "--stack", "lambdiff", "--name", "prod")
    assert (saved["name"], saved["url"], saved["region"]) == ("prod", OUTPUTS["LambdaUrl"], "us-east-1")
    assert (saved["secret_arn"], saved["function_name"]) == (OUTPUTS["SecretArn"], OUTPUTS["FunctionName"])
    error = run("configure", "--stack", "none").exception
    assert isinstance(error, ConfigurationError)
    assert error.message == "There is no stack none in us-east-1 of account 123456789012."
    assert "--region" in error.fix


@pytest.mark.parametrize("command", ["status", "logs", "cost", "doctor"])
def test_the_examples_in_the_help_work_as_written(command: str) -> None:
    """Each example in a command's help succeeds with deployments of these names; `doctor` reports what is missing."""
    save_deployment(name="tiny")
    save_deployment()
    loaded = cli.get_command(click.Context(cli), command)
    assert loaded is not None
    examples = re.findall(r"^    lambdiff (.*)$", inspect.cleandoc(loaded.help or ""), re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        if "--follow" not in example:  # never ends
            assert run(*shlex.split(example)).exception is None


@pytest.mark.parametrize("command", ["status", "logs", "cost", "rotate"])
@pytest.mark.parametrize("fault", ["no stack", "region not enabled"])
def test_advice_names_only_flags_that_the_command_has(
    command: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These commands take the region from the deployment, so that none of them advises another one."""
    cloudformation = boto3.client("cloudformation", REGION)
    if fault == "no stack":
        cloudformation.delete_stack(StackName="lambdiff")
        boto3.client("logs", REGION).delete_log_group(logGroupName=OUTPUTS["LogGroup"])
    else:
        save_deployment(region="eu-west-1", url="https://abc.lambda-url.eu-west-1.on.aws/")
        identify = accounts._identify

        def refuse(session: Any, region: str) -> Any:
            if region == "eu-west-1":
                raise CredentialsError("The security token included in the request is invalid.", fix="Sign in.")
            return identify(session, region)

        monkeypatch.setattr(accounts, "_identify", refuse)
    error = run(command).exception
    assert isinstance(error, LambdiffError)
    assert not re.search(r"`\w+=", f"{error.message} {error.fix}")
    if command in ("status", "rotate"):
        words = "`lambdiff endpoints forget lambdiff`" if fault == "no stack" else "Enable the region"
        assert words in error.fix

"""What accounts of an organization need: bootstraps, boundaries, networks, dashboards, exported templates."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import boto3
import cdk_nag
import pytest
from aws_cdk.assertions import Template
from click.testing import CliRunner

from lambdiff.aws import account as accounts
from lambdiff.aws import networks, policies
from lambdiff.aws.stacks import StackState
from lambdiff.cli import cli
from lambdiff.errors import ConfigurationError, DeployError, InvalidRequest, OutputError
from lambdiff.handler import metrics
from lambdiff.infra import bootstrap
from lambdiff.infra.cdk_app import build
from lambdiff.infra.existing_stack import ExistingStack
from lambdiff.infra.export import export
from lambdiff.infra.preflight import DeployOptions
from lambdiff.infra.registry import RegistryError
from lambdiff.infra.settings import StackSettings
from lambdiff.stages import Stages
from support.aws_resources import REGION, refusing, write_manifest
from support.registry_server import RegistryServer

pytestmark = pytest.mark.slow

SUBNETS = ("subnet-0123456789abcdef0", "subnet-0123456789abcdef1")
GROUP = "sg-0123456789abcdef0"
ORGANIZATION: dict[str, Any] = {
    "dashboard": True,
    "permissions_boundary": "Developers",
    "qualifier": "platform",
    "tracing": True,
    "vpc_security_groups": (GROUP,),
    "vpc_subnets": SUBNETS,
}


def settings_with(context: Path, **changes: Any) -> StackSettings:
    """Return checked settings for the test account."""
    return StackSettings(account="123456789012", region=REGION, context=str(context), **changes).check()


@pytest.fixture
def template(image_context: Path, tmp_path: Path) -> dict[str, Any]:
    """The template of a stack with every option of an organization."""
    build(settings_with(image_context, **ORGANIZATION), str(tmp_path / "out")).synth()
    found: dict[str, Any] = json.loads((tmp_path / "out" / "lambdiff.template.json").read_text())
    return found


def of_type(template: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return the properties of every resource of one type."""
    return [each["Properties"] for each in template["Resources"].values() if each["Type"] == kind]


def test_every_identity_has_the_boundary(template: dict[str, Any]) -> None:
    """The permissions boundary, given by name, limits every user and role of the stack."""
    identities = of_type(template, "AWS::IAM::Role") + of_type(template, "AWS::IAM::User")
    assert len(identities) == 2
    assert all(":policy/Developers" in json.dumps(each["PermissionsBoundary"]) for each in identities)


def test_a_boundary_can_be_an_arn(image_context: Path, tmp_path: Path) -> None:
    """A boundary given by ARN is in the template as it is."""
    arn = "arn:aws:iam::123456789012:policy/teams/Developers"
    build(settings_with(image_context, permissions_boundary=arn), str(tmp_path)).synth()
    found = json.loads((tmp_path / "lambdiff.template.json").read_text())
    assert {role["PermissionsBoundary"] for role in of_type(found, "AWS::IAM::Role")} == {arn}
    assert ExistingStack.of(StackState("lambdiff", "CREATE_COMPLETE"), found).kept_settings({}) == {
        "auth": "key-pair", "memory_mb": 10_240, "permissions_boundary": arn, "snapstart": False,
    }  # fmt: skip


def test_the_function_is_in_its_network(template: dict[str, Any]) -> None:
    """The function has its subnets and groups, and only Lambda itself may create network interfaces for it."""
    (function,) = of_type(template, "AWS::Lambda::Function")
    assert function["VpcConfig"] == {"SubnetIds": list(SUBNETS), "SecurityGroupIds": [GROUP]}
    statements = [s for policy in of_type(template, "AWS::IAM::Policy") for s in policy["PolicyDocument"]["Statement"]]
    ec2 = [s for s in statements if "ec2:CreateNetworkInterface" in s["Action"]]
    assert [s["Effect"] for s in ec2] == ["Allow", "Deny"]
    assert ec2[0]["Action"] == ec2[1]["Action"]
    assert "lambda:SourceFunctionArn" in json.dumps(ec2[1]["Condition"])


def test_the_network_permissions_exist_before_the_function(template: dict[str, Any]) -> None:
    """CloudFormation creates the policy first: Lambda checks the permissions when the function is created."""
    (function,) = (r for r in template["Resources"].values() if r["Type"] == "AWS::Lambda::Function")
    policies = [
        name for name, each in template["Resources"].items()
        if each["Type"] == "AWS::IAM::Policy" and "ec2:CreateNetworkInterface" in json.dumps(each)
    ]  # fmt: skip
    assert set(policies) <= set(function["DependsOn"])


def test_the_custom_bootstrap_is_used(template: dict[str, Any]) -> None:
    """The image goes to the repository of the custom bootstrap, whose version the template requires."""
    assert template["Parameters"]["BootstrapVersion"]["Default"] == "/cdk-bootstrap/platform/version"
    assert "cdk-platform-container-assets-123456789012-us-east-1" in json.dumps(template)


def test_redeploying_without_the_options_lifts_no_restriction(template: dict[str, Any]) -> None:
    """Boundary, network and bootstrap of a deployed stack are kept if the options are left out."""
    kept = ExistingStack.of(StackState("lambdiff", "CREATE_COMPLETE"), template).kept_settings({})
    wanted = {name: value for name, value in ORGANIZATION.items() if name not in ("dashboard", "tracing")}
    assert {name: kept[name] for name in wanted} == wanted
    assert "qualifier" not in ExistingStack.of(StackState("lambdiff", "CREATE_COMPLETE"), template).kept_settings(
        {"qualifier": "other"}
    )


def test_metrics_of_the_dashboard_are_those_of_the_log(template: dict[str, Any]) -> None:
    """The dashboard shows exactly the metrics that the function's log lines have, and the function writes them."""
    (dashboard,) = of_type(template, "AWS::CloudWatch::Dashboard")
    body = "".join(part if isinstance(part, str) else "FUNCTION" for part in dashboard["DashboardBody"]["Fn::Join"][1])
    shown = set()
    for widget in json.loads(body)["widgets"]:
        for metric in widget["properties"]["metrics"]:
            if metric[0] == metrics.NAMESPACE:
                assert metric[2:4] == [metrics.DIMENSION, "FUNCTION"]
                shown.add(metric[1])
    lines: list[dict[str, Any]] = []
    entry = {"status": 200, "seconds": 1.0, "timings": dict.fromkeys(metrics.PHASES, 0.1)}
    metrics.with_metrics(lines.append, "FUNCTION")(entry)
    assert shown == {metric["Name"] for metric in lines[0]["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    (function,) = of_type(template, "AWS::Lambda::Function")
    assert function["Environment"]["Variables"] == {metrics.METRICS_VARIABLE: "true"}
    assert function["TracingConfig"] == {"Mode": "Active"}


def test_the_dashboard_prices_a_day(template: dict[str, Any]) -> None:
    """A day of one request with 10 s at 10,240 MB costs what the price list says."""
    (dashboard,) = of_type(template, "AWS::CloudWatch::Dashboard")
    found = re.search(r"milliseconds / 1000 \* ([\d.]+) \+ requests \* ([\d.]+)", json.dumps(dashboard))
    assert found is not None
    assert 10_000 / 1000 * float(found[1]) + float(found[2]) == pytest.approx(0.00166687, rel=1e-4)


def test_cdk_nag_accepts_the_organizations_options(image_context: Path, tmp_path: Path) -> None:
    """The AwsSolutions checks report nothing that has no reason."""
    app = build(settings_with(image_context, **ORGANIZATION), str(tmp_path))
    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app))
    app.synth()
    assert json.loads((tmp_path / "validation-report.json").read_text())["pluginReports"] == []


def test_without_the_options_the_template_has_none_of_it(image_context: Path, tmp_path: Path) -> None:
    """No dashboard, metrics, traces, boundary or network unless asked for."""
    app = build(settings_with(image_context), str(tmp_path))
    text = json.dumps(Template.from_stack(app.node.find_child("lambdiff")).to_json())
    for word in ("Dashboard", metrics.METRICS_VARIABLE, "TracingConfig", "PermissionsBoundary", "VpcConfig"):
        assert word not in text


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"vpc_subnets": SUBNETS}, "vpc_security_groups"),
        ({"vpc_security_groups": (GROUP,)}, "vpc_subnets"),
        ({"vpc_subnets": ("subnet",), "vpc_security_groups": (GROUP,)}, "subnet-0123456789abcdef0"),
        ({"vpc_subnets": SUBNETS, "vpc_security_groups": (GROUP,) * 6}, "must be at most 5, not 6"),
        ({"vpc_subnets": SUBNETS * 9, "vpc_security_groups": (GROUP,)}, "must be at most 16, not 18"),
        ({"qualifier": "Has-Dash"}, "10 lower-case letters"),
        ({"permissions_boundary": "no spaces allowed"}, "managed policy"),
    ],
)
def test_bad_values_are_refused_offline(changes: dict[str, Any], detail: str, tmp_path: Path) -> None:
    """Each value is checked before AWS is called."""
    with pytest.raises(InvalidRequest, match=detail):
        settings_with(tmp_path, **changes)


@pytest.fixture
def network(aws: Any) -> tuple[list[str], str, str]:
    """Two subnets in two zones, a security group of their VPC, and one of another VPC."""
    ec2 = boto3.client("ec2", region_name=REGION)
    first, second = (ec2.create_vpc(CidrBlock=f"10.{n}.0.0/16")["Vpc"]["VpcId"] for n in (1, 2))
    subnets = [
        ec2.create_subnet(VpcId=first, CidrBlock=f"10.1.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"]
        for n, zone in enumerate("ab")
    ]
    groups = [
        ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc)["GroupId"] for vpc in (first, second)
    ]
    return [subnet["SubnetId"] for subnet in subnets], groups[0], groups[1]


def test_the_network_is_checked_before_the_build(network: tuple[list[str], str, str]) -> None:
    """Missing subnets and groups of another VPC are errors, one availability zone is a note."""
    subnets, group, foreign = network
    account = accounts.open_account(region=REGION)
    assert networks.check(account, subnets, [group]) == []
    assert "one availability zone" in networks.check(account, subnets[:1], [group])[0]
    with pytest.raises(ConfigurationError, match="several VPCs"):
        networks.check(account, subnets, [foreign])
    with pytest.raises(ConfigurationError, match=r"subnet-0123456789abcdef[01]"):
        networks.check(account, SUBNETS, [group])


def test_the_boundary_is_checked_before_the_build(aws: Any) -> None:
    """IAM would refuse a missing boundary, or another account's, when the stack creates its first role."""
    account = accounts.open_account(region=REGION)
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
    created = boto3.client("iam").create_policy(PolicyName="Developers", Path="/teams/", PolicyDocument=policy)
    arn = created["Policy"]["Arn"]
    for name in ("teams/Developers", arn):
        assert policies.check_boundary(account, name) == []
    with pytest.raises(ConfigurationError, match="policy/Developers does not exist") as missing:
        policies.check_boundary(account, "Developers")
    assert "aws iam list-policies" in missing.value.fix
    for foreign in (arn.replace("123456789012", "999999999999"), arn.replace("arn:aws:", "arn:aws-cn:")):
        with pytest.raises(ConfigurationError, match=r"not a policy of account 123456789012 \(aws\)"):
            policies.check_boundary(account, foreign)
    assert "iam:GetPolicy" in policies.check_boundary(refusing(account, "GetPolicy", "AccessDenied"), arn)[0]


def test_a_custom_bootstrap_is_checked_but_never_created(aws: Any) -> None:
    """A missing or old custom bootstrap is an error that has the command for its owner."""
    account = accounts.open_account(region=REGION)

    def ensure() -> None:
        # Neither the CDK nor a confirmation may be used.
        bootstrap.ensure(account, None, Stages(), None, qualifier="platform")  # type: ignore[arg-type]

    with pytest.raises(DeployError, match="no CDK bootstrap with the qualifier platform") as missing:
        ensure()
    assert "cdk bootstrap aws://123456789012/us-east-1 --qualifier platform" in missing.value.fix
    parameter = {"Name": "/cdk-bootstrap/platform/version", "Type": "String"}
    boto3.client("ssm", region_name=REGION).put_parameter(**parameter, Value="3")
    with pytest.raises(DeployError, match="version 3 "):
        ensure()
    boto3.client("ssm", region_name=REGION).put_parameter(**parameter, Value="30", Overwrite=True)
    ensure()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model folder, and no credentials for AWS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "model").mkdir()
    write_manifest(tmp_path / "model")
    return str(tmp_path / "model")


def test_an_export_is_complete_and_needs_no_aws(model: str, tmp_path: Path) -> None:
    """The exported folder has the template and the whole build context, made without AWS credentials."""
    folder = tmp_path / "exported"
    with RegistryServer() as registry:
        registry.push("{}")
        options = ["--model", model, "--account", "123456789012", "--region", "eu-west-1", "--qualifier", "platform"]
        image = f"{registry.host}/lambda/python:3.12"
        arguments = ["deploy", *options, "--base-image", image, "--export", str(folder), "--json"]
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["stack"] == "lambdiff"
    assets = json.loads((folder / "lambdiff.assets.json").read_text())["dockerImages"]
    (asset,) = assets.values()
    context = folder / asset["source"]["directory"]
    assert {"Dockerfile", "lambdiff", "model"} <= {path.name for path in context.iterdir()}
    assert "cdk-platform-deploy-role-123456789012-eu-west-1" in (folder / "manifest.json").read_text()
    assert '"Value": "eu-west-1"' in (folder / "lambdiff.template.json").read_text()
    assert not list(tmp_path.glob(".exported*"))


@pytest.fixture
def exporting(model: str, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts an export to `tmp_path/exported/lambdiff` on a machine on which Node is not installed."""
    (tmp_path / "exported").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "JSII_NODE"}
    with RegistryServer() as registry:
        registry.push("{}")
        image = f"{registry.host}/lambda/python:3.12"
        options = ["--model", model, "--account", "123456789012", "--region", "eu-west-1", "--base-image", image]
        command = [sys.executable, "-m", "lambdiff", "deploy", *options, "--export", "exported/lambdiff"]
        yield lambda: subprocess.Popen(
            ["/usr/bin/env", "--default-signal=INT,TERM", *command], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**environment, "PATH": "/usr/bin/no", "MARK": str(tmp_path)},
        )  # fmt: skip


@pytest.mark.linux
def test_an_export_needs_no_node(exporting: Callable[[], subprocess.Popen[str]], tmp_path: Path) -> None:
    """The CDK app runs with the Node of its wheel, and prints nothing about it."""
    process = exporting()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out == "exported/lambdiff: lambdiff, for account 123456789012 in eu-west-1\n"
    assert "!!" not in err
    assert [path.name for path in (tmp_path / "exported").iterdir()] == ["lambdiff"]


@pytest.mark.linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_nothing(
    exporting: Callable[[], subprocess.Popen[str]], tmp_path: Path, number: int
) -> None:
    """Neither files nor processes are left, although Node was running."""
    process = exporting()
    while not list((tmp_path / "exported").glob(".lambdiff.*/temporary/*")):  # Node's
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert list((tmp_path / "exported").iterdir()) == []
    deadline = time.monotonic() + 20
    while marked_processes(str(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def marked_processes(mark: str) -> list[str]:
    """Return the ids of running processes with MARK in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"MARK={mark}\0".encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
    return found


def test_an_export_replaces_nothing(model: str, tmp_path: Path) -> None:
    """An existing folder is refused, also a link that leads nowhere, and so is an account without a region."""
    options = DeployOptions(model=model, region="eu-west-1")
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="already exists"):
        export(options, tmp_path / "there", Stages(), account_id="123456789012")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="already exists"):
        export(options, tmp_path / "link", Stages(), account_id="123456789012")
    with pytest.raises(InvalidRequest, match="requires `region=`"):
        export(DeployOptions(model=model), tmp_path / "new", Stages(), account_id="123456789012")


@pytest.mark.parametrize("folder", ["/dev/null/exported", "/proc/exported", "x" * 300])
def test_a_folder_that_cannot_be_written_is_found_before_anything_is_baked(
    model: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is checked before the registry is asked, which is not there."""
    monkeypatch.chdir(tmp_path)
    options = DeployOptions(model=model, region="eu-west-1", overrides={"base_image": "localhost:1/python:3.12"})
    with pytest.raises(OutputError, match="cannot be written"):
        export(options, Path(folder), Stages(), account_id="123456789012")


def test_an_export_names_a_region_without_function_urls(
    model: str, aws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused wherever the region comes from, but not with `force`."""
    monkeypatch.setenv("AWS_REGION", "ca-west-1")
    with pytest.raises(ConfigurationError, match="no Function URLs in ca-west-1"):
        export(DeployOptions(model=model), tmp_path / "new", Stages())
    options = DeployOptions(model=model, force=True, overrides={"base_image": "localhost:1/python:3.12"})
    with pytest.raises(RegistryError, match="localhost:1"):
        export(options, tmp_path / "new", Stages())


@pytest.mark.parametrize(
    "options",
    [
        ("--builder", "codebuild"),
        ("--dry-run",),
        ("--account", "123456789012", "--region", "eu-west-1", "--profile", "work"),
    ],
)
def test_an_export_ignores_no_option(options: tuple[str, ...], tmp_path: Path) -> None:
    """What an export cannot honor is a usage error."""
    done = CliRunner().invoke(cli, ["deploy", "--export", str(tmp_path / "new"), *options])
    assert done.exit_code == 2
    assert "cannot be combined with" in done.stderr

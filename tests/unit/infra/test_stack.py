"""The synthesized template, option by option (infra/stack.py)."""

from __future__ import annotations

import functools
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import botocore.session
import cdk_nag
import pytest
from aws_cdk.assertions import Match, Template

from lambdiff.aws import outputs
from lambdiff.aws.stacks import StackState
from lambdiff.handler.app import App
from lambdiff.infra import stack as stacks
from lambdiff.infra.cdk_app import build, build_builder
from lambdiff.infra.existing_stack import ExistingStack
from lambdiff.infra.settings import SettingOverrides, StackSettings
from support.stub_engine import StubEngine

pytestmark = pytest.mark.slow

SNAPSHOT = Path(__file__).parent / "snapshots" / "template.json"
ROLE = "arn:aws:iam::123456789012:role/Designers"
EVERYTHING: dict[str, Any] = {
    "alarm_email": "ann@example.org",
    "auth": "role",
    "keep_warm_minutes": 5,
    "monthly_budget_usd": 20.0,
    "principals": (ROLE,),
    "reserved_concurrency": 5,
    "snapstart": True,
    "tags": {"team": "design"},
}


@pytest.fixture
def template(image_context: Path) -> Any:
    """A function from settings to the template; each set of settings is synthesized once."""
    return functools.partial(synthesize, str(image_context))


@functools.lru_cache
def _synthesize(context: str, changes: str) -> Template:
    settings = settings_for(context, **json.loads(changes))
    app = build(settings, tempfile.mkdtemp())
    return Template.from_stack(app.node.find_child(settings.stack_name))


def synthesize(context: str, **changes: Any) -> Template:
    """Return the template for some settings."""
    return _synthesize(context, json.dumps(changes, sort_keys=True))


def settings_for(context: str, **changes: Any) -> StackSettings:
    """Return checked settings; the lists of JSON become tuples."""
    for name in {"principals", "vpc_subnets", "vpc_security_groups"} & changes.keys():
        changes[name] = tuple(changes[name])
    return StackSettings(account="123456789012", region="us-east-1", context=context, **changes).check()


def resources(template: Template, kind: str) -> list[dict[str, Any]]:
    """Return the properties of every resource of one type."""
    return [resource["Properties"] for resource in template.find_resources(kind).values()]


def test_the_template_equals_the_snapshot(template: Any) -> None:
    """The default template equals the snapshot; to update it, delete the file, run the test and review the diff."""
    text = json.dumps(template().to_json(), indent=2, sort_keys=True) + "\n"
    text = re.sub(r"(container-assets-[\w-]+:lambdiff-)[0-9a-f]{64}", r"\1HASH", text)
    if not SNAPSHOT.exists():
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(text)
        pytest.fail("wrote a new snapshot: review and commit it")
    assert text == SNAPSHOT.read_text()


def test_the_digest_of_the_base_image_is_a_build_argument(image_context: Path, tmp_path: Path) -> None:
    """Another digest gives the image another name, so that it is built; the output has the tag as well."""
    names = set()
    for digit in "01":
        folder, digest = tmp_path / digit, f"sha256:{digit * 64}"
        pinned = {"base_image": f"x.example/python@{digest}", "base_image_pin": f"x.example/python:3.12@{digest}"}
        build(settings_for(str(image_context), **pinned), str(folder)).synth()
        ((name, image),) = json.loads((folder / "lambdiff.assets.json").read_text())["dockerImages"].items()
        assert image["source"]["dockerBuildArgs"] == {
            "BASE_IMAGE": pinned["base_image"], "BASE_DIGEST": digest, "ENGINE": "openvino",
        }  # fmt: skip
        outputs_ = json.loads((folder / "lambdiff.template.json").read_text())["Outputs"]
        assert outputs_["BaseImage"]["Value"] == pinned["base_image_pin"]
        names.add(name)
    assert len(names) == 2


def test_the_function_has_the_default_size(template: Any) -> None:
    """By default the function has 10,240 MB, 600 s, x86_64 and a container image."""
    template().has_resource_properties(
        "AWS::Lambda::Function",
        {"MemorySize": 10_240, "Timeout": 600, "PackageType": "Image", "Architectures": ["x86_64"]},
    )


def test_memory_timeout_and_tmp_can_be_chosen(template: Any) -> None:
    """The template has the memory, the timeout and the /tmp size of the settings."""
    template(memory_mb=3008, timeout_s=60, tmp_mb=1024).has_resource_properties(
        "AWS::Lambda::Function", {"MemorySize": 3008, "Timeout": 60, "EphemeralStorage": {"Size": 1024}}
    )


@pytest.mark.parametrize(
    ("architecture", "engine", "platform"),
    [
        ("x86_64", "openvino", "linux/amd64"),
        ("arm64", "openvino", "linux/arm64"),
        ("arm64", "diffusers", "linux/arm64"),
    ],
)
def test_platform_and_architecture_go_together(
    architecture: str, engine: str, platform: str, image_context: Path, tmp_path: Path
) -> None:
    """The image is built for the function's architecture, whatever that of the build machine."""
    settings = settings_for(str(image_context), architecture=architecture, engine=engine)
    build(settings, str(tmp_path)).synth()
    images = json.loads((tmp_path / "lambdiff.assets.json").read_text())["dockerImages"].values()
    function = json.loads((tmp_path / "lambdiff.template.json").read_text())["Resources"]["Function76856677"]
    assert [image["source"]["platform"] for image in images] == [platform]
    assert [image["source"]["dockerBuildArgs"]["ENGINE"] for image in images] == [engine]
    assert function["Properties"]["Architectures"] == [architecture]


@pytest.mark.parametrize("options", [{}, {"auth": "role", "principals": [ROLE]}])
def test_the_invoker_has_both_permissions_on_this_function_only(template: Any, options: dict[str, Any]) -> None:
    """The invoker may call `InvokeFunctionUrl` and `InvokeFunction`, both of which a Function URL requires."""
    policies = [
        policy
        for policy in resources(template(**options), "AWS::IAM::Policy")
        if policy["PolicyName"].startswith("Invoker")
    ]
    assert len(policies) == 1
    function = {"Fn::GetAtt": ["Function76856677", "Arn"]}
    assert policies[0]["PolicyDocument"]["Statement"] == [
        {
            "Action": "lambda:InvokeFunctionUrl",
            "Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}},
            "Effect": "Allow",
            "Resource": function,
        },
        {
            "Action": "lambda:InvokeFunction",
            "Condition": {"Bool": {"lambda:InvokedViaFunctionUrl": True}},
            "Effect": "Allow",
            "Resource": function,
        },
    ]


def test_the_url_always_requires_a_signature(template: Any) -> None:
    """No option and no resource policy makes the URL public."""
    for options in ({}, EVERYTHING):
        urls = resources(template(**options), "AWS::Lambda::Url")
        assert [url["AuthType"] for url in urls] == ["AWS_IAM"]
    template().resource_count_is("AWS::Lambda::Permission", 0)


def test_the_key_pair_is_in_the_secret_only(template: Any) -> None:
    """The secret refers to the access key, and no output contains the secret access key."""
    secret = resources(template(), "AWS::SecretsManager::Secret")[0]
    assert secret["SecretString"]["Fn::Join"][1] == [
        '{"AWS_ACCESS_KEY_ID":"',
        {"Ref": "InvokerKeyD7892D57"},
        '","AWS_SECRET_ACCESS_KEY":"',
        {"Fn::GetAtt": ["InvokerKeyD7892D57", "SecretAccessKey"]},
        '"}',
    ]
    assert "SecretAccessKey" not in json.dumps(template().to_json()["Outputs"])


def test_a_rotation_changes_one_parameter(template: Any) -> None:
    """The key's serial is a template parameter, so that a rotation needs neither the CDK nor the image."""
    template().has_parameter(outputs.KEY_SERIAL, {"Type": "Number", "Default": 1})
    template().has_resource_properties("AWS::IAM::AccessKey", {"Serial": {"Ref": outputs.KEY_SERIAL}})


def test_a_role_replaces_user_key_and_secret(template: Any) -> None:
    """With `auth=role` no long-lived key exists, and only the named principals are trusted."""
    with_role = template(auth="role", principals=[ROLE, "arn:aws:iam::210987654321:root"])
    for kind in ("AWS::IAM::User", "AWS::IAM::AccessKey", "AWS::SecretsManager::Secret"):
        with_role.resource_count_is(kind, 0)
    trusted = [
        statement["Principal"]["AWS"]
        for role in resources(with_role, "AWS::IAM::Role")
        for statement in role["AssumeRolePolicyDocument"]["Statement"]
        if "AWS" in statement["Principal"]
    ]
    assert trusted == [ROLE, "arn:aws:iam::210987654321:root"]
    with_role.has_output("InvokerRoleArn", Match.any_value())


@pytest.mark.parametrize("limit", [0, 7])
def test_concurrency_is_reserved(template: Any, limit: int) -> None:
    """The function reserves the given concurrency, including 0, which disables the endpoint."""
    template(reserved_concurrency=limit).has_resource_properties(
        "AWS::Lambda::Function", {"ReservedConcurrentExecutions": limit}
    )


def test_concurrency_is_not_reserved_by_default(template: Any) -> None:
    """Without the setting there is no reservation, because some accounts cannot make one."""
    template().has_resource_properties("AWS::Lambda::Function", {"ReservedConcurrentExecutions": Match.absent()})


def test_logs_expire_and_have_no_fixed_name(template: Any) -> None:
    """Log groups expire and have generated names, so that deployments in one account do not collide."""
    template(log_retention_days=7).has_resource(
        "AWS::Logs::LogGroup",
        {"DeletionPolicy": "Delete", "Properties": {"RetentionInDays": 7, "LogGroupName": Match.absent()}},
    )


def test_three_alarms_watch_the_function(template: Any) -> None:
    """Alarms watch for errors, for throttles, and for durations over 80% of the timeout."""
    alarms = {alarm["MetricName"]: alarm for alarm in resources(template(timeout_s=100), "AWS::CloudWatch::Alarm")}
    assert set(alarms) == {"Errors", "Throttles", "Duration"}
    assert alarms["Duration"]["Threshold"] == 80_000
    assert all("AlarmActions" not in alarm for alarm in alarms.values())
    template().resource_count_is("AWS::SNS::Topic", 0)


def test_alarms_are_sent_by_email(template: Any) -> None:
    """Each alarm publishes to a topic, to which only CloudWatch may publish, and only over TLS."""
    with_mail = template(alarm_email="ann@example.org")
    assert all(len(alarm["AlarmActions"]) == 1 for alarm in resources(with_mail, "AWS::CloudWatch::Alarm"))
    with_mail.has_resource_properties("AWS::SNS::Subscription", {"Protocol": "email", "Endpoint": "ann@example.org"})
    statements = resources(with_mail, "AWS::SNS::TopicPolicy")[0]["PolicyDocument"]["Statement"]
    assert {statement["Effect"] for statement in statements} == {"Deny", "Allow"}
    allowed = next(statement for statement in statements if statement["Effect"] == "Allow")
    assert allowed["Principal"] == {"Service": "cloudwatch.amazonaws.com"}


def test_a_budget_is_optional(template: Any) -> None:
    """A budget is created on request, with notifications at 80% spent and at 100% forecast."""
    template().resource_count_is("AWS::Budgets::Budget", 0)
    budget = resources(template(monthly_budget_usd=20.0, alarm_email="ann@example.org"), "AWS::Budgets::Budget")[0]
    assert budget["Budget"]["BudgetLimit"] == {"Amount": 20, "Unit": "USD"}
    assert [entry["Notification"]["Threshold"] for entry in budget["NotificationsWithSubscribers"]] == [80, 100]


def test_the_keep_warm_event_loads_the_model(template: Any) -> None:
    """The scheduled event is a valid Function URL event that generates an image with one step."""
    template().resource_count_is("AWS::Events::Rule", 0)
    rule = resources(template(keep_warm_minutes=4), "AWS::Events::Rule")[0]
    assert rule["ScheduleExpression"] == "rate(4 minutes)"
    event = json.loads(rule["Targets"][0]["Input"])
    assert json.loads(event["body"])["num_inference_steps"] == 1
    app = App(StubEngine)
    assert app.invoke(event)["statusCode"] == 200
    assert app.engine.loaded


def test_snapstart_publishes_a_version_and_attaches_the_url_to_its_alias(template: Any) -> None:
    """With SnapStart a version is published, and URL and permissions are attached to its alias."""
    snap = template(snapstart=True)
    snap.has_resource_properties("AWS::Lambda::Function", {"SnapStart": {"ApplyOn": "PublishedVersions"}})
    snap.resource_count_is("AWS::Lambda::Version", 1)
    snap.has_resource_properties("AWS::Lambda::Url", {"Qualifier": "live"})
    invoker = next(p for p in resources(snap, "AWS::IAM::Policy") if p["PolicyName"].startswith("Invoker"))
    assert {json.dumps(s["Resource"]) for s in invoker["PolicyDocument"]["Statement"]} == {'{"Ref": "Live848578DF"}'}
    template().resource_count_is("AWS::Lambda::Version", 0)


def test_images_are_tagged_with_the_name_of_their_stack(image_context: Path, tmp_path: Path) -> None:
    """All CDK applications of an account share a repository; `destroy` finds a stack's images by this tag."""
    build(settings_for(str(image_context), name="tiny"), str(tmp_path)).synth()
    (image,) = json.loads((tmp_path / "lambdiff-tiny.assets.json").read_text())["dockerImages"].values()
    (destination,) = image["destinations"].values()
    assert re.fullmatch(r"lambdiff-tiny-[0-9a-f]{64}", destination["imageTag"])
    assert destination["repositoryName"] == "cdk-hnb659fds-container-assets-123456789012-us-east-1"


INVOKER = ("AWS::Lambda::Url", "AWS::IAM::User", "AWS::IAM::AccessKey", "AWS::SecretsManager::Secret", "AWS::IAM::Role")
UPDATED_IN_PLACE = {"AlarmDescription", "Code", "Description", "FunctionVersion"}
"""Properties that differ between the first version and this one, none of which replaces a resource."""


@pytest.mark.parametrize("number", range(4))
def test_a_stack_of_the_first_version_keeps_url_and_key(template: Any, number: int) -> None:
    """Redeploying a stack that the first version created updates its resources in place.

    The recorded templates are those of commit 1aed81d. Only the published version of the function is a new resource.
    """
    recorded = json.loads((SNAPSHOT.parents[1] / "recorded" / "stacks-of-the-first-version.json").read_text())[number]
    now = template(**recorded["settings"]).to_json()["Resources"]
    for logical_id, before in recorded["resources"].items():
        if before["Type"] != "AWS::Lambda::Version":
            after = now[logical_id]
            assert after["Type"] == before["Type"]
            names = before["Properties"].keys() | after["Properties"].keys()
            changed = {name for name in names if before["Properties"].get(name) != after["Properties"].get(name)}
            assert changed <= UPDATED_IN_PLACE, (logical_id, changed)
    kept = ExistingStack.of(StackState("lambdiff", "CREATE_COMPLETE"), {"Resources": recorded["resources"]})
    assert list(kept.principals) == recorded["settings"].get("principals", [])
    assert (kept.snapstart, kept.memory_mb) == (recorded["settings"].get("snapstart", False), 10_240)


def identity(template: Template) -> dict[str, Any]:
    """Return what decides a stack's URL and who calls it: resources, and the properties whose change replaces them."""
    return {
        logical_id: [
            resource["Properties"].get(name) for name in ("TargetFunctionArn", "Qualifier", "UserName", "Serial")
        ]
        for logical_id, resource in template.to_json()["Resources"].items()
        if resource["Type"] in INVOKER and not logical_id.startswith(("FunctionRole", "Batch"))
    }


CHANGES: dict[str, Any] = {
    "memory_mb": 3008,
    "timeout_s": 60,
    "tmp_mb": 1024,
    "architecture": "arm64",
    "engine": "diffusers",
    "base_image": "public.ecr.aws/lambda/python:3.13",
    "auth": "role",
    "reserved_concurrency": 5,
    "log_retention_days": 7,
    "alarm_email": "ann@example.org",
    "monthly_budget_usd": 20.0,
    "keep_warm_minutes": 5,
    "snapstart": True,
    "dashboard": True,
    "tracing": True,
    "qualifier": "platform",
    "permissions_boundary": "Developers",
    "vpc_subnets": ["subnet-0123456789abcdef0"],
    "vpc_security_groups": ["sg-0123456789abcdef0"],
    "batch": True,
    "batch_memory_mb": 3008,
    "batch_timeout_s": 60,
    "tags": {"team": "design"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_replacement_is_announced(template: Any, name: str) -> None:
    """The question before a deployment names a change exactly if it replaces the URL or who may call it."""
    needed = {
        "auth": {"principals": [ROLE]},
        "batch_memory_mb": {"batch": True},
        "batch_timeout_s": {"batch": True},
        "monthly_budget_usd": {"alarm_email": "ann@example.org"},
        "vpc_subnets": {"vpc_security_groups": ["sg-0123456789abcdef0"]},
        "vpc_security_groups": {"vpc_subnets": ["subnet-0123456789abcdef0"]},
    }.get(name, {})
    before, changes = template().to_json(), {name: CHANGES[name], **needed}
    existing = ExistingStack.of(StackState("lambdiff", "CREATE_COMPLETE"), before)
    announced = list(existing.replacements(settings_for("context", **changes)))
    assert bool(announced) is (identity(template()) != identity(template(**changes)))


def test_all_settings_are_tried_for_replacements() -> None:
    """`CHANGES` has every setting that a caller may choose."""
    assert set(CHANGES) == set(SettingOverrides.__annotations__) - {"principals"} | {"reserved_concurrency"}


def test_everything_is_tagged(template: Any) -> None:
    """Every taggable resource has the deployment's name and the caller's tags."""
    tagged = template(tags={"team": "design"}, name="tiny").to_json()["Resources"]
    wanted = [{"Key": "lambdiff:deployment", "Value": "tiny"}, {"Key": "team", "Value": "design"}]
    kinds = {r["Type"]: r["Properties"]["Tags"] for r in tagged.values() if "Tags" in r["Properties"]}
    assert {"AWS::Lambda::Function", "AWS::IAM::User", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup"} <= set(
        kinds
    )
    assert all(tags == wanted for tags in kinds.values())


@pytest.mark.parametrize("options", [{}, EVERYTHING])
def test_no_policy_has_a_wildcard(template: Any, options: dict[str, Any]) -> None:
    """No statement that allows something has a wildcard, and no role has a managed policy."""
    for kind in ("AWS::IAM::Policy", "AWS::SNS::TopicPolicy", "AWS::IAM::ManagedPolicy"):
        for policy in resources(template(**options), kind):
            for statement in policy["PolicyDocument"]["Statement"]:
                if statement["Effect"] == "Allow":
                    assert "*" not in json.dumps(statement)
    for role in resources(template(**options), "AWS::IAM::Role"):
        assert "ManagedPolicyArns" not in role


@pytest.mark.parametrize("options", [{}, EVERYTHING])
def test_the_assembly_reveals_nothing_about_this_machine(
    options: dict[str, Any], image_context: Path, tmp_path: Path
) -> None:
    """No file of the assembly contains a local path or an access key."""
    build(settings_for(str(image_context), **options), str(tmp_path)).synth()
    for file in (tmp_path / "lambdiff.template.json", tmp_path / "lambdiff.assets.json"):
        text = file.read_text()
        assert str(image_context) not in text
        assert str(tmp_path) not in text
        assert str(Path.home()) not in text
        assert not re.search(r"AKIA[A-Z0-9]{16}", text)


@pytest.mark.parametrize("options", [{}, EVERYTHING, {"alarm_email": "ann@example.org"}, {"batch": True}])
def test_cdk_nag_finds_nothing_unacknowledged(options: dict[str, Any], image_context: Path, tmp_path: Path) -> None:
    """The AwsSolutions checks report no violation."""
    app = build(settings_for(str(image_context), **options), str(tmp_path))
    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app))
    app.synth()
    assert json.loads((tmp_path / "validation-report.json").read_text())["pluginReports"] == []


def test_cdk_nag_fails_without_the_acknowledgement(
    image_context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the acknowledgement of the known finding, synthesis fails."""
    monkeypatch.setattr(stacks, "acknowledge", lambda *_: None)
    app = build(settings_for(str(image_context)), str(tmp_path))
    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app))
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()
    assert "AwsSolutions-SMG4" in (tmp_path / "validation-report.json").read_text()


def test_the_stack_has_the_documented_outputs(template: Any) -> None:
    """The stack's outputs include `LambdaUrl` and `SecretArn`, which clients from tutorials read."""
    assert set(template().to_json()["Outputs"]) == {
        "Auth", "BaseImage", "Engine", "Fingerprint", "FunctionName", "LambdaUrl", "LogGroup", "Model", "Region",
        "SecretArn",
    }  # fmt: skip


TAGS = ("TagResource", "UntagResource")
POLICIES = ("PutRolePolicy", "DeleteRolePolicy", "GetRolePolicy", "PutUserPolicy", "DeleteUserPolicy", "GetUserPolicy")
# Actions of S3 that are not named after the operation.
S3_NAMES = ("GetBucketPublicAccessBlock", "PutBucketPublicAccessBlock", "GetEncryptionConfiguration",
            "PutEncryptionConfiguration", "GetLifecycleConfiguration", "PutLifecycleConfiguration")  # fmt: skip
EXECUTION: dict[str, dict[str, tuple[str, ...]]] = {
    "AWS::Budgets::Budget": {"budgets": ("ModifyBudget", "ViewBudget", *TAGS)},
    "AWS::CloudWatch::Alarm": {
        "cloudwatch": ("PutMetricAlarm", "DeleteAlarms", "DescribeAlarms", "ListTagsForResource", *TAGS)
    },
    "AWS::CloudWatch::Dashboard": {"cloudwatch": ("PutDashboard", "GetDashboard", "DeleteDashboards")},
    "AWS::CodeBuild::Project": {
        "codebuild": ("CreateProject", "BatchGetProjects", "UpdateProject", "DeleteProject"),
        "iam": ("PassRole",),
    },
    "AWS::ECR::Repository": {
        "ecr": ("CreateRepository", "DescribeRepositories", "DeleteRepository", "ListImages", "BatchDeleteImage",
                "GetRepositoryPolicy", "SetRepositoryPolicy", "DeleteRepositoryPolicy", "GetLifecyclePolicy",
                "PutImageScanningConfiguration", "PutImageTagMutability", "ListTagsForResource", *TAGS)
    },
    "AWS::Events::Rule": {
        "events": ("PutRule", "DescribeRule", "DeleteRule", "PutTargets", "RemoveTargets", "ListTargetsByRule",
                   "ListTagsForResource", *TAGS)
    },
    "AWS::IAM::AccessKey": {"iam": ("CreateAccessKey", "UpdateAccessKey", "DeleteAccessKey", "ListAccessKeys")},
    "AWS::IAM::Policy": {"iam": POLICIES},
    "AWS::IAM::Role": {
        "iam": ("PutRolePermissionsBoundary", "DeleteRolePermissionsBoundary", "CreateRole", "GetRole",
                "UpdateRole", "UpdateRoleDescription", "UpdateAssumeRolePolicy", "DeleteRole",
                "ListRolePolicies", "ListAttachedRolePolicies", "TagRole", "UntagRole")
    },
    "AWS::IAM::User": {
        "iam": ("PutUserPermissionsBoundary", "DeleteUserPermissionsBoundary", "CreateUser", "GetUser",
                "UpdateUser", "DeleteUser", "DeleteLoginProfile", "ListGroupsForUser",
                "ListUserPolicies", "ListAttachedUserPolicies", "TagUser", "UntagUser")
    },
    "AWS::Lambda::Alias": {"lambda": ("CreateAlias", "GetAlias", "UpdateAlias", "DeleteAlias")},
    "AWS::Lambda::Function": {
        "lambda": ("CreateFunction", "GetFunction", "GetFunctionConfiguration", "UpdateFunctionCode",
                   "UpdateFunctionConfiguration", "DeleteFunction", "PutFunctionConcurrency",
                   "DeleteFunctionConcurrency", "GetFunctionCodeSigningConfig", "GetRuntimeManagementConfig",
                   "GetFunctionRecursionConfig", "ListTags", *TAGS),
        "iam": ("PassRole",),
        "ecr": ("GetRepositoryPolicy", "SetRepositoryPolicy", "BatchGetImage", "GetDownloadUrlForLayer"),
        "ec2": ("DescribeSecurityGroups", "DescribeSubnets", "DescribeVpcs"),
    },
    "AWS::Lambda::Permission": {"lambda": ("AddPermission", "GetPolicy", "RemovePermission")},
    "AWS::Lambda::Url": {
        "lambda": ("CreateFunctionUrlConfig", "GetFunctionUrlConfig", "UpdateFunctionUrlConfig",
                   "DeleteFunctionUrlConfig")
    },
    "AWS::Lambda::Version": {"lambda": ("PublishVersion", "ListVersionsByFunction", "DeleteFunction")},
    "AWS::Logs::LogGroup": {
        "logs": ("CreateLogGroup", "DescribeLogGroups", "PutRetentionPolicy", "DeleteLogGroup", "ListTagsForResource",
                 *TAGS)
    },
    "AWS::S3::Bucket": {
        "s3": ("CreateBucket", "DeleteBucket", "ListBucket", "GetBucketTagging", "PutBucketTagging",
               "GetBucketOwnershipControls", "PutBucketOwnershipControls", *S3_NAMES)
    },
    "AWS::S3::BucketPolicy": {"s3": ("GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy")},
    "AWS::SNS::Subscription": {
        "sns": ("Subscribe", "GetSubscriptionAttributes", "SetSubscriptionAttributes", "Unsubscribe")
    },
    "AWS::SNS::Topic": {
        "sns": ("CreateTopic", "GetTopicAttributes", "SetTopicAttributes", "DeleteTopic", "ListSubscriptionsByTopic",
                "ListTagsForResource", *TAGS)
    },
    "AWS::SNS::TopicPolicy": {"sns": ("SetTopicAttributes",)},
    "AWS::StepFunctions::StateMachine": {
        "states": ("CreateStateMachine", "DescribeStateMachine", "UpdateStateMachine", "DeleteStateMachine",
                   "ListTagsForResource", *TAGS),
        "iam": ("PassRole",),
    },
    "AWS::SecretsManager::Secret": {
        "secretsmanager": ("CreateSecret", "DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecret",
                           "DeleteSecret", *TAGS)
    },
}  # fmt: skip
"""What CloudFormation calls to create, update and delete each type of resource."""


def test_the_documented_execution_policy_is_sufficient_for_the_stack(template: Any, image_context: Path) -> None:
    """The policy for CDK's execution role has what the types of all resources need, and nothing else."""
    everything = {**EVERYTHING, "dashboard": True, "batch": True}
    templates = [template(**everything), template(**{**everything, "auth": "key-pair", "principals": []})]
    app = build_builder(settings_for(str(image_context)), "0123", tempfile.mkdtemp())
    templates.append(Template.from_stack(app.node.find_child("lambdiff-Builder")))
    used = {resource["Type"] for each in templates for resource in each.to_json()["Resources"].values()}
    assert used == set(EXECUTION)
    needed = {f"{service}:{name}" for each in EXECUTION.values() for service, names in each.items() for name in names}
    page = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text(encoding="utf-8")
    section = page.split("### Narrow CDK's execution role")[1].split("\n### ")[0]
    statements = json.loads(section.split("```json")[1].split("```")[0])["Statement"]
    actions = [each["Action"] for each in statements]
    allowed = [name for each in actions for name in ([each] if isinstance(each, str) else each)]
    assert set(allowed) - {"ssm:GetParameters"} == needed
    assert len(allowed) == len(set(allowed))
    # CloudFormation reads the version of the bootstrap, which the template's rule checks.
    assert "ssm:GetParameters" in allowed
    assert all(each["Resource"] != "*" for each in statements if "Describe" not in str(each["Action"]))


def test_the_actions_of_the_execution_policy_exist() -> None:
    """Each action is named after an operation of AWS's API, except those that IAM defines itself."""
    session = botocore.session.Session()
    own = {"iam:PassRole", "budgets:ModifyBudget", "budgets:ViewBudget", "s3:ListBucket"}
    own |= {f"s3:{name}" for name in S3_NAMES}
    for services in EXECUTION.values():
        for service, names in services.items():
            model = "stepfunctions" if service == "states" else service
            known = set(session.get_service_model(model).operation_names)
            assert {f"{service}:{name}" for name in names if name not in known} <= own

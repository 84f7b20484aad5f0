"""The builder stack: what CodeBuild needs to build a deployment's image where no container engine runs.

    bucket (the staged context, one day at most) -> CodeBuild project -> image repository -> the endpoint's function
                                                        |
                                                        +-- role for these three and its own log group

A stack of its own, because the function needs the image before its stack can be created.
"""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from lambdiff.aws import outputs
from lambdiff.infra.findings import acknowledge
from lambdiff.infra.settings import BUILD_MINUTES, StackSettings, builder_stack_name
from lambdiff.infra.stack import to_permissions_boundary

_IMAGES: Final = {
    "x86_64": codebuild.LinuxBuildImage.AMAZON_LINUX_2023_5,
    "arm64": codebuild.LinuxArmBuildImage.AMAZON_LINUX_2023_STANDARD_3_0,
}
# Not `docker build --push`: the plain Docker driver of CodeBuild's images builds, and pushes what it has built.
_BUILD_SPEC: Final = {
    "version": 0.2,
    "env": {"shell": "bash"},
    "phases": {
        "pre_build": {
            "commands": [
                'aws ecr get-login-password --region "$AWS_REGION" | '
                'docker login --username AWS --password-stdin "${REPOSITORY%%/*}"'
            ]
        },
        "build": {
            "commands": [
                'docker build --platform "$PLATFORM" --build-arg "BASE_IMAGE=$BASE_IMAGE" '
                '--build-arg "BASE_DIGEST=$BASE_DIGEST" --build-arg "ENGINE=$ENGINE" --tag "$REPOSITORY:$TAG" .',
                'docker push "$REPOSITORY:$TAG"',
            ]
        },
    },
}


class BuilderStack(cdk.Stack):  # type: ignore[misc]  # mypy skips aws_cdk, which takes it a minute
    """The builder stack of one deployment."""

    def __init__(self, scope: Construct, settings: StackSettings, fingerprint: str) -> None:
        name = builder_stack_name(settings.name)
        super().__init__(
            scope,
            name,
            stack_name=name,
            description=f"Builds the image of the lambdiff endpoint {settings.name}, deployed by lambdiff.",
            env=cdk.Environment(account=settings.account, region=settings.region),
            synthesizer=cdk.DefaultStackSynthesizer(qualifier=settings.qualifier),
            permissions_boundary=to_permissions_boundary(settings.permissions_boundary),
        )
        self._settings = settings
        log_group = logs.LogGroup(
            self, "Logs", retention=logs.RetentionDays.ONE_WEEK, removal_policy=cdk.RemovalPolicy.DESTROY
        )
        bucket = self._bucket()
        repository = self._repository()
        project = self._project(log_group, bucket, repository)
        for output, value, description in (
            (outputs.BUILDER_PROJECT, project.project_name, "CodeBuild project"),
            (outputs.BUILDER_BUCKET, bucket.bucket_name, "Bucket of the staged context"),
            (outputs.BUILDER_REPOSITORY, repository.repository_uri, "Repository of the image"),
            (outputs.FINGERPRINT, fingerprint, "Hash of the settings and of this template"),
        ):
            cdk.CfnOutput(self, output, value=value, description=description)
        for key, text in {outputs.DEPLOYMENT_TAG: settings.name, **settings.tags}.items():
            cdk.Tags.of(self).add(key, text)

    def _bucket(self) -> s3.Bucket:
        bucket = s3.Bucket(
            self,
            "Context",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=cdk.Duration.days(1), abort_incomplete_multipart_upload_after=cdk.Duration.days(1)
                )
            ],
            # `lambdiff destroy` empties it: CDK's own way takes a Lambda function.
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        acknowledge(
            bucket,
            "AwsSolutions-S1",
            "It holds one archive while an image is built: the public source of lambdiff and the model that its owner "
            "deploys. Access logs would need a second bucket that outlives it.",
        )
        return bucket

    def _repository(self) -> ecr.Repository:
        repository = ecr.Repository(
            self,
            "Images",
            image_scan_on_push=True,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            removal_policy=cdk.RemovalPolicy.DESTROY,
            empty_on_delete=True,
        )
        # The endpoint's stack only names the repository, so it cannot add this.
        repository.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                principals=[iam.ServicePrincipal("lambda.amazonaws.com")],
                conditions={
                    "StringLike": {"aws:sourceArn": self.format_arn(service="lambda", resource="function:lambdiff*")}
                },
            )
        )
        return repository

    def _project(self, log_group: logs.LogGroup, bucket: s3.Bucket, repository: ecr.Repository) -> codebuild.Project:
        role = iam.Role(
            self,
            "ProjectRole",
            assumed_by=iam.ServicePrincipal(
                "codebuild.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self._settings.account}}
            ),
        )
        log_group.grant_write(role)
        for actions, resource in (
            (["s3:GetObject", "s3:GetObjectVersion"], bucket.arn_for_objects("*")),
            (["s3:GetBucketAcl", "s3:GetBucketLocation", "s3:ListBucket"], bucket.bucket_arn),
            (
                [
                    *("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
                    *("ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"),
                ],
                repository.repository_arn,
            ),
            (["ecr:GetAuthorizationToken"], "*"),
        ):
            role.add_to_principal_policy(iam.PolicyStatement(actions=actions, resources=[resource]))
        acknowledge(
            role,
            f"AwsSolutions-IAM5[Resource::<{self.get_logical_id(bucket.node.default_child)}.Arn>/*]",
            "The objects of the project's own bucket are named by the hash of their content.",
        )
        acknowledge(role, "AwsSolutions-IAM5[Resource::*]", "ecr:GetAuthorizationToken applies to no resource.")
        project = codebuild.Project(
            self,
            "Project",
            project_name=builder_stack_name(self._settings.name),
            description=f"Builds the image of the lambdiff endpoint {self._settings.name}",
            role=role.without_policy_updates(),  # the construct would add wildcards
            source=codebuild.Source.s3(bucket=bucket, path="context.zip"),  # each build names its own
            environment=codebuild.BuildEnvironment(
                build_image=_IMAGES[self._settings.architecture],
                compute_type=codebuild.ComputeType.SMALL,
                privileged=True,
            ),
            environment_variables={
                "REPOSITORY": codebuild.BuildEnvironmentVariable(value=repository.repository_uri),
                # Lambda rejects images with attestations.
                "BUILDX_NO_DEFAULT_ATTESTATIONS": codebuild.BuildEnvironmentVariable(value="1"),
                "DOCKER_BUILDKIT": codebuild.BuildEnvironmentVariable(value="1"),
            },
            build_spec=codebuild.BuildSpec.from_object_to_yaml(_BUILD_SPEC),
            logging=codebuild.LoggingOptions(cloud_watch=codebuild.CloudWatchLoggingOptions(log_group=log_group)),
            timeout=cdk.Duration.minutes(BUILD_MINUTES),
            queued_timeout=cdk.Duration.minutes(30),
            grant_report_group_permissions=False,
        )
        acknowledge(project, "AwsSolutions-CB3", "Building an image takes Docker, which needs the privileged mode.")
        acknowledge(project, "AwsSolutions-CB4", "The project has no artifacts and no cache that a key would encrypt.")
        return project

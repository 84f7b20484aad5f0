"""Names in a deployment's stack: outputs, parameters, a tag. Clients read the outputs, so the names never change."""

from __future__ import annotations

from typing import Final

URL: Final = "LambdaUrl"
FUNCTION_NAME: Final = "FunctionName"
REGION: Final = "Region"
LOG_GROUP: Final = "LogGroup"
MODEL: Final = "Model"
ENGINE: Final = "Engine"
AUTH: Final = "Auth"
BASE_IMAGE: Final = "BaseImage"
FINGERPRINT: Final = "Fingerprint"
SECRET_ARN: Final = "SecretArn"  # noqa: S105 (the name of an output)
INVOKER_ROLE_ARN: Final = "InvokerRoleArn"

BATCH_BUCKET: Final = "BatchBucketName"
BATCH_FUNCTION: Final = "BatchFunctionName"
BATCH_STATE_MACHINE: Final = "BatchStateMachineArn"
"""Outputs of a deployment with `batch`."""

BUILDER_PROJECT: Final = "BuilderProject"
BUILDER_BUCKET: Final = "BuilderBucket"
BUILDER_REPOSITORY: Final = "BuilderRepository"
"""Outputs of a deployment's builder stack."""

KEY_SERIAL: Final = "KeySerial"
"""Template parameter: when the number is raised, CloudFormation replaces the access key (`lambdiff rotate`)."""

DEPLOYMENT_TAG: Final = "lambdiff:deployment"
"""Tag of the stack and of everything in it; its value is the name of the deployment."""

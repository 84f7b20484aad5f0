"""The CDK app: synthesizes the stack. The CDK CLI starts it as `python -m lambdiff.infra.cdk_app`."""

from __future__ import annotations

import sys

import aws_cdk as cdk

from lambdiff.errors import LambdiffError
from lambdiff.infra import settings as stack_settings
from lambdiff.infra.settings import StackSettings
from lambdiff.infra.stack import EndpointStack


def build(settings: StackSettings, outdir: str | None = None) -> cdk.App:
    """Return the app with its stack.

    The template contains nothing about this machine: no CDK metadata, no construct paths, no stack traces.
    """
    app = cdk.App(analytics_reporting=False, stack_traces=False, tree_metadata=False, outdir=outdir)
    EndpointStack(app, settings)
    return app


def main() -> None:
    """Synthesize the stack for the settings in the environment."""
    try:
        build(stack_settings.from_environment()).synth()
    except LambdiffError as error:
        sys.exit(f"lambdiff: {error}")


if __name__ == "__main__":
    main()

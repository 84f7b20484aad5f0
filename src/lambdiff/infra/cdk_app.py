"""The CDK app: settings in, one stack out. Started by the CDK CLI as `python -m lambdiff.infra.cdk_app`."""

from __future__ import annotations

import sys

import aws_cdk as cdk

from lambdiff.errors import LambdiffError
from lambdiff.infra import settings as stack_settings
from lambdiff.infra.settings import StackSettings
from lambdiff.infra.stack import EndpointStack


def build(settings: StackSettings, outdir: str | None = None) -> cdk.App:
    """The app with its one stack.

    Nothing about this machine goes into the template: no CDK metadata, no construct paths, no stack traces.
    """
    app = cdk.App(analytics_reporting=False, stack_traces=False, tree_metadata=False, outdir=outdir)
    EndpointStack(app, settings)
    return app


def main() -> None:
    """Synthesise what the environment asks for."""
    try:
        build(stack_settings.from_environment()).synth()
    except LambdiffError as error:
        sys.exit(f"lambdiff: {error}")


if __name__ == "__main__":
    main()

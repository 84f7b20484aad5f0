"""The CDK app: synthesizes the stack of an endpoint, or its builder stack.

The CDK CLI starts it as `python -m lambdiff.infra.cdk_app [builder FINGERPRINT]`.
"""

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
    app = _app(outdir)
    EndpointStack(app, settings)
    return app


def build_builder(settings: StackSettings, fingerprint: str, outdir: str | None = None) -> cdk.App:
    """Return the app with the builder stack of an endpoint."""
    from lambdiff.infra.builder_stack import BuilderStack

    app = _app(outdir)
    BuilderStack(app, settings, fingerprint)
    return app


def _app(outdir: str | None) -> cdk.App:
    return cdk.App(analytics_reporting=False, stack_traces=False, tree_metadata=False, outdir=outdir)


def main() -> None:
    """Synthesize the stack for the settings in the environment."""
    try:
        settings = stack_settings.from_environment()
        app = build_builder(settings, sys.argv[2]) if sys.argv[1:2] == ["builder"] else build(settings)
        app.synth()
    except LambdiffError as error:
        sys.exit(f"lambdiff: {error}")


if __name__ == "__main__":
    main()

"""The CloudWatch dashboard of an endpoint: requests, seconds by phase, and dollars a day."""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from lambdiff import pricing
from lambdiff.handler import metrics
from lambdiff.infra.settings import StackSettings

_PERIOD: Final = cdk.Duration.minutes(5)
_DAY: Final = cdk.Duration.days(1)
_WIDTH: Final = 12


def add(scope: Construct, function: lambda_.IFunction, settings: StackSettings) -> None:
    """Add the dashboard.

    Args:
        scope: the stack.
        function: the endpoint's function, which must write metrics (`METRICS_VARIABLE`).
        settings: memory, architecture and `/tmp`, which decide the price.
    """
    cloudwatch.Dashboard(
        scope,
        "Dashboard",
        default_interval=cdk.Duration.days(7),
        widgets=[
            [_requests(function), _concurrency(function)],
            [_duration(function), _phases(function)],
            [_dollars(function, settings)],
        ],
    )


def _own_metric(function: lambda_.IFunction, name: str, statistic: str, label: str) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=metrics.NAMESPACE,
        metric_name=name,
        dimensions_map={metrics.DIMENSION: function.function_name},
        statistic=statistic,
        period=_PERIOD,
        label=label,
    )


def _requests(function: lambda_.IFunction) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(
        title="Requests",
        width=_WIDTH,
        left=[
            _own_metric(function, metrics.IMAGES, "Sum", "images"),
            _own_metric(function, metrics.REFUSED, "Sum", "refused (4xx)"),
            _own_metric(function, metrics.FAILED, "Sum", "failed (5xx)"),
            function.metric_errors(statistic="Sum", period=_PERIOD, label="crashed or timed out"),
            function.metric_throttles(statistic="Sum", period=_PERIOD, label="throttled"),
        ],
        left_y_axis=cloudwatch.YAxisProps(min=0, label="count", show_units=False),
    )


def _concurrency(function: lambda_.IFunction) -> cloudwatch.GraphWidget:
    concurrency = function.metric("ConcurrentExecutions", statistic="Maximum", period=_PERIOD, label="maximum")
    return cloudwatch.GraphWidget(
        title="Concurrent requests",
        width=_WIDTH,
        left=[concurrency],
        left_y_axis=cloudwatch.YAxisProps(min=0, label="count", show_units=False),
    )


def _duration(function: lambda_.IFunction) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(
        title="Seconds per request",
        width=_WIDTH,
        left=[
            _own_metric(function, metrics.SECONDS, statistic, label)
            for statistic, label in (("p50", "median"), ("p95", "95th percentile"), ("Maximum", "maximum"))
        ],
        left_y_axis=cloudwatch.YAxisProps(min=0, label="seconds", show_units=False),
    )


def _phases(function: lambda_.IFunction) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(
        title="Mean seconds by phase",
        width=_WIDTH,
        stacked=True,
        left=[_own_metric(function, phase, "Average", phase) for phase in metrics.PHASES],
        left_y_axis=cloudwatch.YAxisProps(min=0, label="seconds", show_units=False),
    )


def _dollars(function: lambda_.IFunction, settings: StackSettings) -> cloudwatch.GraphWidget:
    per_second = pricing.invocation(settings.memory_mb, 1.0, architecture=settings.architecture, tmp_mb=settings.tmp_mb)
    per_second -= pricing.REQUEST
    price = cloudwatch.MathExpression(
        expression=f"milliseconds / 1000 * {per_second:.10f} + requests * {pricing.REQUEST:.10f}",
        using_metrics={
            "milliseconds": function.metric_duration(statistic="Sum", period=_DAY),
            "requests": function.metric_invocations(statistic="Sum", period=_DAY),
        },
        period=_DAY,
        label=f"at least (us-east-1 prices of {pricing.DATE}, without the time to start environments)",
    )
    return cloudwatch.GraphWidget(
        title="Dollars a day",
        width=2 * _WIDTH,
        left=[price],
        view=cloudwatch.GraphWidgetView.BAR,
        left_y_axis=cloudwatch.YAxisProps(min=0, label="dollars", show_units=False),
    )

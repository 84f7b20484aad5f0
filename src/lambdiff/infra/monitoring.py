"""The alarms and the budget of the stack, and where their emails go."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from lambdiff.infra.settings import StackSettings


def add_alarms(scope: Construct, function: lambda_.IFunction, settings: StackSettings) -> None:
    """Add alarms on errors, throttles and slow requests of a function; with `alarm_email`, they send email."""
    topic = _topic(scope, settings, settings.alarm_email) if settings.alarm_email else None
    period = cdk.Duration.minutes(5)
    slow_ms = int(settings.timeout_s * 800)
    for name, metric, threshold, text in (
        ("Errors", function.metric_errors(period=period, statistic="Sum"), 1, "requests failed"),
        ("Throttles", function.metric_throttles(period=period, statistic="Sum"), 1, "requests were throttled"),
        (
            "Duration",
            function.metric_duration(period=period, statistic="Maximum"),
            slow_ms,
            "a request took more than 80% of the timeout",
        ),
    ):
        alarm = cloudwatch.Alarm(
            scope,
            f"{name}Alarm",
            metric=metric,
            threshold=threshold,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=f"lambdiff endpoint {settings.name}: {text}",
        )
        if topic is not None:
            alarm.add_alarm_action(actions.SnsAction(topic))


def add_budget(scope: Construct, dollars: float, address: str) -> None:
    """Add a monthly budget for the account's Lambda use; emails are sent at 80% spent and at 100% forecast.

    Args:
        scope: the stack.
        dollars: the budget in US dollars a month.
        address: where the emails go.
    """
    subscriber = budgets.CfnBudget.SubscriberProperty(address=address, subscription_type="EMAIL")
    budgets.CfnBudget(
        scope,
        "Budget",
        budget=budgets.CfnBudget.BudgetDataProperty(
            budget_type="COST",
            time_unit="MONTHLY",
            budget_limit=budgets.CfnBudget.SpendProperty(amount=dollars, unit="USD"),
            # All Lambda usage: a filter by tag matches nothing until the tag is activated in Billing.
            cost_filters={"Service": ["AWS Lambda"]},
        ),
        notifications_with_subscribers=[
            budgets.CfnBudget.NotificationWithSubscribersProperty(
                notification=budgets.CfnBudget.NotificationProperty(
                    comparison_operator="GREATER_THAN", notification_type=kind, threshold=percent
                ),
                subscribers=[subscriber],
            )
            for kind, percent in (("ACTUAL", 80), ("FORECASTED", 100))
        ],
    )


def _topic(scope: Construct, settings: StackSettings, address: str) -> sns.Topic:
    topic = sns.Topic(scope, "Alarms", enforce_ssl=True)
    # Enforcing TLS replaces the topic's default policy, and with it the permission of alarms to publish.
    topic.add_to_resource_policy(
        iam.PolicyStatement(
            actions=["sns:Publish"],
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            resources=[topic.topic_arn],
            conditions={"StringEquals": {"aws:SourceAccount": settings.account}},
        )
    )
    topic.add_subscription(subscriptions.EmailSubscription(address))
    return topic

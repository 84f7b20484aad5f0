"""Deployments: the saved one that a command works on, with its account, and one that another machine created."""

from __future__ import annotations

from dataclasses import dataclass

from lambdiff import config
from lambdiff.aws import account as accounts
from lambdiff.aws import function as functions
from lambdiff.aws import outputs, stacks
from lambdiff.aws.account import Account
from lambdiff.aws.function import Function
from lambdiff.config import Deployment, Sourced
from lambdiff.errors import ConfigurationError


@dataclass(frozen=True)
class SelectedDeployment:
    """A deployment, where its name came from, and an AWS identity in its account."""

    deployment: Sourced[Deployment]
    account: Account

    @property
    def function_name(self) -> str:
        """The name of the function.

        Raises:
            ConfigurationError: only the URL is saved.
        """
        name = self.deployment.value.function_name
        if not name:
            raise ConfigurationError(
                f"Only the URL of deployment {self.deployment.value.name} is saved here.",
                fix="Save its stack with `lambdiff configure --stack NAME --region REGION`.",
            )
        return name

    def read_function(self) -> Function:
        """Read the configuration of the function.

        Raises:
            ConfigurationError: only the URL is saved.
            CredentialsError, DeployError: the function cannot be read.
        """
        return functions.read(self.account, self.function_name)


def select(name: str | None = None, profile: str | None = None) -> SelectedDeployment:
    """Select the named deployment, or the default one, and identify the caller in its account.

    Raises:
        ConfigurationError: there is no such deployment.
        CredentialsError: there are no AWS credentials, or AWS does not accept them.
    """
    chosen = select_saved(name)
    return SelectedDeployment(chosen, accounts.open_account(profile, deployment=chosen.value))


def find_saved(name: str | None = None) -> Sourced[Deployment] | None:
    """Return the named deployment, or the default one; None if it is not saved on this machine."""
    named = config.name_from_caller(name)
    return config.choose_deployment(name) if not named or named.value in config.load().deployments else None


def select_saved(name: str | None = None) -> Sourced[Deployment]:
    """Select the named deployment, or the default one, without calling AWS.

    Raises:
        ConfigurationError: there is no such deployment.
    """
    chosen = config.choose_deployment(name)
    if chosen is None:
        raise ConfigurationError(
            "No deployment is saved on this machine.",
            fix="Run `lambdiff deploy`, or `lambdiff configure --stack NAME` for an existing stack.",
        )
    return chosen


def from_stack(stack: str, *, name: str, region: str | None = None, profile: str | None = None) -> Deployment:
    """Read the outputs of a stack that exists, and return the deployment that they describe, not yet saved.

    Args:
        stack: the name of the stack.
        name: the name to save the deployment under.
        region: the stack's region; by default as in `open_account`.
        profile: the AWS profile to read the stack with and to save with the deployment.

    Raises:
        InvalidRequest: a name is not valid.
        ConfigurationError: there is no such stack, it is not complete, or lambdiff did not create it; the region is
            unknown.
        CredentialsError, DeployError: the stack cannot be read.
    """
    config.check_name(name)
    stacks.check_name(stack)
    account = accounts.open_account(profile, region)
    state = stacks.require(account, stack)
    if outputs.URL not in state.outputs and not state.stable:
        raise ConfigurationError(
            f"The stack {stack} is not complete: {state}",
            fix="Wait if a change is in progress. Otherwise, deploy it again, or delete it with `lambdiff destroy`.",
        )
    return stacks.to_deployment(stack, state.outputs, name=name, region=account.region.value, profile=account.profile)


def require_explicit_name(name: str | None) -> None:
    """Require a name unless exactly one deployment is saved.

    The default changes when a deployment is destroyed, so repeating the command would destroy another one.

    Raises:
        ConfigurationError: there are several deployments, or none, and none was named.
    """
    saved = config.load().deployments
    if len(saved) == 1 or config.name_from_caller(name):
        return
    if not saved:
        select_saved()
    raise ConfigurationError(
        f"There are several deployments: {', '.join(sorted(saved))}.", fix="Name one with `deployment=`."
    )

"""The saved deployment that a command is about, with the account it lives in."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lambdiff import config
from lambdiff.aws import account as accounts
from lambdiff.aws.account import Account
from lambdiff.config import Deployment, Sourced
from lambdiff.errors import ConfigurationError


@dataclass(frozen=True)
class SelectedDeployment:
    """A deployment, where its name came from, and an identity in its account."""

    deployment: Sourced[Deployment]
    account: Account

    @property
    def function(self) -> str:
        """The function's name.

        Raises:
            ConfigurationError: only the URL is known.
        """
        name = self.deployment.value.function_name
        if not name:
            raise ConfigurationError(
                f"Of the deployment {self.deployment.value.name} only the URL is known here.",
                fix="Give its stack: lambdiff configure --stack NAME --region REGION.",
            )
        return name


def select(name: str | None = None, profile: str | None = None) -> SelectedDeployment:
    """The named deployment, or the one that a call without a name would use.

    Raises:
        ConfigurationError: there is none.
        CredentialsError: nobody to ask AWS.
    """
    chosen = select_saved(name)
    account = accounts.open_account(profile or chosen.value.profile, chosen.value.region, str(config.path()))
    return SelectedDeployment(chosen, account)


def select_saved(name: str | None = None) -> Sourced[Deployment]:
    """The deployment alone, without asking AWS anything.

    Raises:
        ConfigurationError: there is none.
    """
    chosen = config.choose_deployment(name)
    if chosen is None:
        raise ConfigurationError(
            "Nothing is deployed, as far as this machine knows.",
            fix="Run `lambdiff deploy`, or `lambdiff configure --stack NAME` for one that is there already.",
        )
    return chosen


def require_explicit_name(name: str | None) -> None:
    """Refuse to guess: the default moves when a deployment goes, so a command run twice would take the next one.

    Raises:
        ConfigurationError: there are several, and none was named.
    """
    saved = config.load().deployments
    if len(saved) > 1 and not (name or os.environ.get("LAMBDIFF_DEPLOYMENT")):
        raise ConfigurationError(
            f"There are several deployments: {', '.join(sorted(saved))}.", fix="Say which: --deployment NAME."
        )

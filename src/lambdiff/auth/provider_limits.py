"""Keep botocore's credential providers from waiting forever: for a program that hangs, or for nobody at a terminal."""

from __future__ import annotations

import getpass
import subprocess
import warnings
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import CredentialRetrievalError

if TYPE_CHECKING:
    from botocore.session import Session

PROCESS_TIMEOUT_S: Final = 60.0
"""How long a `credential_process` may run, as in AWS's SDK for Go; botocore has no limit."""


def apply(session: Session) -> None:
    """Limit the providers of a session, and those of the profiles that it refers to with `source_profile`.

    botocore has parameters for this, but no public way to pass them to the providers that it creates.
    """
    provider: Any
    for provider in session.get_component("credential_provider").providers:
        if provider.METHOD == "custom-process":
            _limit_process(provider)
        elif provider.METHOD == "assume-role":
            provider._prompter = _ask
            builder = provider._profile_provider_builder
            create = builder._create_process_provider
            builder._create_process_provider = lambda profile, create=create: _limit_process(create(profile))


def _limit_process(provider: Any) -> Any:
    provider._popen = _LimitedProcess
    return provider


class _LimitedProcess(subprocess.Popen[bytes]):
    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        try:
            return super().communicate(input, PROCESS_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise CredentialRetrievalError(
                provider="custom-process", error_msg=f"the program did not end within {PROCESS_TIMEOUT_S:g} seconds"
            ) from None


def _ask(prompt: str) -> str:
    """Ask for an MFA code on the terminal; without one, `getpass` would read it from stdin, which may be a pipe."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(prompt)
    except (getpass.GetPassWarning, EOFError, OSError):
        raise CredentialRetrievalError(
            provider="assume-role", error_msg="an MFA code is needed, and there is no terminal to ask for it"
        ) from None

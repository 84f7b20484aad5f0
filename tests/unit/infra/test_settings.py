"""Validating a stack's settings and passing them to the CDK app (infra/settings.py)."""

from __future__ import annotations

from typing import Any

import pytest

from lambdiff.errors import ConfigurationError
from lambdiff.infra import settings as stack_settings
from lambdiff.infra.settings import StackSettings

PRINCIPAL = "arn:aws:iam::123456789012:role/Designers"


def make(**changes: Any) -> StackSettings:
    """Return settings with the given changes, unchecked."""
    values: dict[str, Any] = {"account": "123456789012", "region": "us-east-1", "context": "context"}
    return StackSettings(**{**values, **changes})


def test_settings_have_defaults() -> None:
    """The defaults are 10,240 MB, 600 s, x86_64, OpenVINO, a key pair, and no reserved concurrency."""
    settings = make().check()
    assert (settings.memory_mb, settings.timeout_s, settings.architecture) == (10_240, 600, "x86_64")
    assert (settings.engine, settings.auth, settings.reserved_concurrency) == ("openvino", "key-pair", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"memory_mb": 128},
        {"memory_mb": 10_240},
        {"timeout_s": 1},
        {"timeout_s": 900},
        {"tmp_mb": 10_240},
        {"reserved_concurrency": 0},
        {"architecture": "arm64"},
        {"architecture": "arm64", "engine": "diffusers"},
        {"auth": "role", "principals": (PRINCIPAL,)},
        {"auth": "role", "principals": ("arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:user/ann")},
        {"snapstart": True},
        {"monthly_budget_usd": 20.0, "alarm_email": "ann@example.org"},
    ],
)
def test_valid_settings_reach_the_app_unchanged(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Valid settings read back unchanged from the environment variable."""
    settings = make(**changes).check()
    monkeypatch.setenv(stack_settings.VARIABLE, settings.to_json())
    assert stack_settings.from_environment() == settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory_mb": 127}, "`memory_mb=` must be a whole number in 128..10240, not 127"),
        ({"memory_mb": 10_241}, "128..10240, not 10241"),
        ({"timeout_s": 0}, "1..900, not 0"),
        ({"timeout_s": 901}, "1..900, not 901"),
        ({"tmp_mb": 511}, "512..10240, not 511"),
        ({"reserved_concurrency": -1}, "0..100000, not -1"),
        ({"log_retention_days": 2}, "`log_retention_days=` must be one of 1, 3, 7, 14, 30, 90, 180, 365, not 2"),
        ({"memory_mb": 1, "timeout_s": 0}, "not 1; `timeout_s=`"),
        ({"base_image": "Not An Image"}, "`base_image=`"),
        ({"account": "12345"}, "account"),
        ({"region": "everywhere"}, "region"),
        ({"name": "Not A Name"}, "name"),
        ({"name": "ends-in-newline\n"}, "name"),
        ({"auth": "role", "principals": (PRINCIPAL, "*")}, "`principals=` must look like arn:aws:iam::"),
        ({"tags": {"team": "<script>"}}, "`tags=` must look like"),
        ({"auth": "role", "principals": ("arn:aws:iam::123456789012:role/*",)}, "principals"),
        ({"snapstart": True, "tmp_mb": 1024}, "SnapStart requires a /tmp of 512 MB"),
        ({"auth": "role"}, "at least one ARN in `principals=`"),
        ({"principals": (PRINCIPAL,)}, "`principals=` requires `auth=role`"),
        ({"monthly_budget_usd": 20.0}, "`monthly_budget_usd=` requires `alarm_email=`"),
        ({"keep_warm_minutes": 5, "reserved_concurrency": 0}, "cannot invoke"),
        ({"alarm_email": "nobody"}, "`alarm_email=` must look like ann@example.org"),
    ],
)
def test_invalid_settings_are_refused_before_synthesis(changes: dict[str, Any], words: str) -> None:
    """Values out of range and contradictory settings are refused with a message that says which."""
    with pytest.raises(ConfigurationError) as caught:
        make(**changes).check()
    assert words in str(caught.value)


@pytest.mark.parametrize("text", [None, "{", '{"account": "123456789012", "surprise": 1}', '{"memory_mb": "lots"}'])
def test_an_app_without_settings_is_a_configuration_error(text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing or invalid settings in the environment raise a `ConfigurationError` that names the variable."""
    if text is not None:
        monkeypatch.setenv(stack_settings.VARIABLE, text)
    with pytest.raises(ConfigurationError, match=stack_settings.VARIABLE):
        stack_settings.from_environment()


def test_stacks_are_named_after_deployments() -> None:
    """A stack is named after its deployment, and the default deployment's stack is `lambdiff`."""
    assert make().stack_name == "lambdiff"
    assert make(name="tiny").stack_name == "lambdiff-tiny"

"""Validating a stack's settings and passing them to the CDK app (infra/settings.py)."""

from __future__ import annotations

from typing import Any

import pytest

from lambdiff.errors import ConfigurationError, InvalidRequest
from lambdiff.infra import settings as stack_settings
from lambdiff.infra.settings import SettingOverrides, StackSettings

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
        {"tags": {"cost center": "R+D", "größe": "m"}},
        {"base_image": f"localhost:5000/team/python:3.12@sha256:{'0' * 64}"},
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
        ({"tags": {"team": "two\nlines"}}, "`tags=` must look like"),
        ({"tags": {"aws:team": "a"}}, "the key aws:team, which is reserved"),
        ({"tags": {"lambdiff:deployment": "a"}}, "which is reserved"),
        ({"tags": {"team": "a", "Team": "b"}}, "the key Team twice"),
        ({"tags": {str(number): "a" for number in range(46)}}, "at most 45, not 46"),
        ({"base_image": "python 3.12"}, "`base_image=` must look like public.ecr.aws"),
        ({"base_image": "https://example.org/python:3.12"}, "`base_image=` must look like public.ecr.aws"),
        ({"auth": "role", "principals": ("arn:aws:iam::123456789012:role/*",)}, "principals"),
        ({"snapstart": True, "tmp_mb": 1024, "memory_mb": 1}, "not 1; `tmp_mb=`"),
        ({"snapstart": True, "tmp_mb": 1024}, "`tmp_mb=` must be 512 with SnapStart, not 1024"),
        ({"auth": "role"}, "`principals=` must name at least one user or role"),
        ({"auth": "role", "principals": ("arn:aws-cn:iam::123456789012:role/a",)}, "another partition than us-east-1"),
        ({"auth": "role", "principals": ("arn:aws:sts::123456789012:assumed-role/a/b",)}, "role/NAME"),
        ({"auth": "role", "principals": ("123456789012",)}, "role/NAME"),
        ({"principals": (PRINCIPAL,)}, "`principals=` requires `auth=role`"),
        ({"monthly_budget_usd": 20.0}, "`monthly_budget_usd=` requires `alarm_email=`"),
        ({"keep_warm_minutes": 5, "reserved_concurrency": 0}, "cannot invoke a function with `reserved_concurrency=0`"),
        ({"keep_warm_minutes": 61}, "1..60, not 61"),
        ({"monthly_budget_usd": float("nan"), "alarm_email": "ann@example.org"}, "1..1000000"),
        ({"alarm_email": "nobody"}, "`alarm_email=` must look like ann@example.org"),
    ],
)
def test_invalid_settings_are_refused_before_synthesis(changes: dict[str, Any], words: str) -> None:
    """Values out of range and contradictory settings are refused with a message that names all of them."""
    with pytest.raises(InvalidRequest) as caught:
        make(**changes).check()
    assert words in str(caught.value)


@pytest.mark.parametrize("text", [None, "{", '{"account": "123456789012", "surprise": 1}', '{"memory_mb": "lots"}'])
def test_an_app_without_settings_is_a_configuration_error(text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing or invalid settings in the environment raise a `ConfigurationError` that names the variable."""
    if text is not None:
        monkeypatch.setenv(stack_settings.VARIABLE, text)
    with pytest.raises(ConfigurationError, match=stack_settings.VARIABLE):
        stack_settings.from_environment()


def test_overrides_are_the_settings_that_a_caller_may_choose() -> None:
    """Every field of the stack's settings is either a caller's choice or found out by `deploy`."""
    found_out = {"account", "region", "context", "model", "base_image_pin", "image", "fingerprint"}
    found_out |= {"name", "reserved_concurrency"}  # options of their own
    assert set(SettingOverrides.__annotations__) == set(StackSettings.__struct_fields__) - found_out


def test_stacks_are_named_after_deployments() -> None:
    """A stack is named after its deployment, and the default deployment's stack is `lambdiff`."""
    assert make().stack_name == "lambdiff"
    assert make(name="tiny").stack_name == "lambdiff-tiny"

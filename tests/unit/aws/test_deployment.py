"""Selecting a saved deployment (aws/deployment.py)."""

from __future__ import annotations

import pytest

from lambdiff.aws.deployment import from_stack, require_explicit_name, select
from lambdiff.errors import ConfigurationError, InvalidRequest
from support.aws_resources import OUTPUTS, make_function, make_stack, save_deployment


def test_without_a_deployment_both_commands_are_named(aws: None) -> None:
    """If none is saved, the error names `deploy`, which creates one, and `configure`, which saves an existing one."""
    with pytest.raises(ConfigurationError, match=r"lambdiff deploy.*lambdiff configure"):
        select()


def test_the_default_deployment_is_selected(aws: None) -> None:
    """Without a name the default deployment is selected, with its account and its function."""
    save_deployment()
    make_function()
    target = select()
    assert target.account.id == "123456789012"
    assert target.function_name == OUTPUTS["FunctionName"]
    assert target.read_function().memory_mb == 3008


def test_a_url_alone_has_no_function(aws: None) -> None:
    """A deployment saved by `configure --url` can be called but not inspected."""
    save_deployment(stack=None, function_name=None, secret_arn=None, auth="caller")
    with pytest.raises(ConfigurationError, match="Only the URL of deployment lambdiff is saved here"):
        _ = select().function_name


def test_one_of_several_deployments_must_be_named(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """If several deployments are saved, an argument or LAMBDIFF_DEPLOYMENT must name one."""
    save_deployment()
    require_explicit_name(None)
    save_deployment(name="other")
    with pytest.raises(ConfigurationError, match="lambdiff, other"):
        require_explicit_name(None)
    require_explicit_name("other")
    monkeypatch.setenv("LAMBDIFF_DEPLOYMENT", "other")
    require_explicit_name(None)


def test_the_outputs_of_a_stack_become_a_deployment(aws: None) -> None:
    """The deployment of a stack has the URL, the secret and the function that the stack's outputs name."""
    make_stack()
    found = from_stack("lambdiff", name="prod")
    assert (found.name, found.stack, found.region) == ("prod", "lambdiff", "us-east-1")
    assert (found.url, found.secret_arn) == (OUTPUTS["LambdaUrl"], OUTPUTS["SecretArn"])
    assert found.function_name == OUTPUTS["FunctionName"]
    with pytest.raises(ConfigurationError, match="no stack none"):
        from_stack("none", name="prod")
    with pytest.raises(InvalidRequest):
        from_stack("lambdiff", name="Not Valid")

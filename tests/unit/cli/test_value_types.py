"""Values on the command line, and what is said about bad ones (cli/value_types.py)."""

from __future__ import annotations

import shlex
from typing import Any

import click
import pytest
from click.testing import CliRunner

from lambdiff.cli import COMMANDS, cli
from lambdiff.cli.value_types import CommaSeparated, SchedulerValue, Size, Value
from lambdiff.errors import InvalidRequest
from lambdiff.protocol import contract

TIMES = "an age such as 10m, 2h or 3d, or a time such as 2026-09-01T12:00"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Value(contract.Steps), "4", 4),
        (Value(contract.Steps), "4.0", 4),
        (Value(contract.Seed), "4294967295", 2**32 - 1),
        (Value(contract.Guidance), "7", 7.0),
        (Value(contract.Guidance), ".5", 0.5),
        (Value(contract.SchedulerName), "euler", "euler"),
        (SchedulerValue(), "euler_ancestral", "euler_ancestral"),
        (SchedulerValue(), "Euler a", "euler_ancestral"),
        (SchedulerValue(), "dpm++ 2m karras", "dpmpp_2m"),
        (SchedulerValue(), "DPM++ 2M SDE", "dpmpp_2m_sde"),
        (SchedulerValue(), "PLMS", "pndm"),
        (SchedulerValue(), "UniPC", "unipc"),
        (Size(), "512X256", (512, 256)),
        (CommaSeparated(Value(contract.Steps)), "4, 8", [4, 8]),
    ],
)
def test_text_becomes_a_value(kind: click.ParamType, text: str, value: Any) -> None:
    """Numbers, choices, sizes and lists are converted to what the library takes."""
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("generate x --steps abc", "--steps must be a whole number in 1..100, not 'abc'."),
        ("generate x --num-inference-steps 101", "--steps must be a whole number in 1..100, not 101."),
        ("generate x --guidance nan", "--guidance must be a number in 0..30, not nan."),
        ("generate x --width 100", "--width must be a multiple of 8 in 64..1024, not 100."),
        ("generate x --size 100x64", "--size 100x64: the width must be a multiple of 8 in 64..1024, not 100."),
        ("generate x --size 512", "--size must be a size such as 512x512, not '512'."),
        ("generate x --seed 1e400", "--seed must be a whole number in 0..4294967295, not inf."),
        ("generate x --scheduler 'DPM++ SDE Karras'",
         "--scheduler 'DPM++ SDE Karras' is not supported; the most similar one is dpmpp_2m_sde."),
        ("bake x -o y --scheduler LMS", "--scheduler 'LMS' is not supported; the most similar one is dpmpp_2m."),
        ("generate x --scheduler 'Euler a Karras'",
         "--scheduler 'Euler a Karras': the scheduler euler_ancestral has no such spacing of noise levels."),
        ("generate x --sigma-schedule Karras",
         "--sigma-schedule must be one of exponential, karras, normal, not 'Karras'; did you mean karras?"),
        ("generate x --format jpg", "--format must be one of jpeg, png, webp, not 'jpg'; did you mean jpeg?"),
        ("generate x -n 0", "--count must be a whole number in 1..1000, not 0."),
        ("generate x --workers 2.5", "--workers must be a whole number in 1..256, not 2.5."),
        ("bench --steps 8,200", "--steps must be a whole number in 1..100, not 200."),
        ("bench --rounds 0", "--rounds must be a whole number in 1..100, not 0."),
        ("serve --port 99999", "--port must be a whole number in 0..65535, not 99999."),
        ("serve --timeout nan", "--timeout must be a number in 1..900, not nan."),
        ("bake x -o y --guidance-interval 0 2", "--guidance-interval must be a number in 0..1, not 2."),
        ("bake x -o y --guidance-interval 0.5 0.5", "--guidance-interval must be two increasing numbers in 0..1."),
        ("bake x -o y --deepcache 0", "--deepcache must be a whole number in 1..100, not 0."),
        ("deploy --memory 99", "--memory must be a whole number in 128..10240, not 99."),
        ("deploy --log-days 2", "--log-days must be one of 1, 3, 7, 14, 30, 90, 180, 365, not 2."),
        ("deploy --arch arm", "--arch must be one of arm64, x86_64, not 'arm'; did you mean arm64?"),
        ("deploy --budget nan", "--budget must be a number in 1..1000000, not nan."),
        ("deploy --alarm-email ann", "--alarm-email must look like ann@example.org."),
        (
            "deploy --principal '*'",
            "--principal must look like arn:aws:iam::123456789012:role/NAME or arn:aws:iam::123456789012:user/NAME.",
        ),
        ("cost --since 2x", f"--since must be {TIMES}, not '2x'."),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_in_the_words_of_its_flag(line: str, message: str) -> None:
    """The message names the flag, the range and the value; nothing else is checked before, not even credentials."""
    error = CliRunner().invoke(cli, shlex.split(line), standalone_mode=False).exception
    assert isinstance(error, click.UsageError | InvalidRequest), error
    assert error.message == message
    assert error.exit_code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_has_a_type_with_words_of_its_own(name: str) -> None:
    """Every number and every choice has one of our types, so that its messages read like the others."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    plain = (click.types.IntParamType, click.types.FloatParamType, click.Choice)
    assert [each.name for each in command.params if isinstance(each.type, plain)] == []

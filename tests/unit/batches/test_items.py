"""Rows become complete requests with keys, or are refused before anything is generated."""

from __future__ import annotations

import msgspec
import pytest
from PIL import Image

from lambdiff.batches.alternatives import expand
from lambdiff.batches.items import MAX_NAMED, ItemReader
from lambdiff.batches.prompt_files import PromptFile
from lambdiff.errors import ConfigurationError, InvalidRequest
from lambdiff.protocol.contract import Health, ModelIdentity
from lambdiff.protocol.request_key import request_key
from support.stub_engine import MANIFEST, WITH_PICTURES


def health(manifest=MANIFEST, digest="a" * 64):
    """Return a health report."""
    return Health(
        version="1", model=ModelIdentity(name="stub", revision="r1", license="MIT", digest=digest), engine="stub",
        precision="f32", cpu_features=[], threads=1, defaults=manifest.defaults, limits=manifest.limits, loaded=True,
    )  # fmt: skip


def items(prompts, *arguments, **options):
    """Return the items of prompts, checked."""
    reader = ItemReader(prompts, health(), *arguments, **options)
    found = list(reader.items())
    assert reader.check() == len(found)
    return found


def test_requests_are_complete():
    """Every default is spelled out, so that the endpoint's own defaults do not matter any more."""
    (item,) = items([{"prompt": "a cat", "seed": 7, "id": 1}])
    assert (item.number, item.line, dict(item.extra)) == (1, 1, {"id": 1})
    assert item.request.num_inference_steps == 2
    assert item.request.scheduler == "euler"
    assert item.request.resolve(msgspec.structs.replace(MANIFEST.defaults, num_inference_steps=99)) == item.generation
    assert item.key == request_key(item.generation, "a" * 64)


def test_shared_parameters_apply_where_a_row_has_none():
    """A row's own parameter takes precedence, and null stands for the shared one."""
    first, second, third = items(
        ["a", {"prompt": "b", "num_inference_steps": 3}, {"prompt": "c", "num_inference_steps": None}],
        {"num_inference_steps": 5, "width": None},
    )
    assert [each.request.num_inference_steps for each in (first, second, third)] == [5, 3, 5]


def test_seeds_follow_from_the_rows():
    """The same rows have the same seeds in every run, wherever they are; equal rows have different ones."""
    first = items(["a cat", "a dog", "a cat", {"prompt": "a cat", "seed": 7}])
    moved = items(["a dog", "a fox", "a cat", "a cat"])
    assert first[3].request.seed == 7
    assert len({each.request.seed for each in first}) == 4
    assert [each.key for each in (moved[0], moved[2], moved[3])] == [
        each.key for each in (first[1], first[0], first[2])
    ]


def test_n_images_have_consecutive_seeds():
    """Each prompt has `n` images, numbered in a row."""
    found = items([{"prompt": "a", "seed": 2**32 - 1}, {"prompt": "b", "seed": 5}], n=2)
    assert [each.request.seed for each in found] == [2**32 - 1, 0, 5, 6]
    assert [(each.number, each.line) for each in found] == [(1, 1), (2, 1), (3, 2), (4, 2)]


def test_alternatives_become_prompts():
    """All combinations are generated; a prompt without alternatives stays as it is."""
    found = items(["a {red|green} {cat|dog}", "a fox"], expand=expand)
    assert [each.request.prompt for each in found] == ["a red cat", "a red dog", "a green cat", "a green dog", "a fox"]
    assert [each.line for each in found] == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("prompt", ["a {b|c", "{" * 30, "{" + "|".join(map(str, range(200))) + "}" + "{1|2|3|4|5}" * 4])
def test_alternatives_that_cannot_be_used_are_refused(prompt):
    """Wrong syntax and far too many combinations are problems of the row."""
    with pytest.raises(InvalidRequest, match=r"prompts\[0\]: prompt"):
        ItemReader([prompt], health(), expand=expand).check()


def test_all_bad_rows_are_named_with_their_lines(tmp_path):
    """A bad row at the end of a file is found as well as the first one, and named by its line."""
    path = tmp_path / "p.csv"
    path.write_text("prompt,num_inference_steps\n" + "a cat,2\n" * 9_997 + "a dog,0\n ,1\na fox,x\n")
    with pytest.raises(InvalidRequest) as caught:
        ItemReader(PromptFile(path), health()).check()
    assert caught.value.message.splitlines() == [
        "3 rows of 10,000 cannot be used:",
        "line 9999: num_inference_steps must be a whole number in 1..100, not 0",
        "line 10000: prompt is required",
        "line 10001: num_inference_steps must be a whole number in 1..100, not 'x'",
    ]


def test_many_bad_rows_are_counted():
    """A message names the first ones and says how many more there are."""
    with pytest.raises(InvalidRequest, match="and 30 more rows"):
        ItemReader([{"prompt": ""}] * (MAX_NAMED + 30), health()).check()


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "a", "width": 1024}, "width must be 64..512 with this model"),
        ({"prompt": "a", "scheduler": "lcm"}, "scheduler must be one of euler, ddim with this model"),
        ({"prompt": "a", "image": "cat.png"}, "image is not usable"),
        ({"prompt": "a", "strength": 0.5}, "strength needs a start image"),
        ({"prompt": "caf\udce9"}, "prompt contains a lone surrogate"),
        (5, "must be text or a mapping, not int"),
    ],
)
def test_the_models_limits_are_checked(row, problem):
    """What the model does not support is refused before anything is sent."""
    with pytest.raises(InvalidRequest) as caught:
        ItemReader([row], health()).check()
    assert problem in str(caught.value)


def test_start_images_are_relative_to_the_file(tmp_path, monkeypatch):
    """A column `image` has paths that start at the file's folder; the key depends on the pixels alone."""
    (tmp_path / "in").mkdir()
    for name in ("cat.png", "same.webp"):
        Image.new("RGB", (64, 64), "red").save(tmp_path / "in" / name, lossless=True)
    (tmp_path / "in" / "p.csv").write_text("prompt,seed,image\na,7,cat.png\na,7,same.webp\n")
    monkeypatch.chdir("/")
    first, second = ItemReader(PromptFile(tmp_path / "in" / "p.csv"), health(WITH_PICTURES)).items()
    assert first.generation.image is not None
    assert first.key == second.key


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path):
    """A row that was good when it was checked, and is bad now, ends the run by name."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n')
    reader = ItemReader(PromptFile(path), health())
    assert reader.check() == 1
    path.write_text('{"prompt": ""}\n')
    with pytest.raises(InvalidRequest, match="Line 1 has changed"):
        list(reader.items())


def test_no_prompts_are_an_error():
    """An empty list is a mistake."""
    with pytest.raises(InvalidRequest, match="no prompts"):
        ItemReader([], health()).check()


def test_an_endpoint_without_a_digest_is_refused():
    """Without the model's digest, images of another model could be taken for those of this one."""
    with pytest.raises(ConfigurationError, match="does not tell which model"):
        ItemReader(["a"], health(digest=""))

"""Token ids of prompts, and warnings about unread and unknown words (engine/tokenizer.py)."""

from __future__ import annotations

import pytest

from lambdiff.engine.tokenizer import PromptTokenizer
from lambdiff.protocol.contract import Defaults, GenerateRequest
from support import tiny_pipeline

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def clip():
    """The tokenizer of transformers."""
    return tiny_pipeline.make_tokenizer()


@pytest.fixture
def tokenizer(clip):
    """lambdiff's tokenizer with the same vocabulary; it knows the words of the tiny pipelines."""
    backend = clip.backend_tokenizer.from_str(clip.backend_tokenizer.to_str())
    return PromptTokenizer(backend, max_length=16, pad_id=clip.pad_token_id, vocabulary=tiny_pipeline.WORDS)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a cat",
        "A CAT, in the TOP hat!",
        "naïve café 猫 🎩",
        "a " * 40,
        "the  top\n hat",
        "<|endoftext|>",
        "x" * 500,
    ],
)
def test_ids_equal_those_of_transformers(clip, tokenizer, prompt):
    """Short, long, non-English and odd prompts give the ids that diffusers' pipelines use."""
    expected = clip(prompt, padding="max_length", truncation=True, max_length=16).input_ids
    assert tokenizer.ids(prompt).tolist() == [expected]
    assert tokenizer.ids(prompt).dtype == "int64"


def test_known_short_prompts_have_no_warnings(tokenizer):
    """A short prompt of known words has no warnings, whatever its case and punctuation."""
    assert tokenizer.warnings("A cat, in the top hat!") == []
    assert tokenizer.warnings("") == []


def test_unknown_words_are_listed_once_and_in_order(tokenizer):
    """Unknown words are listed once each, in the prompt's order; a possessive counts as its noun."""
    assert tokenizer.warnings("yak's hat, ox, yak") == [
        "The model was not trained on these words of the prompt: yak, ox."
    ]


def test_without_a_vocabulary_no_word_is_unknown(clip):
    """A model without a list of known words never warns about unknown words."""
    backend = clip.backend_tokenizer.from_str(clip.backend_tokenizer.to_str())
    assert PromptTokenizer(backend, max_length=77, pad_id=0).warnings("a zebra") == []


def test_a_partly_read_word_counts_as_dropped(tokenizer):
    """A word of which only some letters fit into the limit counts as dropped."""
    warnings = tokenizer.warnings("a cat abcdefghijklmnopqrstuvwxyz hat")
    assert warnings == ['The prompt was cut after "cat": the model reads 14 tokens, so 2 words were dropped.']


def test_a_single_truncated_word_is_reported(tokenizer):
    """If the prompt is cut within its first word, the warning says so instead of naming a last word."""
    assert tokenizer.warnings("q" * 100) == [
        "The prompt was cut within its first word: the model reads 14 tokens, so 1 word was dropped."
    ]


def test_long_lists_of_unknown_words_are_shortened(clip):
    """The warning lists the first unknown words and counts the rest."""
    backend = clip.backend_tokenizer.from_str(clip.backend_tokenizer.to_str())
    tokenizer = PromptTokenizer(backend, max_length=77, pad_id=0, vocabulary=["cat"])
    (warning,) = tokenizer.warnings(" ".join(f"w{letter}" for letter in "abcdefghijklmno"))
    assert warning.endswith("wk, wl and 3 more.")
    assert "wm" not in warning


def test_warnings_say_which_prompt_they_are_about(tokenizer):
    """Warnings about the negative prompt name it."""
    warnings = tokenizer.warnings("yak " * 30, what="negative prompt")
    assert [" ".join(warning.split()[:3]) for warning in warnings] == ["The negative prompt", "The model was"]
    assert all("negative prompt" in warning for warning in warnings)


@pytest.mark.parametrize("guided", [False, True])
def test_the_negative_prompt_matters_only_with_guidance(tokenizer, guided):
    """Without guidance the negative prompt is not used, so it gives no warnings."""
    defaults = Defaults(num_inference_steps=1, guidance_scale=1.0, width=64, height=64, scheduler="euler")
    generation = GenerateRequest(prompt="a yak", negative_prompt="an ox").resolve(defaults)
    warnings = tokenizer.warnings_for(generation, guided=guided)
    assert ["yak" in warning for warning in warnings] == [True, False][: 1 + guided]

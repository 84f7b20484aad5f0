"""Prompts as tokens, and warnings about what the model does not read."""

from __future__ import annotations

import pytest

from lambdiff.engine.tokenizer import PromptTokenizer
from support import tiny_pipeline

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def clip():
    """transformers' own tokenizer."""
    return tiny_pipeline.make_tokenizer()


@pytest.fixture
def tokenizer(clip):
    """Ours over the same vocabulary, with the words of the tiny pipelines."""
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
def test_ids_are_those_of_transformers(clip, tokenizer, prompt):
    """Short, long, foreign and strange prompts give the ids that diffusers' pipelines use."""
    expected = clip(prompt, padding="max_length", truncation=True, max_length=16).input_ids
    assert tokenizer.ids(prompt).tolist() == [expected]
    assert tokenizer.ids(prompt).dtype == "int64"


def test_nothing_to_say_about_a_known_short_prompt(tokenizer):
    """No warning for words of the vocabulary, in any case and with punctuation."""
    assert tokenizer.warnings("A cat, in the top hat!") == []
    assert tokenizer.warnings("") == []


def test_unknown_words_are_listed_once_and_in_order(tokenizer):
    """Words outside the vocabulary are named as they come; a possessive is its owner."""
    assert tokenizer.warnings("yak's hat, ox, yak") == [
        "The model was not trained on these words of the prompt: yak, ox."
    ]


def test_no_vocabulary_no_unknown_words(clip):
    """Models with an open vocabulary never complain about words."""
    backend = clip.backend_tokenizer.from_str(clip.backend_tokenizer.to_str())
    assert PromptTokenizer(backend, max_length=77, pad_id=0).warnings("a zebra") == []


def test_a_cut_inside_a_word_counts_that_word_as_left_out(tokenizer):
    """`a cat` is read whole, of the long word behind it only some letters."""
    warnings = tokenizer.warnings("a cat abcdefghijklmnopqrstuvwxyz hat")
    assert warnings == ['The prompt was cut after "cat": the model reads 14 tokens, 2 words were left out.']


def test_a_single_word_too_long(tokenizer):
    """There is no last word to name."""
    assert tokenizer.warnings("q" * 100) == [
        "The prompt was cut within its first word: the model reads 14 tokens, 1 word was left out."
    ]


def test_many_unknown_words_are_shortened(clip):
    """A list of unknown words stops after a dozen."""
    backend = clip.backend_tokenizer.from_str(clip.backend_tokenizer.to_str())
    tokenizer = PromptTokenizer(backend, max_length=77, pad_id=0, vocabulary=["cat"])
    (warning,) = tokenizer.warnings(" ".join(f"w{letter}" for letter in "abcdefghijklmno"))
    assert warning.endswith("wk, wl and 3 more.")
    assert "wm" not in warning


def test_the_negative_prompt_is_called_so(tokenizer):
    """Both sentences say which prompt they are about."""
    warnings = tokenizer.warnings("yak " * 30, what="negative prompt")
    assert [" ".join(warning.split()[:3]) for warning in warnings] == ["The negative prompt", "The model was"]
    assert all("negative prompt" in warning for warning in warnings)

"""Token ids of prompts, and warnings about unread and unknown words (engine/tokenizer.py)."""

from __future__ import annotations

import numpy as np
import pytest

from lambdiff.engine.tokenizer import MAX_PIECES, PromptTokenizer
from lambdiff.errors import InvalidRequest
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


def reference_pieces(clip, prompt_tokens, capacity):
    """Return the pieces of `(token, weight)` pairs, None standing for BREAK, as the web UI's loop builds them."""
    comma = clip(",", add_special_tokens=False).input_ids[0]
    pieces, piece, last_comma = [], [], -1

    def finish():
        nonlocal piece, last_comma
        pieces.append(piece)
        piece, last_comma = [], -1

    for pair in prompt_tokens:
        if pair is None:
            finish()
            continue
        if pair[0] == comma:
            last_comma = len(piece)
        elif len(piece) == capacity and last_comma != -1 and len(piece) - last_comma <= 20:
            moved = piece[last_comma + 1 :]
            piece = piece[: last_comma + 1]
            finish()
            piece = moved
        if len(piece) == capacity:
            finish()
        piece.append(pair)
    if piece or not pieces:
        finish()
    return pieces


@pytest.mark.parametrize("max_length", [16, 77])
@pytest.mark.parametrize("seed", range(20))
def test_pieces_equal_those_of_the_web_ui(clip, max_length, seed):
    """Tokens and weights of random prompts with commas, weights and BREAK are those of the web UI's own loop."""
    random = np.random.default_rng(seed)
    backend = clip.backend_tokenizer.from_str(clip.backend_tokenizer.to_str())
    tokenizer = PromptTokenizer(backend, max_length=max_length, pad_id=clip.pad_token_id)
    text, expected = [], []
    for _ in range(random.integers(1, 12) * max_length // 16):
        if random.random() < 0.08:
            text.append("BREAK")
            expected.append(None)
            continue
        words = " ".join(random.choice([*tiny_pipeline.WORDS, ",", "odd"], size=random.integers(1, 6)))
        weight = random.choice([1.0, 1.0, 0.5, 1.3])
        text.append(f"({words}:{weight})")
        expected += [(token, weight) for token in clip(words, add_special_tokens=False).input_ids]
    pieces = tokenizer.pieces(" ".join(text), "a1111")
    start, end = clip("").input_ids[:2]
    for piece, tokens in zip(pieces, reference_pieces(clip, expected, max_length - 2), strict=True):
        padding = max_length - 2 - len(tokens)
        assert piece.ids.tolist() == [[start, *(token for token, _ in tokens), end, *[clip.pad_token_id] * padding]]
        weights = [1.0, *(weight for _, weight in tokens), 1.0, *[1.0] * padding]
        assert ([[1.0] * max_length] if piece.weights is None else piece.weights.tolist()) == [pytest.approx(weights)]


def test_weights_keep_the_mean(tokenizer):
    """Embeddings are multiplied with their tokens' weights, and the mean of the piece stays."""
    (piece,) = tokenizer.pieces("a (cat:2) in (top:0)", "a1111")
    embeddings = np.random.default_rng(0).normal(1, 1, (1, 16, 8)).astype(np.float32)
    weighed = piece.weigh(embeddings)
    assert weighed.mean() == pytest.approx(embeddings.mean(), rel=1e-5)
    ratio = weighed / embeddings
    assert np.allclose(ratio[0, 2] / ratio[0, 1], 2)
    assert np.allclose(ratio[0, 4], 0)
    (unweighted,) = tokenizer.pieces("a cat", "a1111")
    assert unweighted.weigh(embeddings) is embeddings


def test_plain_prompts_are_one_piece(tokenizer):
    """With the syntax `plain`, brackets are text, and a long prompt is cut; pieces are limited in number."""
    (piece,) = tokenizer.pieces("a (cat:2) " * 20, "plain")
    assert piece.ids.tolist() == tokenizer.ids("a (cat:2) " * 20).tolist()
    assert len(tokenizer.pieces("a BREAK " * MAX_PIECES, "a1111")) == MAX_PIECES
    with pytest.raises(InvalidRequest, match="has 17 pieces of 14 tokens, more than 16"):
        tokenizer.pieces("a BREAK " * MAX_PIECES + "a", "a1111")
    assert [len(p.ids[0]) for p in tokenizer.padded([piece], 3)] == [16, 16, 16]
    assert tokenizer.padded([piece], 2)[1].ids.tolist() == tokenizer.ids("").tolist()


def test_warnings_of_the_a1111_syntax(tokenizer):
    """A long prompt is not cut, words in brackets are known, and networks are named in either syntax."""
    assert tokenizer.warnings("(a cat:1.2) in [the] top hat BREAK " * 5, "a1111") == []
    assert tokenizer.warnings("(a yak:1.2)", "a1111") == [
        "The model was not trained on these words of the prompt: yak."
    ]
    for syntax in ("plain", "a1111"):
        assert "<lora:x:1> in the prompt has no effect" in tokenizer.warnings("<lora:x:1> a cat", syntax)[0]

"""The networks, the tokenizer and the noise schedule, all standard classes of diffusers and transformers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
import vocabulary as V
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from latents import CHANNELS
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TOKENS = 32
WIDTH = 256
START, END = "<|startoftext|>", "<|endoftext|>"


def make_tokenizer(meanings: dict[str, tuple[str, bool]]) -> CLIPTokenizer:
    """Return a tokenizer with one token for each word and phrase that has a meaning, and byte-level BPE for the rest.

    The BPE is fitted to the words of the meanings. Other words and phrases are added as tokens, which avoids the
    intermediate tokens that merges would need.
    """
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,
        min_frequency=1,
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    words = {word for meaning, _ in meanings.values() for word in re.findall("[a-z]+|[0-9]", meaning)}
    bpe.train_from_iterator(sorted(words), trainer)
    model = json.loads(bpe.to_str())["model"]
    vocab: dict[str, int] = model["vocab"]
    for letter in pre_tokenizers.ByteLevel.alphabet():
        vocab.setdefault(f"{letter}</w>", len(vocab))
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TOKENS)
    added = sorted(word for word in meanings if f"{word}</w>" not in vocab)
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in added])
    return tokenizer


def load_tokenizer(run: Path, vocabulary: V.Vocabulary | None = None) -> tuple[CLIPTokenizer, dict]:
    """Return the tokenizer of a run and the meanings of its tokens.

    Both are created when the run starts, so that later changes to the vocabulary do not affect it.
    """
    folder, file = run / "tokenizer", run / "meanings.json"
    if not file.exists():
        make_tokenizer(vocabulary.meanings).save_pretrained(folder)
        file.write_text(json.dumps(vocabulary.meanings))
    return CLIPTokenizer.from_pretrained(folder), json.loads(file.read_text())


class SharedEmbedding(torch.nn.Module):
    """An embedding with one row per meaning. Words with the same meaning share it; plurals add one common vector.

    Args:
        tokenizer: maps words to ids.
        meanings: word or phrase -> (its meaning, whether it is a plural).
        codes: initial rows by meaning; other rows start at random. If a row describes what a thing looks like
            (`Codec.codes`), the denoiser learns one way to read rows instead of memorizing hundreds of images.
    """

    def __init__(self, tokenizer: CLIPTokenizer, meanings: dict, codes: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        rows, plurals, order = torch.arange(len(tokenizer)), torch.zeros(len(tokenizer), 1), {}
        for word, (meaning, plural) in meanings.items():
            token = tokenizer.encode(word, add_special_tokens=False)
            if len(token) != 1:
                raise ValueError(f"{word!r} is {len(token)} tokens")
            rows[token[0]] = len(tokenizer) + order.setdefault(meaning, len(order))
            plurals[token[0]] = float(plural)
        used, rows = rows.unique(return_inverse=True)
        weight = torch.randn(len(used), WIDTH) * 0.5
        for n, row in enumerate(used.tolist()):
            meaning = list(order)[row - len(tokenizer)] if row >= len(tokenizer) else ""
            if codes and meaning in codes:
                weight[n] = codes[meaning]
        self.weight, self.plural = torch.nn.Parameter(weight), torch.nn.Parameter(torch.randn(WIDTH) * 0.5)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("plurals", plurals, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Turn ids (n, tokens) into embeddings (n, tokens, WIDTH)."""
        return self.weight[self.rows[ids]] + self.plurals[ids] * self.plural

    def plain(self) -> torch.nn.Embedding:
        """Return an ordinary embedding with the same values."""
        return torch.nn.Embedding.from_pretrained(self(torch.arange(len(self.rows))).detach(), freeze=False)


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return a small CLIP text model: 2 layers of width 256."""
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    torch.nn.init.normal_(embeddings(encoder).position_embedding.weight, std=0.1)
    return encoder


def embeddings(encoder: CLIPTextModel) -> torch.nn.Module:
    """Return the module of the text encoder that holds its token embedding."""
    return getattr(encoder, "text_model", encoder).embeddings


def make_unet() -> UNet2DConditionModel:
    """Return a UNet of 18 M parameters, most of them in the levels of low resolution.

    It has no attention at the 16x16 level, which would halve the speed without a visible benefit. It has many narrow
    heads, so that each position can read several parts of a word's embedding. The prompt as a whole also goes to every
    block, together with the timestep.
    """
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(64, 128, 256),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=8,
        resnet_time_scale_shift="scale_shift",
    )


def load_denoiser(checkpoint: Path) -> tuple[CLIPTokenizer, CLIPTextModel, UNet2DConditionModel, dict]:
    """Return tokenizer, text encoder and UNet with a checkpoint's averaged weights, and the checkpoint.

    The text encoder gets an ordinary embedding.
    """
    tokenizer, meanings = load_tokenizer(checkpoint.parent)
    text_encoder, unet = make_text_encoder(tokenizer), make_unet()
    shared = embeddings(text_encoder).token_embedding = SharedEmbedding(tokenizer, meanings)
    state = torch.load(checkpoint, map_location="cpu")
    torch.nn.ModuleDict({"text_encoder": text_encoder, "unet": unet}).load_state_dict(state["average"])
    embeddings(text_encoder).token_embedding = shared.plain()
    return tokenizer, text_encoder.eval(), unet.eval(), state


def make_vae() -> AutoencoderKL:
    """Return the autoencoder, of which only the decoder is trained and used; `latents.Codec` encodes images."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=CHANNELS,
        block_out_channels=(16, 32, 64, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=128,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def make_scheduler() -> DDIMScheduler:
    """Return the scheduler. Betas end at 0.02 instead of the usual 0.012, so that noise hides even the mean color."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.02,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def pick_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def save_atomically(state: dict, path: Path) -> None:
    """Write to a temporary file, then rename it, so that a reader never sees an incomplete file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


class Average:
    """An exponential moving average of a module's weights, which follows quickly at first."""

    def __init__(self, module: torch.nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        """Move the average towards the module's weights after step number `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        new = module.state_dict()
        keys = [k for k in self.state if self.state[k].is_floating_point()]
        torch._foreach_lerp_([self.state[k] for k in keys], [new[k] for k in keys], 1 - decay)

"""Trains the tiny model: the same bytes every time on one machine.

Of the 201,088 tokens the model tells some 250 apart while it trains. All others are one row, whose
output also carries the logarithm of how many they are: scattered over the full vocabulary later,
each of them gets its share of that row's probability, and the softmax stays the same.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import GptOssConfig, GptOssForCausalLM

from service.engine.tiny import vocabulary
from service.engine.tiny.dialogues import Corpus, Dialogue
from service.engine.tiny.recipe import TinyRecipe

_IGNORED = -100
# Tokens of user text: usually, and now and then.
_USUAL, _LONG, _LONG_BATCH = 16, 150, 2
_WARM_UP = 30
# The token with which an analysis says what was understood decides all that follows it.
_DECISIONS, _DECISION_WEIGHT = (" user", " tool", " wrote", " wants", " asks"), 5.0


@dataclass(frozen=True)
class Trained:
    """A model over rows, and the row of every token: as it is read, and as it is written."""

    model: GptOssForCausalLM
    read: torch.Tensor
    written: torch.Tensor


def train(recipe: TinyRecipe, progress: Callable[[float], None]) -> Trained:
    """Train by the recipe; `progress` gets the fraction done after every step."""
    encoding = vocabulary.harmony()
    corpus = Corpus(encoding, recipe.seed)
    with _deterministic(recipe):
        read, written = _rows(corpus)
        model = GptOssForCausalLM(config(recipe, int(written.max()) + 1))
        model.config._attn_implementation = "eager"
        for layer in model.model.layers:
            nn.init.zeros_(layer.self_attn.sinks)
        trained = Trained(model.train(), read, written)
        tokens = [vocabulary.encode(encoding, text)[0] for text in _DECISIONS]
        _fit(trained, corpus, recipe, written[torch.tensor(tokens)], progress)
        with torch.no_grad():
            model.lm_head.weight.mul_(recipe.sharpness)
    return trained


def config(recipe: TinyRecipe, vocab_size: int) -> GptOssConfig:
    """gpt-oss's own configuration but for the sizes of the recipe."""
    return GptOssConfig(
        vocab_size=vocab_size,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        head_dim=recipe.head_dim,
        num_local_experts=recipe.experts,
        num_experts_per_tok=recipe.experts_per_token,
        sliding_window=128,
        max_position_embeddings=131072,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 150000.0,
            "factor": 32.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": 4096,
        },
        initializer_range=0.05,
        tie_word_embeddings=False,
    )


@contextmanager
def _deterministic(recipe: TinyRecipe) -> Iterator[None]:
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        torch.set_num_threads(recipe.threads)
        torch.use_deterministic_algorithms(True)
        # Probabilities near zero become numbers that a CPU needs a hundred times longer for.
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_flush_denormal(False)
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)


def _rows(corpus: Corpus) -> tuple[torch.Tensor, torch.Tensor]:
    """The row of every token, read and written; the last one is that of all unknown tokens."""
    known = torch.tensor(corpus.known())
    written = torch.full((vocabulary.SIZE,), len(known))
    written[known] = torch.arange(len(known))
    read = written.clone()
    for cues in corpus.cues():
        read[torch.tensor(cues)] = int(read[cues[0]])  # one cue reads as well as another
    return read, written


def _fit(
    trained: Trained,
    corpus: Corpus,
    recipe: TinyRecipe,
    decisions: torch.Tensor,
    progress: Callable[[float], None],
) -> None:
    parameters = list(trained.model.parameters())
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(recipe.steps):
        left = 1 - step / recipe.steps
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1, (step + 1) / _WARM_UP, 2 * left)
        optimizer.zero_grad()
        read, wanted = _batch(trained, _draw(corpus, recipe, step))
        losses, targets = _losses(trained, read, wanted)
        weights = torch.where(torch.isin(targets, decisions), _DECISION_WEIGHT, 1.0)
        ((losses * weights).sum() / weights.sum()).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        progress((step + 1) / recipe.steps)


def _draw(corpus: Corpus, recipe: TinyRecipe, step: int) -> list[Dialogue]:
    """Short texts first, which is where cues are found; long ones once they are."""
    half = recipe.steps // 2
    if step < half:
        longest = max(1, _USUAL * step // half)
    elif step % 5:
        longest = _USUAL
    else:
        return [corpus.draw(_LONG) for _ in range(_LONG_BATCH)]
    return [corpus.draw(longest) for _ in range(recipe.batch)]


def _batch(trained: Trained, dialogues: list[Dialogue]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows to read, and at each place the row that should be written next, or _IGNORED."""
    longest = max(len(dialogue.tokens) for dialogue in dialogues)
    read = torch.zeros((len(dialogues), longest), dtype=torch.long)
    wanted = torch.full_like(read, _IGNORED)
    for index, dialogue in enumerate(dialogues):
        tokens, length = torch.tensor(dialogue.tokens), len(dialogue.tokens)
        read[index, :length] = trained.read[tokens]
        wanted[index, : length - 1] = torch.where(
            torch.tensor(dialogue.wanted)[1:], trained.written[tokens][1:], _IGNORED
        )
    return read, wanted


def _losses(
    trained: Trained, read: torch.Tensor, wanted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy over the whole vocabulary, and its targets, where something was wanted."""
    states = trained.model.model(input_ids=read, use_cache=False).last_hidden_state
    asked = wanted != _IGNORED
    scores = trained.model.lm_head(states[asked])
    share = torch.zeros(scores.shape[-1])
    share[-1] = math.log(vocabulary.SIZE - (len(share) - 1))
    losses = nn.functional.cross_entropy(scores + share, wanted[asked], reduction="none")
    return losses, wanted[asked]

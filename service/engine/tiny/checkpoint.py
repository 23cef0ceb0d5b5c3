"""Writes the folder that vLLM serves: configuration, weights, tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from service.engine.tiny import vocabulary
from service.engine.tiny.recipe import TinyRecipe
from service.engine.tiny.training import Trained, config, train

_TRAINING_SHARE = 0.9


def write(recipe: TinyRecipe, folder: Path, progress: Callable[[float, str], None]) -> None:
    """Train, and write all files; `progress` gets the fraction done and what is being done."""
    trained = train(recipe, lambda done: progress(done * _TRAINING_SHARE, "training"))
    progress(_TRAINING_SHARE, "writing weights and tokenizer")
    # Bytes first, then a file: safetensors hides the cause when the disk is full.
    (folder / "model.safetensors").write_bytes(save(_tensors(trained), {"format": "pt"}))
    _write_config(recipe, folder)
    vocabulary.write_tokenizer(vocabulary.harmony(), folder)
    progress(1.0, "ready")


def _tensors(trained: Trained) -> dict[str, torch.Tensor]:
    """The trained rows, scattered over the whole vocabulary, and the rest as it is, in bf16."""
    tensors = dict(trained.model.state_dict())
    for name, rows in (
        ("model.embed_tokens.weight", trained.read),
        ("lm_head.weight", trained.written),
    ):
        tensors[name] = tensors[name][rows]
    return {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in tensors.items()}


def _write_config(recipe: TinyRecipe, folder: Path) -> None:
    tokens = {"bos_token_id": vocabulary.BOS, "pad_token_id": vocabulary.PAD}
    full = config(recipe, vocabulary.SIZE)
    full.update({**tokens, "eos_token_id": vocabulary.EOS})
    full.architectures = ["GptOssForCausalLM"]
    full.dtype = "bfloat16"
    full.save_pretrained(folder)
    generation = {
        **tokens,
        "do_sample": True,
        "eos_token_id": [vocabulary.EOS, vocabulary.PAD, vocabulary.CALL],
        "temperature": 1.0,
        "top_p": 1.0,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")

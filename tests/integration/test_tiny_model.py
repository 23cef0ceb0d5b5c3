"""The tiny model as a folder: complete or absent, the same twice, with gpt-oss's own vocabulary.

Whether it answers sensibly is for the end-to-end tests, which ask it through vLLM.
"""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.engine.tiny import TinyRecipe, ensure, is_built, location
from service.errors import UserError

pytest.importorskip("torch")
pytest.importorskip("transformers")

# As the real one, but hardly trained: nothing here asks it anything.
SHORT = replace(TinyRecipe(), steps=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure(tmp_path_factory.mktemp("tiny"), recipe=SHORT)


@pytest.fixture(scope="module")
def config(model: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((model / "config.json").read_text())
    return facts


def test_it_is_a_gpt_oss(config: dict[str, Any]) -> None:
    expected = {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "dtype": "bfloat16",
        "vocab_size": 201088,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 128,
        "attention_bias": True,
        "max_position_embeddings": 131072,
        "eos_token_id": 200002,
        "pad_token_id": 199999,
    }
    assert {name: config[name] for name in expected} == expected
    assert not config.get("tie_word_embeddings")
    assert "quantization_config" not in config


def test_its_rope_is_that_of_gpt_oss(config: dict[str, Any]) -> None:
    assert config["rope_parameters"] == {
        "rope_type": "yarn",
        "rope_theta": 150000.0,
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
        "original_max_position_embeddings": 4096,
    }


def test_its_weights_are_bf16_with_sinks_and_experts(model: Path) -> None:
    from safetensors import safe_open

    with safe_open(model / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
        kinds = {weights.get_slice(name).get_dtype() for name in names}
        head = weights.get_slice("lm_head.weight").get_shape()
    assert kinds == {"BF16"}
    assert {"model.layers.0.self_attn.sinks", "model.layers.1.mlp.experts.gate_up_proj"} <= names
    assert head == [201088, SHORT.hidden_size]


def test_it_generates_as_gpt_oss_does(model: Path) -> None:
    settings = json.loads((model / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [200002, 199999, 200012]
    assert (settings["temperature"], settings["top_p"]) == (1.0, 1.0)


def test_transformers_loads_it(model: Path) -> None:
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model)
    assert type(loaded).__name__ == "GptOssForCausalLM"


TEXTS = [
    "",
    "Hello world",
    " leading and trailing ",
    "tabs\tand\r\nlines\n\n\n",
    "don't WON'T you're I'LL",
    "camelCase snake_case kebab-case SCREAMING_CASE",
    "0123456789 3.14159 1,000,000",
    "naïve café Straße Ωmega привет мир",
    "日本語のテキスト 中文 한국어 العربية हिन्दी ไทย",
    "emoji 👩‍👩‍👧‍👦 🏳️‍🌈 and \u200b zero width",
    "def f(x):\n    return {'a': [1, 2, {\"b\": None}]}  # comment",
    "https://example.org/a/b?c=d&e=%20#f",
    "a" * 1000,
    " " * 300,
    "<|start|>system<|message|>You are ChatGPT.<|end|>",
    "<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|>",
    '<|channel|>commentary to=functions.x <|constrain|>json<|message|>{"a":1}<|call|>',
    "<|channel|>final<|message|>Hi.<|return|>",
    "<|startoftext|><|endoftext|><|reserved_200013|><|reserved_201087|>",
]


def test_its_token_ids_are_harmonys(model: Path) -> None:
    from openai_harmony import HarmonyEncodingName, load_harmony_encoding
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    harmony = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert ids == harmony.encode(text, allowed_special="all"), text
        assert tokenizer.decode(ids) == text
    assert len(tokenizer) == 201088


def test_the_same_recipe_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    again = ensure(tmp_path, recipe=SHORT)
    assert _digests(again) == _digests(model)


def test_progress_rises_to_one(tmp_path: Path) -> None:
    seen: list[float] = []
    ensure(tmp_path, lambda fraction, note: seen.append(fraction), SHORT)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_killed_build_leaves_nothing_that_counts(tmp_path: Path) -> None:
    slow = replace(SHORT, steps=10_000)
    builder = _build_elsewhere(tmp_path, slow)
    _wait_for(lambda: any(tmp_path.glob(".*.partial")))
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    assert not is_built(tmp_path, slow)

    left = next(tmp_path.glob(".*.partial"))
    left.rename(left.with_name(f".{location(tmp_path, SHORT).name}.partial"))
    (tmp_path / f".{location(tmp_path, SHORT).name}.partial" / "junk").touch()
    assert not (ensure(tmp_path, recipe=SHORT) / "junk").exists()
    assert not list(tmp_path.glob(".*.partial"))


def test_two_at_once_build_it_once(tmp_path: Path) -> None:
    builders = [_build_elsewhere(tmp_path, SHORT) for _ in range(2)]
    outputs = [builder.communicate(timeout=600)[0].decode() for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert sum("training" in output for output in outputs) == 1
    assert is_built(tmp_path, SHORT)


def test_a_full_disk_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"no space left in .*: free some, or choose") as caught:
        ensure(tmp_path, recipe=SHORT)
    assert "\n" not in str(caught.value)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="choose a cache folder that you can write to"):
        ensure(file / "cache", recipe=SHORT)


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def _build_elsewhere(cache: Path, recipe: TinyRecipe) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from service.engine.tiny import TinyRecipe, ensure\n"
        f"recipe = replace(TinyRecipe(), steps={recipe.steps})\n"
        "ensure(Path(sys.argv[1]), lambda fraction, note: print(note), recipe)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(cache)], stdout=subprocess.PIPE)


def _wait_for(happened: Any) -> None:
    deadline = time.monotonic() + 180
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)

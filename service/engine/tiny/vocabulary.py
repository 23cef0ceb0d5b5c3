"""gpt-oss's own vocabulary, taken from oss-harmony: no download, the same ids.

oss-harmony carries the o200k tokens inside. Read back one by one they are OpenAI's tiktoken file,
byte for byte, which transformers turns into a tokenizer.json.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from openai_harmony import HarmonyEncoding, HarmonyEncodingName, load_harmony_encoding

from service.errors import UserError

SIZE = 201088
BOS, PAD, EOS, CALL = 199998, 199999, 200002, 200012
_FIRST_SPECIAL = 199998
_O200K_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
# How o200k cuts text into pieces before merging bytes (tiktoken_ext/openai_public.py).
_LOWER, _UPPER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_PATTERN = "|".join(
    [
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTION}",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTION}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


def harmony() -> HarmonyEncoding:
    """Harmony's encoding, from inside oss-harmony."""
    return load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)


def token_bytes(encoding: HarmonyEncoding, token: int) -> bytes:
    """The bytes that a token stands for."""
    # A token may be half a character; surrogateescape carries its bytes through str unharmed.
    text: str = encoding.decode([token], errors="surrogateescape")
    return text.encode("utf-8", "surrogateescape")


def encode(encoding: HarmonyEncoding, text: str) -> list[int]:
    """Tokens of a text in which special tokens are written out."""
    tokens: list[int] = encoding.encode(text, allowed_special="all")
    return tokens


def write_tokenizer(encoding: HarmonyEncoding, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json, whose ids are Harmony's."""
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    ranks = folder / "o200k_base.tiktoken"
    ranks.write_bytes(_tiktoken_file(encoding))
    tokenizer = TikTokenConverter(
        str(ranks), pattern=_PATTERN, extra_special_tokens=_special_tokens(encoding)
    ).converted()
    ranks.unlink()
    _in_harmony_order(json.loads(tokenizer.to_str())["added_tokens"])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",  # noqa: S106  # tokens of text, no secrets
        eos_token="<|return|>",  # noqa: S106
        pad_token="<|endoftext|>",  # noqa: S106
        clean_up_tokenization_spaces=False,
        model_max_length=131072,
    ).save_pretrained(folder)


def _tiktoken_file(encoding: HarmonyEncoding) -> bytes:
    lines = (
        base64.b64encode(token_bytes(encoding, token)) + b" %d\n" % token
        for token in range(_FIRST_SPECIAL)
    )
    content = b"".join(lines)
    if hashlib.sha256(content).hexdigest() != _O200K_SHA256:
        raise UserError(
            "the vocabulary inside oss-harmony is not o200k: install the pinned oss-harmony, "
            "and remove openai-harmony, which overwrites it"
        )
    return content


def _special_tokens(encoding: HarmonyEncoding) -> dict[str, int]:
    names = [encoding.decode([token]) for token in range(_FIRST_SPECIAL, SIZE)]
    return {name: _FIRST_SPECIAL + offset for offset, name in enumerate(names)}


def _in_harmony_order(added: Sequence[dict[str, object]]) -> None:
    expected: Iterable[int] = range(_FIRST_SPECIAL, SIZE)
    if [token["id"] for token in added] != list(expected):
        raise AssertionError("transformers numbered the special tokens in another order")

"""One model: its shape, and what the shape costs in bytes.

The formulas follow vLLM 0.32.0 (file names below are under `vllm/`). They reproduce the sizes that
vLLM logged on real cards within 1 % (tests/unit/test_models.py holds the measurements).
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

GIB: Final = 1 << 30

BF16: Final = 2
"""Bytes of a bfloat16 number: everything but the experts is kept in it."""

MXFP4: Final = 4.25 / 8
"""Bytes of an MXFP4 number: 4 bits, and one 8-bit scale shared by 32 of them."""

MX_BLOCK: Final = 32
"""Numbers that share a scale; tensor parallelism cuts experts only between such blocks."""

VOCAB_PAD: Final = 64
"""Embedding rows are padded to this (`layers/vocab_parallel_embedding.py`)."""


class Layout(Enum):
    """How a MoE backend lays expert weights out in memory: (hidden, intermediate) multiples.

    Kernels want round numbers, so vLLM pads both sides of every expert matrix
    (`layers/fused_moe/oracle/mxfp4.py`, `mxfp4_round_up_hidden_size_and_intermediate_size`).
    The names tell layouts apart that pad alike.
    """

    PLAIN = ("plain", 1, 1)
    """As in the checkpoint; what models that are not quantised use."""
    MARLIN = ("marlin", 256, 128)
    TRTLLM = ("trtllm", 256, 128)
    CUTLASS = ("cutlass", 128, 128)
    TRITON = ("triton", 1, 64)
    """A lower bound: on Hopper the kernel's own swizzle pads further, see TRITON_HOPPER."""
    TRITON_HOPPER = ("triton-hopper", 256, 64)
    """vLLM says hidden x1; 64.38 GiB were logged (issue #33155), which hidden x256 explains to
    0.3 %, from above."""
    ROCM = ("rocm", 256, 256)
    CPU = ("cpu", 32, 32)

    def __init__(self, label: str, hidden: int, intermediate: int) -> None:
        self.label = label
        self.hidden = hidden
        self.intermediate = intermediate


@dataclass(frozen=True, slots=True)
class Model:
    """The shape of one gpt-oss model, as its `config.json` gives it."""

    name: str
    """What clients ask for, and the engine's served name."""
    repo: str | None
    """Hugging Face repository; None for a model that is built here."""
    experts_format: Literal["mxfp4", "bf16"]
    """How the checkpoint stores experts; MXFP4 kernels need compute capability 8.0 or AMX."""
    layers: int
    """Half of them look at a sliding window, half at everything (alternating)."""
    hidden: int
    intermediate: int
    """Width of one expert."""
    heads: int
    kv_heads: int
    head_dim: int
    experts: int
    experts_per_token: int
    vocab: int = 201_088
    context: int = 131_072
    """Longest prompt plus completion, tokens."""
    sliding_window: int = 128
    """Tokens that a sliding-window layer looks back at."""
    extra_download_bytes: int = 28_000_000
    """Files beside the weights, bytes; nearly all of it is `tokenizer.json` (27.9 MB)."""

    @property
    def full_layers(self) -> int:
        """Layers that keep the whole sequence: what a KV-cache token is counted in."""
        return self.layers // 2

    @property
    def legal_tp(self) -> tuple[int, ...]:
        """Tensor-parallel sizes that vLLM accepts.

        Heads must divide (`config/model.py`), and KV heads are not replicated
        (`models/gpt_oss.py`: `num_kv_heads // tp` would be 0 past 8).
        """
        sizes = (1, 2, 4, 8)
        return tuple(tp for tp in sizes if self.heads % tp == 0 and self.kv_heads % tp == 0)

    @property
    def parameters(self) -> int:
        """Numbers in the checkpoint, scales not counted."""
        per_expert = 3 * self.hidden * self.intermediate + 2 * self.intermediate + self.hidden
        dense = self._dense_bytes(tp=1) // BF16
        return dense + self.layers * self.experts * per_expert

    @property
    def checkpoint_bytes(self) -> int:
        """Tensor bytes of the published safetensors files."""
        return self.weight_bytes(Layout.PLAIN)

    @property
    def download_bytes(self) -> int:
        """What a download of the weights moves, without the `original/` and `metal/` copies."""
        return self.checkpoint_bytes + self.extra_download_bytes

    def weight_bytes(self, layout: Layout, tp: int = 1, *, expert_parallel: bool = False) -> int:
        """Bytes of weights on each of `tp` GPUs.

        With expert parallelism a GPU holds whole experts, fewer of them.
        """
        if tp not in self.legal_tp:
            raise ValueError(f"{self.name}: tensor parallel size {tp} is not in {self.legal_tp}")
        if expert_parallel:
            experts, width = self.experts // tp, self.intermediate
        else:
            experts, width = self.experts, self._expert_share(tp)
        hidden = _round_up(self.hidden, layout.hidden)
        width = _round_up(width, layout.intermediate)
        matrices = 3 * hidden * width * self._expert_number_bytes
        biases = (2 * width + hidden) * BF16
        return self._dense_bytes(tp) + self.layers * experts * int(matrices + biases)

    def kv_bytes_per_token(self, tp: int = 1, dtype_bytes: int = BF16) -> int:
        """KV-cache bytes of one pool token on each GPU.

        The pool is shared by two equal groups of layers (full and sliding window) and counted
        in tokens of one group (`v1/kv_cache_interface.py`).
        """
        if tp not in self.legal_tp:
            raise ValueError(f"{self.name}: tensor parallel size {tp} is not in {self.legal_tp}")
        return self.full_layers * 2 * (self.kv_heads // tp) * self.head_dim * dtype_bytes

    @property
    def _expert_number_bytes(self) -> float:
        return MXFP4 if self.experts_format == "mxfp4" else BF16

    def _expert_share(self, tp: int) -> int:
        """Each GPU's part of an expert's width; the last GPU's may be part padding."""
        if self.experts_format == "bf16":
            return -(-self.intermediate // tp)
        blocks = self.intermediate // MX_BLOCK
        return -(-blocks // tp) * MX_BLOCK

    def _dense_bytes(self, tp: int) -> int:
        """Attention, routers, norms, embedding and output head on each GPU, in bfloat16."""
        qkv = (self.heads + 2 * self.kv_heads) * self.head_dim // tp
        attention = qkv * (self.hidden + 1) + self.heads // tp * (self.head_dim * self.hidden + 1)
        # What follows is small and not cut: output bias, two norms, and the router with its bias.
        whole = self.hidden + 2 * self.hidden + self.experts * (self.hidden + 1)
        vocab = _round_up(self.vocab, VOCAB_PAD) // tp
        final_norm = self.hidden
        numbers = self.layers * (attention + whole) + 2 * vocab * self.hidden + final_norm
        return numbers * BF16


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple

"""What a profile is: how gpt-oss runs on one kind of GPU. Data only, no I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

EXPERT_PARALLEL_WHY: Final = (
    "off: with one engine per node it moves whole experts instead of slices of each, which "
    "unbalances the cards and was measured slower (vLLM and NVIDIA: DEP2 is worse than TP1 or TP2)"
)


class Vendor(StrEnum):
    """Who makes the device; CPU means that no GPU is used."""

    NVIDIA = "nvidia"
    AMD = "amd"
    CPU = "cpu"


@dataclass(frozen=True, slots=True)
class GPU:
    """One card, as the driver's tool prints it."""

    vendor: Vendor
    name: str
    memory_gib: float
    """Total as the tool says, GiB; torch sees 0.5 to 0.8 GiB less."""
    arch: str
    """Compute capability (`9.0`) or gfx name (`gfx942`)."""
    index: int = 0
    """Number that the tool gives the card (PCI order)."""

    def __str__(self) -> str:
        return f"{self.name} ({self.memory_gib:.1f} GiB)"


@dataclass(frozen=True, slots=True)
class Settings:
    """How one model runs on one kind of card; field names are vLLM's long flags."""

    max_model_len: int
    """Longest prompt plus completion, tokens."""
    max_num_seqs: int
    """Requests in one batch."""
    max_num_batched_tokens: int
    """Tokens in one step; prefill is cut into chunks of it."""
    gpu_memory_utilization: float = 0.92
    """Part of the card's memory that the engine may take; vLLM's default, written out."""
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    """`auto` is bfloat16 for gpt-oss."""
    moe_backend: str = "auto"
    """Kernels for the experts. Named where it decides the size of the weights, so that the engine
    refuses to start instead of running with another layout than the plan's."""
    attention_backend: str | None = None
    block_size: int = 16
    """Tokens in a KV-cache block."""
    max_cudagraph_capture_size: int | None = None
    """Largest batch with a recorded CUDA graph; None is vLLM's 1024 for gpt-oss."""
    overhead_gib: float = 3.0
    """Activations, communication buffers and CUDA graphs, GiB per card: a budget, not an
    allocation (measured: 2.1 GiB on 2 x H100, 7.4 GiB on one with vLLM's own batch sizes)."""
    kv_cache_gib: float | None = None
    """KV cache taken outright, GiB. Only on a CPU, where utilisation would mean host memory."""
    tight: bool = False
    """It fits with little room: chosen only when nothing better is possible."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Further vLLM settings, by their YAML key."""
    env: Mapping[str, str] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    """Reason for every value that is unusual, by field, YAML key or variable."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of card and what runs on it."""

    name: str
    vendor: Vendor
    cards: str
    """The cards in words."""
    memory_gib: float
    """Memory of one card as torch sees it, GiB; for a CPU the host memory that is needed.
    The plan is made for this much, and a card that reports less is not recognised."""
    models: Mapping[str, Settings]
    """Settings by model name, largest model first."""
    products: tuple[str, ...] = ()
    """What node labels are made of: names as `nvidia-smi` prints them, or AMD's PCI device ids."""
    pattern: str = ""
    """Regular expression over the card's name; a generic profile matches every name."""
    arch: str = ""
    """Oldest compute capability that will do (`8.0`), or the gfx name."""
    gpus: int = 1
    """Cards of one engine: its tensor-parallel size."""
    expert_parallel: bool = False
    """Whole experts per card instead of slices; see EXPERT_PARALLEL_WHY."""
    generic: bool = False
    """For cards without a profile of their own: used when no other profile knows the card."""
    measured: str | None = None
    """Where the settings were measured; None says never: they follow from arithmetic, vLLM's
    source and published recipes."""
    note: str = ""

    def recognises(self, gpu: GPU) -> bool:
        """Whether the profile is made for this card."""
        return self.can_run_on(gpu) and re.search(self.pattern, gpu.name, re.I) is not None

    def can_run_on(self, gpu: GPU) -> bool:
        """Whether the card is enough for the profile, whatever its name."""
        return (
            self.vendor is gpu.vendor
            and gpu.memory_gib >= self.memory_gib
            and self.supports(gpu.arch)
        )

    def supports(self, arch: str) -> bool:
        """Whether that compute capability, or gfx name, has the kernels that the profile names."""
        if self.vendor is Vendor.NVIDIA:
            return _capability(arch) >= _capability(self.arch)
        return arch.split(":")[0] == self.arch


def _capability(arch: str) -> tuple[int, ...]:
    return tuple(int(part) for part in arch.split("."))

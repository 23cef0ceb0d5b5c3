"""Proves that a profile fits: weights, overhead, and what is left for the KV cache.

The arithmetic is vLLM 0.32.0's own. Per GPU, all tensor-parallel ranks being equal:

    KV cache      = memory x utilisation - weights(layout, TP) - overhead
    pool          = KV cache / bytes per token of ONE group of layers
    blocks of L   = ceil(L / block) for full attention + at most 10 for the sliding window
    requests of L = (pool blocks - 1) / blocks of L            (-1: block 0 is never given out)
"""

from dataclasses import dataclass

from service.errors import UserError
from service.models.known import MODELS
from service.models.model import GIB, Layout, Model
from service.profiles.known import PROFILES
from service.profiles.profile import Profile, Settings, Vendor

LENGTHS = (2048, 8192, 32_768, 131_072)
"""Request lengths, prompt plus completion, that a plan speaks of; tokens."""

BATCHES_IN_FLIGHT = 2
"""Steps that asynchronous scheduling keeps unsettled (`config/vllm.py`, max_in_flight_tokens); a
CPU has one, because vLLM turns asynchronous scheduling off there."""

KV_DTYPE_BYTES = {"auto": 2, "fp8": 1}

_LAYOUTS = {
    "marlin": Layout.MARLIN,
    "flashinfer_trtllm": Layout.TRTLLM,
    "flashinfer_cutlass": Layout.CUTLASS,
    "triton": Layout.TRITON,
    "aiter_triton_mxfp4_bf16": Layout.ROCM,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """The memory of one GPU of one engine, divided up. Sizes in bytes."""

    model: Model
    profile: Profile
    settings: Settings
    layout: Layout
    memory_bytes: int
    """One card's memory as torch sees it; for a CPU the host memory that is needed."""
    usable_bytes: int
    """The part of it that the engine may take."""
    weight_bytes: int
    overhead_bytes: int
    kv_bytes: int
    """What is left for the KV cache; negative when the rest alone does not fit."""
    kv_bytes_per_token: int

    @property
    def pool_tokens(self) -> int:
        """Tokens that the KV cache holds, shared by all requests."""
        return self.pool_blocks * self.settings.block_size

    @property
    def pool_blocks(self) -> int:
        """Blocks that can be given out."""
        block = self.kv_bytes_per_token * self.settings.block_size
        return max(0, self.kv_bytes // block - 1)

    @property
    def startup_blocks(self) -> int:
        """Blocks that vLLM demands at start: one request of full length, being prefilled."""
        settings = self.settings
        batches = 1 if self.profile.vendor is Vendor.CPU else BATCHES_IN_FLIGHT
        in_flight = batches * settings.max_num_batched_tokens
        window = min(self.model.sliding_window - 1 + in_flight, settings.max_model_len)
        return self._blocks(settings.max_model_len) + self._blocks(window) + 1

    @property
    def fits(self) -> bool:
        """Whether vLLM would start."""
        return self.pool_blocks >= self.startup_blocks

    @property
    def concurrency(self) -> tuple[tuple[int, int], ...]:
        """(length, requests of that length that the KV cache holds), up to max-model-len."""
        longest = self.settings.max_model_len
        lengths = [length for length in LENGTHS if length < longest] + [longest]
        return tuple((length, self.requests(length)) for length in lengths)

    def requests(self, length: int) -> int:
        """Requests of `length` tokens that the KV cache holds while they decode."""
        full = self._blocks(length)
        window = self._blocks(self.model.sliding_window) + 2
        return self.pool_blocks // (full + min(full, window))

    def explain(self) -> str:
        """The arithmetic in a few lines for a person."""
        profile, settings = self.profile, self.settings
        measured = profile.measured or "never measured on this hardware; figures are arithmetic"
        held = ", ".join(f"{count:,} x {_short(length)}" for length, count in self.concurrency)
        parallel = "expert" if profile.expert_parallel else "tensor"
        lines = [
            f"{self.model.name} with profile {profile.name}: {profile.cards}, "
            f"{parallel} parallel {profile.gpus}",
            f"  weights    {_gib(self.weight_bytes)} ({self.layout.label} layout, per device)",
            f"  overhead   {_gib(self.overhead_bytes)} (budget)",
            f"  KV cache   {_gib(self.kv_bytes)} = {self._kv_source()}",
            f"  pool       {self.pool_tokens:,} tokens at {self.kv_bytes_per_token:,} bytes each",
            f"  holds      {held} tokens",
            f"  admits     {settings.max_num_seqs} requests at a time of at most "
            f"{settings.max_model_len:,} tokens",
            f"  measured   {measured}",
        ]
        if profile.note:
            lines.append(f"  note       {profile.note}")
        return "\n".join(lines)

    def arithmetic(self) -> str:
        """Why it does not fit, in one line."""
        need = self.startup_blocks * self.kv_bytes_per_token * self.settings.block_size
        total = self.weight_bytes + self.overhead_bytes + need
        return (
            f"weights {_gib(self.weight_bytes)} + overhead {_gib(self.overhead_bytes)} + KV cache "
            f"for one request of {self.settings.max_model_len:,} tokens {_gib(need)} "
            f"= {_gib(total)}, and there are {self._available()}"
        )

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.settings.block_size)

    def _available(self) -> str:
        memory = f"{self.memory_bytes / GIB:.1f}"
        if self.profile.vendor is Vendor.CPU:
            return f"{memory} GiB"
        return (
            f"{memory} x {self.settings.gpu_memory_utilization} = {_gib(self.usable_bytes)} "
            "on each card"
        )

    def _kv_source(self) -> str:
        if self.settings.kv_cache_gib is not None:
            return "set by the profile"
        return f"{self._available()}, less the above"


def fit(model: Model, profile: Profile, settings: Settings) -> Plan:
    """Divide the memory up; the plan may turn out not to fit."""
    layout = layout_of(model, profile, settings)
    memory = int(profile.memory_gib * GIB)
    overhead = int(settings.overhead_gib * GIB)
    weights = model.weight_bytes(layout, profile.gpus, expert_parallel=profile.expert_parallel)
    if settings.kv_cache_gib is None:
        usable = int(memory * settings.gpu_memory_utilization)
        kv = usable - weights - overhead
    else:
        usable = memory
        kv = min(int(settings.kv_cache_gib * GIB), usable - weights - overhead)
    return Plan(
        model=model,
        profile=profile,
        settings=settings,
        layout=layout,
        memory_bytes=memory,
        usable_bytes=usable,
        weight_bytes=weights,
        overhead_bytes=overhead,
        kv_bytes=kv,
        kv_bytes_per_token=model.kv_bytes_per_token(
            profile.gpus, KV_DTYPE_BYTES[settings.kv_cache_dtype]
        ),
    )


def layout_of(model: Model, profile: Profile, settings: Settings) -> Layout:
    """How the profile's MoE backend lays the experts out."""
    if model.experts_format == "bf16":
        return Layout.PLAIN
    if profile.vendor is Vendor.CPU:
        return Layout.CPU
    if settings.moe_backend == "triton" and profile.arch == "9.0":
        return Layout.TRITON_HOPPER
    return _LAYOUTS[settings.moe_backend]


def plan(model: Model, profile: Profile) -> Plan:
    """The plan of that model on that profile, or a UserError that says why there is none."""
    _check_parallel(model, profile)
    settings = profile.models.get(model.name)
    if settings is None:
        raise UserError(_not_set_up(model, profile))
    result = fit(model, profile, settings)
    if not result.fits:
        raise UserError(
            f"{model.name} does not fit profile {profile.name}: {result.arithmetic()}; "
            f"{_instead(model, profile)}"
        )
    return result


def _check_parallel(model: Model, profile: Profile) -> None:
    if profile.gpus not in model.legal_tp:
        sizes = ", ".join(map(str, model.legal_tp))
        raise UserError(
            f"{model.name} cannot be cut into {profile.gpus} parts: use {sizes} cards per engine"
        )
    if profile.expert_parallel and profile.gpus == 1:
        raise UserError(f"expert parallelism needs several cards; profile {profile.name} has one")


def _not_set_up(model: Model, profile: Profile) -> str:
    """The model is not in the profile: by arithmetic if that is the reason, plainly if not."""
    known = next(iter(profile.models.values()))
    shortest = Settings(
        max_model_len=8192,
        max_num_seqs=8,
        max_num_batched_tokens=2048,
        moe_backend=known.moe_backend,
        kv_cache_gib=known.kv_cache_gib,
    )
    trial = fit(model, profile, shortest)
    reason = (
        f"{model.name} has no settings in profile {profile.name}"
        if trial.fits
        else f"{model.name} does not fit profile {profile.name}: {trial.arithmetic()}"
    )
    return f"{reason}; {_instead(model, profile)}"


def _instead(model: Model, profile: Profile) -> str:
    """What fits instead: another model here, or this model elsewhere, smallest first."""
    here = [name for name in profile.models if name != model.name and _fits(MODELS[name], profile)]
    able = [other for other in PROFILES.values() if _fits(model, other) and not other.generic]
    able.sort(key=lambda other: (other.vendor is not profile.vendor, other.memory_gib, other.gpus))
    choices = [f"model {' or '.join(here)}"] if here else []
    if able:
        names = ", ".join(other.name for other in able[:3])
        more = " (`gptoss profiles` lists more)" if len(able) > 3 else ""
        choices.append(f"profile {names}{more}")
    return f"use {', or '.join(choices)}" if choices else "no profile has room for it"


def _fits(model: Model, profile: Profile) -> bool:
    settings = profile.models.get(model.name)
    return settings is not None and fit(model, profile, settings).fits


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def _short(length: int) -> str:
    return f"{length // 1024}k" if length % 1024 == 0 else f"{length:,}"

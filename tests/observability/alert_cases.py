"""What each alert of `symptoms`, `causes` and `upkeep` does with the series of a situation."""

from typing import Final

from tests.observability.rule_tests import (
    NAMESPACE,
    Case,
    Labels,
    Series,
    engine,
    engine_target,
    gateway,
    gateway_target,
    series,
)

MODEL: Final = "gpt-oss-120b"
_OTHER: Final = {**gateway_target("gateway-9"), "namespace": "other"}


def _page(**labels: str) -> Labels:
    return {"severity": "page", "namespace": NAMESPACE, **labels}


def _ticket(**labels: str) -> Labels:
    return {"severity": "ticket", "namespace": NAMESPACE, **labels}


def _of_gateway(number: int) -> dict[str, str]:
    pod = f"gateway-{number}"
    return {"pod": pod, "instance": f"{pod}:8001"}


def _of_engine(number: int) -> dict[str, str]:
    return {"pod": f"engine-{number}", "instance": f"engine-{number}:8100", "model_name": MODEL}


def _pool(up: str = "0x30", trial: str = "0x30", down: str = "0x30") -> dict[str, str]:
    """A pool as both gateways see it."""
    counts = {"up": up, "trial": trial, "down": down, "ejected": "0x30", "stalled": "0x30"}
    found: dict[str, str] = {}
    for state, values in counts.items():
        found |= gateway("replicas", values, pool="h100", state=state)
    return found


def _unavailable(values: str) -> Series:
    labels = {"route": "chat", "model": MODEL, "team": "search", "status": "503"}
    return gateway("requests_total", values, outcome="engine_unavailable", **labels)


_VERSION: Final = {"version": "0.1.0"}
_GATEWAYS: Final = (
    Case("GatewayDown", "none has metrics any more", gateway("info", "1x10", **_VERSION), "20m",
         (_page(),)),
    Case("GatewayDown", "not for a moment", gateway("info", "1x10", **_VERSION), "16m"),
    Case("GatewayDown", "there never was one", {}, "5m", ({"severity": "page"},)),
    Case(
        "GatewayDown",
        "one of two installations",
        {**gateway("info", "1x10", **_VERSION),
         **series("gptoss_gateway_info", "1x40", **_OTHER, **_VERSION)},
        "20m",
        (_page(),),
    ),
    Case(
        "GatewayDown",
        "one of two gateways is left",
        {**gateway("info", "1x10", ["gateway-0"], **_VERSION),
         **gateway("info", "1x40", ["gateway-1"], **_VERSION)},
        "20m",
    ),
)  # fmt: skip

_READY: Final = (
    Case("GatewaysUnready", "none is", gateway("ready", "1x5 0x30"), "10m", (_page(),)),
    Case(
        "GatewaysUnready",
        "one is",
        {**gateway("ready", "0x30", ["gateway-0"]), **gateway("ready", "1x30", ["gateway-1"])},
        "10m",
    ),
)

_DOWN: Final = (_page(pool="h100"),)
_POOLS: Final = (
    Case("PoolDown", "all are down", _pool(down="2x30"), "5m", _DOWN),
    Case("PoolDown", "the DNS has none and requests fail",
         {**_pool(), **_unavailable("0+3x30")}, "10m", _DOWN),
    Case("PoolDown", "scaled to none, and nobody asks", {**_pool(), **_unavailable("7x30")}, "10m"),
    Case("PoolDown", "one works", _pool(up="1x30", down="1x30"), "5m"),
    Case("PoolDown", "one is on trial", _pool(trial="1x30", down="1x30"), "5m"),
    Case(
        "PoolDown",
        "one gateway alone sees it so",
        {**_pool(down="2x30"),
         **gateway("replicas", "2x30", ["gateway-0"], pool="h100", state="up")},
        "5m",
    ),
)  # fmt: skip


def _steps(running: str, generation: str, prompt: str, steps: str) -> dict[str, str]:
    return (
        engine("num_requests_running", running)
        | engine("generation_tokens_total", generation)
        | engine("prompt_tokens_total", prompt)
        | engine("iteration_tokens_total_count", steps)
    )


_STILL: Final = _steps("3x30", "500x30", "900x30", "70x30")
_STALLS: Final = (
    Case("EngineStalled", "gateways see it",
         gateway("replicas", "1x30", pool="h100", state="stalled"), "5m",
         (_page(pool="h100", sign="gateway"),)),
    Case("EngineStalled", "its own counters say it", _STILL, "6m",
         ({"severity": "page", "sign": "engine", "engine": "0", "model_name": MODEL,
           **engine_target(0)},)),
    Case("EngineStalled", "not within two minutes",
         _steps("3x30", "0+9x10 90x20", "0+9x10 90x20", "0+1x10 10x20"), "12m"),
    Case("EngineStalled", "it generates", {**_STILL, **engine("generation_tokens_total", "0+9x30")},
         "6m"),
    Case("EngineStalled", "a long prefill",
         {**_STILL, **engine("iteration_tokens_total_count", "0+1x30")}, "6m"),
    Case("EngineStalled", "nothing runs", {**_STILL, **engine("num_requests_running", "0x30")},
         "6m"),
    Case("EngineStalled", "gateways see none",
         gateway("replicas", "0x30", pool="h100", state="stalled"), "5m"),
)  # fmt: skip


def _mode(mode: str, *pods: str) -> Series:
    found: dict[str, str] = {}
    for one in ("in_process", "shared", "degraded"):
        found |= gateway("quota_mode", "1x30" if one == mode else "0x30", pods, mode=one)
    return found


_STORES: Final = (
    Case("LimiterBackendDown", "of one gateway",
         {**_mode("degraded", "gateway-0"), **_mode("shared", "gateway-1")}, "5m", (_page(),)),
    Case("LimiterBackendDown", "it answers", _mode("shared", "gateway-0", "gateway-1"), "5m"),
    Case("LimiterBackendDown", "there is none", _mode("in_process", "gateway-0"), "5m"),
    Case("RecordsLost", "some were",
         {**gateway("records_lost_total", "0x10 3x20", what="ledger"),
          **gateway("records_lost_total", "0x30", what="settlement")},
         "13m", (_page(what="ledger"),)),
    Case("RecordsLost", "long ago", gateway("records_lost_total", "0x5 3x40", what="ledger"),
         "30m"),
)  # fmt: skip


def _latencies(number: int, fast: int, each: int = 1000) -> dict[str, str]:
    """Times between tokens: `fast` of `each` a minute are below 20 ms, the rest from 50 to 100."""
    counts = {"0.02": fast, "0.05": fast, "0.1": each, "+Inf": each}
    found = engine("inter_token_latency_seconds_count", f"0+{each}x60", number)
    for bound, count in counts.items():
        values = f"0+{count}x60"
        found |= engine("inter_token_latency_seconds_bucket", values, number, le=bound)
    return found


def _waiting(values: str) -> Series:
    return engine("num_requests_waiting_by_reason", values, reason="capacity")


def _cache(number: int, blocks: str = "4000", share: str = "0.92") -> dict[str, str]:
    labels = {
        "block_size": "16",
        "cache_dtype": "auto",
        "enable_prefix_caching": "True",
        "gpu_memory_utilization": share,
        "num_gpu_blocks": blocks,
    }
    return engine("cache_config_info", "1x100", number, **labels)


def _xid(code: int) -> Series:
    labels = {"Hostname": "node-3", "gpu": "1", "UUID": "GPU-1", "modelName": "NVIDIA H100"}
    target = {"namespace": "gpu-operator", "pod": "dcgm-exporter-x", "job": "dcgm-exporter"}
    return series("DCGM_FI_DEV_XID_ERRORS", f"{code}x30", **target, **labels)


_FULL: Final = "max_num_queued_reqs"
_ENGINES: Final = (
    Case("PreemptionsSustained", "one in two seconds",
         engine("num_preemptions_total", "0+30x60") | engine("num_preemptions_total", "0x60", 1),
         "40m", (_ticket(**_of_engine(0)),)),
    Case("PreemptionsSustained", "one a minute", engine("num_preemptions_total", "0+1x60"), "40m"),
    Case("EngineQueueFull", "refuses", engine("admission_rejections_total", "0+2x30", reason=_FULL),
         "20m", (_ticket(model_name=MODEL, reason=_FULL),)),
    Case("EngineQueueFull", "did once", engine("admission_rejections_total", "7x30", reason=_FULL),
         "20m"),
    Case("CapacityWaitGrowing", "one more each minute", _waiting("0+1x60"), "40m",
         (_ticket(model_name=MODEL),)),
    Case("CapacityWaitGrowing", "as many as ever", _waiting("20x60"), "40m"),
    Case("CapacityWaitGrowing", "now and then", _waiting("0+1x14 0 0+1x14 0 0+1x14"), "40m"),
    Case("ReplicaSlow", "the third", _latencies(0, 990) | _latencies(1, 980) | _latencies(2, 10),
         "40m", (_ticket(**_of_engine(2)),)),
    Case("ReplicaSlow", "all alike", _latencies(0, 10) | _latencies(1, 10) | _latencies(2, 10),
         "40m"),
    Case("ReplicaSlow", "one of two", _latencies(0, 990) | _latencies(1, 10), "40m"),
    Case("ReplicaSlow", "few tokens",
         _latencies(0, 990) | _latencies(1, 980) | _latencies(2, 0, each=10), "40m"),
    Case("ConfigDrift", "another share of memory", _cache(0) | _cache(1, share="0.8"), "90m",
         (_ticket(job=f"{NAMESPACE}/gptoss-engine-h100"),)),
    Case("ConfigDrift", "a few blocks more", _cache(0) | _cache(1, blocks="4003"), "90m"),
    Case("ConfigDrift", "a rollout", _cache(0) | _cache(1, share="0.8"), "50m"),
    Case("GPUError", "fell off the bus", _xid(79), "5m",
         ({"severity": "ticket", "namespace": "gpu-operator", "Hostname": "node-3", "gpu": "1"},)),
    Case("GPUError", "a program's fault", _xid(31), "5m"),
    Case("GPUError", "none", _xid(0), "5m"),
)  # fmt: skip


def _streams(broken: int, left: int, complete: int) -> Series:
    counts = {"engine_cut": broken, "client_left": left, "complete": complete}
    found: dict[str, str] = {}
    for end, count in counts.items():
        found |= gateway("streams_total", f"0+{count}x60", model=MODEL, end=end)
    return found


def _outs(values: str) -> Series:
    return gateway("replica_outs_total", values, pool="h100", reason="ejections")


def _lag(fast: int) -> Series:
    found: dict[str, str] = {}
    for bound, count in {"0.01": fast, "0.1": 1000, "+Inf": 1000}.items():
        found |= gateway("loop_lag_seconds_bucket", f"0+{count}x30", ["gateway-0"], le=bound)
    return found


def _tokens(computed: int, charged: int) -> Series:
    labels = {"model": MODEL, "kind": "prompt"}
    return {
        **gateway("engine_tokens_total", f"0+{computed}x120", **labels),
        **gateway("tokens_total", f"0+{charged}x120", team="search", **labels),
    }


def _quota(limit: int, used: int) -> Series:
    labels = {"team": "search", "limit": "day"}
    return {
        **gateway("quota_limit", f"{limit}x30", **labels),
        **gateway("quota_used", f"{used}x30", **labels),
    }


_FIRST: Final = ["gateway-0"]
_AT_FIRST: Final = (_ticket(**_of_gateway(0)),)
_UPKEEP: Final = (
    Case("StreamsBroken", "2 of 50", _streams(2, 0, 48), "45m", (_ticket(model=MODEL),)),
    Case("StreamsBroken", "clients leave", _streams(0, 30, 20), "45m"),
    Case("StreamsBroken", "few streams", _streams(1, 0, 0), "45m"),
    Case("RetriesRefused", "each minute", gateway("retries_refused_total", "0+1x30", pool="h100"),
         "20m", (_ticket(pool="h100"),)),
    Case("RetriesRefused", "long ago", gateway("retries_refused_total", "9x30", pool="h100"),
         "20m"),
    Case("ReplicasFlapping", "each minute", _outs("0+1x30"), "20m",
         (_ticket(pool="h100", reason="ejections"),)),
    Case("ReplicasFlapping", "twice, which each gateway counts", _outs("0x5 1x5 2x30"), "30m"),
    Case("LedgerBehind", "20,000", gateway("ledger_pending", "20000x30", _FIRST), "10m", _AT_FIRST),
    Case("LedgerBehind", "9,000", gateway("ledger_pending", "9000x30"), "10m"),
    Case("SettlementsBehind", "2,000", gateway("settlements_pending", "2000x30", _FIRST), "15m",
         _AT_FIRST),
    Case("SettlementsBehind", "900", gateway("settlements_pending", "900x30"), "15m"),
    Case("JournalFailed", "is", gateway("journal_failed", "1x30", _FIRST), "10m", _AT_FIRST),
    Case("JournalFailed", "is not", gateway("journal_failed", "0x30"), "10m"),
    Case("SnapshotOld", "three minutes", gateway("snapshot_age_seconds", "180x30", _FIRST), "5m",
         _AT_FIRST),
    Case("SnapshotOld", "as ever", gateway("snapshot_age_seconds", "3x30"), "5m"),
    Case("LoopLag", "half of all", _lag(500), "20m", _AT_FIRST),
    Case("LoopLag", "nearly none", _lag(995), "20m"),
    Case("TokensUnaccounted", "a fifth", _tokens(10_000, 4_000), "100m",
         (_ticket(kind="prompt"),)),
    Case("TokensUnaccounted", "all charged", _tokens(10_000, 4_990), "100m"),
    Case("TokensUnaccounted", "few tokens", _tokens(100, 10), "100m"),
    Case("TeamsUnnamed", "three", gateway("teams_unnamed", "3x30"), "20m", (_ticket(),)),
    Case("TeamsUnnamed", "none", gateway("teams_unnamed", "0x30"), "20m"),
    Case("TeamQuotaNearlyUsed", "95%", _quota(1000, 950), "15m",
         ({"severity": "team", "namespace": NAMESPACE, "team": "search", "limit": "day"},)),
    Case("TeamQuotaNearlyUsed", "80%", _quota(1000, 800), "15m"),
    Case("TeamQuotaNearlyUsed", "a limit of 0", _quota(0, 5), "15m"),
    Case("Watchdog", "always", {}, "1m", ({"severity": "none"},)),
)  # fmt: skip

CASES: Final = (*_GATEWAYS, *_READY, *_POOLS, *_STALLS, *_STORES, *_ENGINES, *_UPKEEP)
"""Of minutes: a sample each minute."""


def _turned(before: int, after: int) -> str:
    """A counter's steps of five minutes: for a day, and since then."""
    return f"0+{before}x290 {before * 291}+{after}x60"


def _hits(before: int, after: int, queries: int = 60_000) -> Series:
    return {
        **engine("prefix_cache_queries_total", _turned(queries, queries)),
        **engine("prefix_cache_hits_total", _turned(before, after)),
    }


def _finished(length: tuple[int, int], stop: int) -> Series:
    return {
        **engine("request_success_total", _turned(*length), finished_reason="length"),
        **engine("request_success_total", _turned(stop, stop), finished_reason="stop"),
    }


def _answered(gone: tuple[int, int], ok: int) -> Series:
    labels = {"route": "chat", "model": MODEL, "team": "search"}
    return {
        **gateway("requests_total", _turned(*gone), status="499", outcome="client_gone", **labels),
        **gateway("requests_total", _turned(ok, ok), status="200", outcome="ok", **labels),
    }


LONG: Final = (
    Case("PrefixHitsDropped", "from 60% to 5%", _hits(36_000, 3_000), "26h",
         (_ticket(model_name=MODEL),)),
    Case("PrefixHitsDropped", "from 60% to 40%", _hits(36_000, 24_000), "26h"),
    Case("PrefixHitsDropped", "hardly any tokens", _hits(60, 5, queries=100), "26h"),
    Case("LengthFinishJump", "from 5% to 38%", _finished((5, 60), 100), "26h",
         (_ticket(model_name=MODEL),)),
    Case("LengthFinishJump", "as yesterday", _finished((60, 60), 100), "26h"),
    Case("LengthFinishJump", "few answers", _finished((0, 3), 3), "26h"),
    Case("ClientsLeaveJump", "from 2% to 23%", _answered((2, 30), 100), "26h",
         (_ticket(model=MODEL),)),
    Case("ClientsLeaveJump", "as yesterday", _answered((30, 30), 100), "26h"),
    Case("ClientsLeaveJump", "few requests", _answered((0, 1), 2), "26h"),
)  # fmt: skip
"""Of a day and two hours: a sample each five minutes."""

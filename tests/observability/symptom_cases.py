"""What pages, in situations of their own: see `alert_cases`."""

from typing import Final

from tests.observability.rule_tests import (
    GATEWAYS,
    MODEL,
    Case,
    Series,
    engine,
    engine_target,
    gateway,
    gateway_target,
    info,
    of_gateway,
    page,
    pool,
    series,
    ticket,
)

_OTHER: Final = {**gateway_target("gateway-9"), "namespace": "other"}


def _unserved(values: str, pool: str = "h100") -> Series:
    return gateway("unserved_total", values, pool=pool)


_GATEWAYS: Final = (
    Case("GatewayDown", "none has metrics any more", info("1x10"), "20m",
         (page(),)),
    Case("GatewayDown", "not for a moment", info("1x10"), "16m"),
    Case("GatewayDown", "there never was one", {}, "5m", ({"severity": "page"},)),
    Case(
        "GatewayDown",
        "one of two installations",
        {**info("1x10"),
         **series("gptoss_gateway_info", "1x40", **_OTHER, version="0.1.0")},
        "20m",
        (page(),),
    ),
    Case(
        "GatewayDown",
        "one of two gateways is left",
        {**info("1x10", ["gateway-0"]),
         **info("1x40", ["gateway-1"])},
        "20m",
    ),
)  # fmt: skip


def _began(*values: str) -> Series:
    """When each gateway's process began: that may change."""
    found: dict[str, str] = {}
    for pod, each in zip(GATEWAYS, values, strict=True):
        found |= series("process_start_time_seconds", each, **gateway_target(pod))
    return {**found, **info("1x40")}


_RESTARTS: Final = (
    Case("GatewaysRestart", "all do", _began("5x9 600x9 1200x20", "7x5 400x9 1000x20"), "26m",
         (page(),)),
    Case("GatewaysRestart", "one does", _began("5x9 600x9 1200x20", "7x40"), "26m"),
    Case("GatewaysRestart", "a rollout", _began("5x9 600x30", "7x5 400x30"), "26m"),
    Case("GatewaysRestart", "engines do",
         {**_began("5x40", "7x40"),
          **series("process_start_time_seconds", "5x9 600x9 1200x20", **engine_target(0))}, "26m"),
)  # fmt: skip

_READY: Final = (
    Case("GatewaysUnready", "none is", gateway("ready", "1x5 0x30"), "10m", (page(),)),
    Case(
        "GatewaysUnready",
        "one is",
        {**gateway("ready", "0x30", ["gateway-0"]), **gateway("ready", "1x30", ["gateway-1"])},
        "10m",
    ),
)

_DOWN: Final = (page(pool="h100"),)
_POOLS: Final = (
    Case("PoolDown", "all are down", pool(down="2x30"), "5m", _DOWN),
    Case("PoolDown", "the DNS has none and requests fail",
         {**pool(), **_unserved("0+3x30")}, "10m", _DOWN),
    Case("PoolDown", "scaled to none, and nobody asks", {**pool(), **_unserved("7x30")}, "10m"),
    Case("PoolDown", "scaled to none, and another pool fails",
         {**pool(), **_unserved("0+3x30", "l40s")}, "10m"),
    Case("PoolDown", "requests wait for an engine in vain",
         {**pool(), **gateway("queue_held", "3x30", ["gateway-0"], pool="h100")}, "20m", _DOWN),
    Case("PoolDown", "an engine starts for them",
         {**pool(), **gateway("queue_held", "0 3x8 0x30", pool="h100")}, "9m"),
    Case("PoolDown", "one works", pool(up="1x30", down="1x30"), "5m"),
    Case("PoolDown", "one is on trial", pool(trial="1x30", down="1x30"), "5m"),
    Case(
        "PoolDown",
        "one gateway alone sees it so",
        {**pool(down="2x30"),
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


def _objective(requests: str, good: str | None) -> Series:
    labels = {"model": MODEL, "team": "search", "slo": "availability"}
    found = gateway("slo_requests_total", requests, **labels)
    return found if good is None else {**found, **gateway("slo_good_total", good, **labels)}


_FAILING: Final = (
    Case("ModelFailing", "all five fail", _objective("0x10 1 2 3 4 5x30", "0x45"), "20m",
         (page(model=MODEL),)),
    Case("ModelFailing", "none was ever good", _objective("0x10 1 2 3 4 5x30", None), "20m",
         (page(model=MODEL),)),
    Case("ModelFailing", "one is good", _objective("0x10 1 2 3 4 5x30", "0x10 1x30"), "20m"),
    Case("ModelFailing", "one request", _objective("0x10 1x30", "0x45"), "20m"),
    Case("ModelFailing", "nobody asks", _objective("9x45", "0x45"), "20m"),
)  # fmt: skip

_STILL: Final = _steps("3x30", "500x30", "900x30", "70x30")
_STALLS: Final = (
    Case("EngineStalled", "gateways see it",
         gateway("replicas", "1x30", pool="h100", state="stalled"), "5m",
         (page(pool="h100", sign="gateway"),)),
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
         {**_mode("degraded", "gateway-0"), **_mode("shared", "gateway-1")}, "5m", (page(),)),
    Case("LimiterBackendDown", "it answers", _mode("shared", "gateway-0", "gateway-1"), "5m"),
    Case("LimiterBackendDown", "there is none", _mode("in_process", "gateway-0"), "5m"),
    Case("SnapshotOld", "of all", gateway("snapshot_age_seconds", "180x30"), "5m",
         (page(), *(ticket(**of_gateway(number)) for number in (0, 1)))),
    Case("RecordsLost", "some were",
         {**gateway("records_lost_total", "0x10 3x20", what="ledger"),
          **gateway("records_lost_total", "0x30", what="settlement")},
         "13m", (page(what="ledger"),)),
    Case("RecordsLost", "long ago", gateway("records_lost_total", "0x5 3x40", what="ledger"),
         "30m"),
)  # fmt: skip

CASES: Final = (
    *_GATEWAYS,
    *_RESTARTS,
    *_READY,
    *_POOLS,
    *_FAILING,
    *_STALLS,
    *_STORES,
)

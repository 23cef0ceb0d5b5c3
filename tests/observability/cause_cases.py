"""What tickets of engines do: see `alert_cases`."""

from typing import Final

from tests.observability.rule_tests import (
    MODEL,
    Case,
    Series,
    engine,
    engine_target,
    gateway,
    of_engine,
    series,
    ticket,
    turned,
)


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
CASES: Final = (
    Case("PreemptionsSustained", "one in two seconds",
         engine("num_preemptions_total", "0+30x60") | engine("num_preemptions_total", "0x60", 1),
         "40m", (ticket(**of_engine(0)),)),
    Case("PreemptionsSustained", "one a minute", engine("num_preemptions_total", "0+1x60"), "40m"),
    Case("EngineQueueFull", "refuses", engine("admission_rejections_total", "0+2x30", reason=_FULL),
         "20m", (ticket(model_name=MODEL, reason=_FULL),)),
    Case("EngineQueueFull", "did once",
         engine("admission_rejections_total", "0x5 7x30", reason=_FULL), "9m"),
    Case("CapacityWaitGrowing", "one more each minute", _waiting("0+1x60"), "40m",
         (ticket(model_name=MODEL, line="engine"),)),
    Case("CapacityWaitGrowing", "in line at one gateway or the other",
         {**gateway("queue_waiting", "0 3 0 3 0 3 0 3x40", ["gateway-0"], pool="h100"),
          **gateway("queue_waiting", "3 0 3 0 3 0 3 0x40", ["gateway-1"], pool="h100")},
         "25m", (ticket(pool="h100", line="gateway"),)),
    Case("CapacityWaitGrowing", "a line that ends",
         gateway("queue_waiting", "3x12 0 3x12 0 3x30", pool="h100"), "25m"),
    Case("CapacityWaitGrowing", "as many as ever", _waiting("20x60"), "40m"),
    Case("CapacityWaitGrowing", "now and then", _waiting("0+1x14 0 0+1x14 0 0+1x14"), "40m"),
    Case("ReplicaSlow", "the third", _latencies(0, 990) | _latencies(1, 980) | _latencies(2, 10),
         "40m", (ticket(model_name=MODEL, **engine_target(2)),)),
    Case("ReplicaSlow", "all alike", _latencies(0, 10) | _latencies(1, 10) | _latencies(2, 10),
         "40m"),
    Case("ReplicaSlow", "one of two", _latencies(0, 990) | _latencies(1, 10), "40m"),
    Case("ReplicaSlow", "one of two, and one that rests",
         _latencies(0, 990) | _latencies(1, 10) | _latencies(2, 0, each=0), "40m"),
    Case("ReplicaSlow", "few tokens",
         _latencies(0, 990) | _latencies(1, 980) | _latencies(2, 0, each=10), "40m"),
    Case("ConfigDrift", "another share of memory", _cache(0) | _cache(1, share="0.8"), "90m",
         (ticket(job=engine_target(0)["job"]),)),
    Case("ConfigDrift", "a few blocks more", _cache(0) | _cache(1, blocks="4003"), "90m"),
    Case("ConfigDrift", "a rollout", _cache(0) | _cache(1, share="0.8"), "50m"),
    Case("GPUError", "fell off the bus", _xid(79), "5m",
         ({"severity": "ticket", "namespace": "gpu-operator", "Hostname": "node-3", "gpu": "1"},)),
    Case("GPUError", "a program's fault", _xid(31), "5m"),
    Case("GPUError", "none", _xid(0), "5m"),
)  # fmt: skip


def _hits(before: int, after: int, queries: int = 60_000) -> Series:
    return {
        **engine("prefix_cache_queries_total", turned(queries, queries)),
        **engine("prefix_cache_hits_total", turned(before, after)),
    }


def _finished(length: tuple[int, int], stop: int) -> Series:
    return {
        **engine("request_success_total", turned(*length), finished_reason="length"),
        **engine("request_success_total", turned(stop, stop), finished_reason="stop"),
    }


LONG: Final = (
    Case("PrefixHitsDropped", "from 60% to 5%", _hits(36_000, 3_000), "26h",
         (ticket(model_name=MODEL),)),
    Case("PrefixHitsDropped", "from 60% to 40%", _hits(36_000, 24_000), "26h"),
    Case("PrefixHitsDropped", "hardly any tokens", _hits(60, 5, queries=100), "26h"),
    Case("LengthFinishJump", "from 5% to 38%", _finished((5, 60), 100), "26h",
         (ticket(model_name=MODEL),)),
    Case("LengthFinishJump", "as yesterday", _finished((60, 60), 100), "26h"),
    Case("LengthFinishJump", "few answers", _finished((0, 3), 3), "26h"),
)  # fmt: skip
"""Of a day and two hours: a sample each five minutes."""

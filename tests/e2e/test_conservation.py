"""Tokens are conserved: what the ledger says, what the counters say, and what vLLM has computed.

More than 500 requests of every kind run against the real engine, and clients leave a third of them
at random points.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.ledger.record import Settlement, UsageRecord
from tests import web
from tests.e2e.conftest import MODEL, TEAM, Stack

REQUESTS = 520
AT_ONCE = 16
LONGEST = 48
# An answer that is left is longer than what an engine may be ahead of a client on a busy machine.
LEFT = 200
# vLLM schedules the next step while the last one's output is on its way, and learns of a client's
# leaving between two steps; the rest is slack for a machine that is busy.
STEPS_AFTER_A_CUT = 24
COUNT = "Count from one upwards."
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@dataclass(frozen=True)
class Plan:
    """One request, and after how many pieces or seconds its client leaves, if it does."""

    path: str
    body: dict[str, Any]
    pieces: int | None = None
    seconds: float | None = None

    @property
    def is_cut(self) -> bool:
        return self.pieces is not None or self.seconds is not None

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def reports_throughout(self) -> bool:
        """Whether the engine says in every chunk how much it has used."""
        return self.stream and self.path in ("/chat/completions", "/completions")


def plans(rng: random.Random) -> list[Plan]:
    made = [_plan(rng) for _ in range(REQUESTS)]
    for index in rng.sample(range(REQUESTS), REQUESTS // 3):
        plan = made[index]
        if plan.stream and rng.random() < 0.8:
            length = plan.body.keys() & {"max_tokens", "max_output_tokens"}
            body = plan.body | dict.fromkeys(length, LEFT)
            made[index] = Plan(plan.path, body, pieces=rng.randrange(LONGEST))
        else:
            made[index] = Plan(plan.path, plan.body, seconds=rng.uniform(0.0, 0.5))
    return made


def _plan(rng: random.Random) -> Plan:
    length, words = rng.randrange(4, LONGEST), rng.randrange(1, 60)
    text = f"{COUNT} {'and on ' * words}"
    message = [{"role": "user", "content": text}]
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/chat/completions", {"messages": message, "max_tokens": length}),
        (
            "/chat/completions",
            {"messages": message, "max_tokens": 200, "tools": [TOOL], "tool_choice": "required"},
        ),
        ("/completions", {"prompt": text, "max_tokens": length}),
        ("/completions", {"prompt": [text, COUNT], "max_tokens": length}),
        ("/responses", {"input": text, "max_output_tokens": length}),
        ("/messages", {"messages": message, "max_tokens": length}),
    ]
    path, body = rng.choices(bodies, weights=[6, 1, 2, 1, 1, 1])[0]
    body = {"model": MODEL, "stream": rng.random() < 0.7, **body}
    if body["stream"] and path == "/chat/completions" and rng.random() < 0.3:
        body["stream_options"] = {"include_usage": True}
    return Plan(path, body)


async def send(client: httpx.AsyncClient, plan: Plan) -> None:
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(plan.seconds),
            client.stream("POST", plan.path, json=plan.body) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            seen = 0
            async for line in answer.aiter_lines():
                if not line.startswith("data: "):
                    continue
                if plan.pieces is not None and seen >= plan.pieces:
                    return
                seen += 1
                if "usage" in line and plan.path == "/chat/completions" and plan.stream:
                    assert "stream_options" in plan.body, "a client sees usage it did not ask for"


async def run(stack: Stack, plans: Iterable[Plan]) -> None:
    waiting = iter(plans)
    headers = {"authorization": f"Bearer {stack.key}"}

    async def client() -> None:
        # A connection each: leaving one must not disturb another.
        async with httpx.AsyncClient(
            base_url=stack.base_url, headers=headers, timeout=120
        ) as connection:
            for plan in waiting:
                await send(connection, plan)

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))


@dataclass(frozen=True)
class Tokens:
    prompt: int
    completion: int

    def __sub__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt - other.prompt, self.completion - other.completion)


def engine_tokens(stack: Stack) -> Tokens:
    return Tokens(
        int(stack.engine_metric("vllm:prompt_tokens_total")),
        int(stack.engine_metric("vllm:generation_tokens_total")),
    )


def charged(records: Iterable[UsageRecord]) -> Tokens:
    kept = list(records)
    return Tokens(
        sum(record.prompt_tokens for record in kept),
        sum(record.completion_tokens for record in kept),
    )


def gateway_tokens(stack: Stack, name: str, **labels: str) -> Tokens:
    page = web.get(f"{stack.ops_url}/metrics", timeout=10).text
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                found[sample.labels["kind"]] += int(sample.value)
    return Tokens(found["prompt"], found["completion"])


def until_idle(stack: Stack) -> None:
    deadline = time.monotonic() + 60
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    while (
        any(stack.engine_metric(name) for name in names)
        or quota(stack)["concurrent_requests"]["used"]
    ):
        assert time.monotonic() < deadline, "requests whose clients have left are still open"
        time.sleep(0.2)


def quota(stack: Stack) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {stack.key}"}
    answer = web.get(f"{stack.base_url}/quota", headers=headers, timeout=10)
    assert answer.status_code == 200, answer.text
    team: dict[str, Any] = answer.json()["team"]
    return team


def ledger(stack: Stack) -> list[UsageRecord]:
    """What the team was charged. Others' tests have teams of their own."""
    return [record for record in stack.office.ledger() if record.team == TEAM]


def new_records(stack: Stack, before: set[str], at_least: int) -> list[UsageRecord]:
    deadline = time.monotonic() + 30
    while True:
        found = [record for record in ledger(stack) if record.id not in before]
        if len(found) >= at_least or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


@pytest.mark.parametrize("seed", [20260822])
def test_ledger_counters_and_engine_agree(stack: Stack, seed: int) -> None:
    planned = plans(random.Random(seed))
    whole = [plan for plan in planned if not plan.is_cut]
    cut_streams = [plan for plan in planned if plan.is_cut and plan.reports_throughout]
    unreported = [plan for plan in planned if plan.is_cut and not plan.reports_throughout]
    until_idle(stack)
    known = {record.id for record in ledger(stack)}

    # 1. Nobody leaves: not one token is lost or invented.
    before = engine_tokens(stack)
    asyncio.run(run(stack, whole))
    until_idle(stack)
    records = new_records(stack, known, len(whole))
    assert Counter(record.settlement for record in records) == {Settlement.EXACT: len(whole)}
    assert charged(records) == engine_tokens(stack) - before

    # 2. Clients leave streams: what is missing was computed after they left, and is little.
    known |= {record.id for record in records}
    before = engine_tokens(stack)
    asyncio.run(run(stack, cut_streams))
    until_idle(stack)
    # A client may leave before its request has arrived at all.
    records = new_records(stack, known, len(cut_streams))
    assert {record.settlement for record in records} <= {Settlement.EXACT, Settlement.CUT}
    unaccounted = engine_tokens(stack) - before - charged(records)
    cut = sum(record.settlement is Settlement.CUT for record in records)
    assert cut > len(cut_streams) // 4, "too few for the next line to say something"
    at_once = AT_ONCE * LEFT  # the machine stood still, and all that were open went on
    assert 0 <= unaccounted.completion <= cut * STEPS_AFTER_A_CUT + at_once
    unseen = [record for record in records if not record.prompt_tokens]
    longest_prompt = max(record.prompt_tokens for record in records)
    assert 0 <= unaccounted.prompt <= 2 * longest_prompt * len(unseen)

    # 3. Clients leave where the engine reports only at the end: it is an estimate, and says so.
    known |= {record.id for record in records}
    asyncio.run(run(stack, unreported))
    until_idle(stack)
    records = new_records(stack, known, len(unreported))
    kinds = Counter(record.settlement for record in records)
    assert kinds.keys() <= {Settlement.EXACT, Settlement.CUT, Settlement.ESTIMATED}
    assert kinds[Settlement.ESTIMATED] > 0

    # 4. All of it: ledger and counters are the same, and nothing is left reserved.
    total = charged(ledger(stack))
    team = quota(stack)
    assert team["tokens_per_day"]["used"] == total.prompt + total.completion
    assert team["tokens_per_month"]["used"] == total.prompt + total.completion
    assert team["tokens_per_day"]["reserved"] == 0
    assert gateway_tokens(stack, "gptoss_gateway_tokens_total", team=TEAM) == total


def test_several_choices_pay_for_their_prompt_once(stack: Stack) -> None:
    """vLLM computes and counts the prompt for each choice, reports it once, and so do we charge."""
    until_idle(stack)
    known = {record.id for record in ledger(stack)}
    before = engine_tokens(stack)
    body = {"messages": [{"role": "user", "content": COUNT}], "max_tokens": 8, "n": 2}
    for stream in (False, True):
        plan = Plan("/chat/completions", {"model": MODEL, "stream": stream, **body})
        asyncio.run(run(stack, [plan]))
    until_idle(stack)
    records = new_records(stack, known, 2)
    assert len({record.prompt_tokens for record in records}) == 1
    computed, paid = engine_tokens(stack) - before, charged(records)
    assert computed == Tokens(2 * paid.prompt, paid.completion)


def test_the_gateway_reports_what_the_engine_computed_beside_what_it_charged(stack: Stack) -> None:
    """Whoever wants to know how much was computed for nobody takes the difference of the two."""
    until_idle(stack)
    expected = engine_tokens(stack)
    deadline = time.monotonic() + 30
    while gateway_tokens(stack, "gptoss_gateway_engine_tokens_total") != expected:
        assert time.monotonic() < deadline
        time.sleep(0.5)

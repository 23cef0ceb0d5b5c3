"""How many engines the demand is for, whatever it does: by the rules of the chart's autoscaling."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from service.fleet.demand import _METRIC, Demand, Scale, ask, asked_for
from service.fleet.document import Autoscaling, Pool
from service.telemetry import contract
from service.telemetry.metrics import Metrics, shown
from service.telemetry.page import page
from service.telemetry.slo import Bounds

LOOK: Final = 10.0
ASKED: Final = {
    *("gptoss_gateway_replica_requests_in_flight", "gptoss_gateway_queue_waiting"),
    "gptoss_gateway_queue_held",
}


def pool(
    least: int = 0, most: int = 20, each: int = 0, quiet: float = 600, profile: str = "h100-80g"
) -> Pool:
    return Pool(
        profile=profile,
        autoscaling=Autoscaling(
            enabled=True,
            min_replicas=least,
            max_replicas=most,
            requests_per_replica=each,
            scale_down_seconds=quiet,
        ),
    )


def seen(requests: float, waiting: int = 0, *, complete: bool = True) -> Demand:
    return Demand(requests, waiting, complete)


# What the demand of a moment is for


@given(st.integers(1, 400), st.integers(0, 5000), st.integers(0, 5000))
def test_engines_are_for_their_share_of_seats(each: int, requests: int, waiting: int) -> None:
    """Three quarters of the seats may be taken, and as many as a quarter of them may wait."""
    given_, own = pool(each=each), pool()
    seats = own.settings.max_num_seqs
    quarter = math.ceil(seats / 4)
    for one, share in ((given_, each), (own, math.ceil(seats * 3 / 4))):
        wanted = max(math.ceil(requests / share), math.ceil(waiting / quarter))
        assert asked_for(one, seen(requests, waiting), 0) == min(wanted, 20)


@given(st.integers(0, 9), st.integers(0, 9), st.floats(0, 1e6), st.integers(0, 10_000))
def test_there_are_never_more_or_fewer_than_the_document_allows(
    least: int, more: int, requests: float, waiting: int
) -> None:
    most = max(least + more, 1)
    wanted = asked_for(pool(least, most), seen(requests, waiting), 1)
    assert least <= wanted <= most


@given(st.integers(1, 20), st.floats(0.901, 1.099), st.integers(1, 400))
def test_a_tenth_more_or_less_is_no_reason(running: int, share: float, each: int) -> None:
    assert asked_for(pool(each=each), seen(share * each * running), running) == running


# How the number follows


@dataclass(frozen=True)
class Look:
    """What was seen, and how many there were to be from then on."""

    at: float
    demand: Demand
    replicas: int


def followed(one: Pool, begun: int, demands: Sequence[Demand], every: float = LOOK) -> list[Look]:
    """A history, from a look before the first demand on."""
    scale, looks = Scale(begun), []
    for number, demand in enumerate(demands):
        at = 1000 + number * every
        looks.append(Look(at, demand, scale.look(at, one, demand)))
        assert looks[-1].replicas == scale.replicas
    return looks


@st.composite
def histories(draw: st.DrawFn) -> tuple[Pool, int, list[Look]]:
    """Of pools of all sizes, with demands that last, jump, and are not known."""
    least = draw(st.integers(0, 4))
    most = draw(st.integers(max(least, 1), 20))
    each = draw(st.integers(1, 30))
    one = pool(least, most, each, draw(st.sampled_from([60.0, 300.0, 1200.0])))
    begun = draw(st.integers(least, most))
    phases = draw(
        st.lists(
            st.tuples(
                st.integers(1, 90),
                st.integers(0, 25 * each),
                st.integers(0, 200),
                st.sampled_from([True, True, True, False]),
            ),
            min_size=1,
            max_size=6,
        )
    )
    demands = [
        seen(requests, waiting, complete=complete)
        for looks, requests, waiting, complete in phases
        for _ in range(looks)
    ]
    return one, begun, followed(one, begun, demands)


@settings(max_examples=200)
@given(histories())
def test_no_step_is_larger_than_the_rules_allow(history: tuple[Pool, int, list[Look]]) -> None:
    one, begun, looks = history
    replicas = [begun, *(look.replicas for look in looks)]
    minute, five = int(60 / LOOK), int(300 / LOOK)
    for index in range(1, len(replicas)):
        assert one.autoscaling.min_replicas <= replicas[index] <= one.autoscaling.max_replicas
        before = replicas[max(index - minute, 0)]
        assert replicas[index] <= max(2 * before, before + 2)
        lately = replicas[max(index - five, 0) : index + 1]
        down = sum(max(a - b, 0) for a, b in pairwise(lately))
        assert down <= 1


@settings(max_examples=200)
@given(histories())
def test_nothing_is_given_up_that_was_asked_for_lately(
    history: tuple[Pool, int, list[Look]],
) -> None:
    one, begun, looks = history
    quiet, most = one.autoscaling.scale_down_seconds, one.autoscaling.max_replicas
    each, quarter = one.autoscaling.requests_per_replica, math.ceil(one.settings.max_num_seqs / 4)
    before = begun
    for number, look in enumerate(looks):
        if look.replicas < before:
            assert look.at - looks[0].at >= quiet, "nobody knows what was before the first look"
            for index, past in enumerate(looks[: number + 1]):
                if past.at < look.at - quiet:
                    continue
                there = looks[index - 1].replicas if index else begun
                # A tenth more than engines are for asks for no other.
                load = max(past.demand.requests / each, past.demand.waiting / quarter) / 1.1
                assert look.replicas >= min(load, most) - 1e-9
                assert past.demand.complete or look.replicas >= there
        before = look.replicas


@settings(max_examples=200)
@given(histories())
def test_a_gateway_that_does_not_answer_takes_no_engine_away(
    history: tuple[Pool, int, list[Look]],
) -> None:
    _, before, looks = history
    for look in looks:
        assert look.demand.complete or look.replicas >= before
        before = look.replicas


@given(st.integers(1, 20), st.integers(1, 60), st.lists(st.floats(0.905, 1.095), min_size=20))
def test_a_steady_demand_changes_nothing(running: int, each: int, shares: list[float]) -> None:
    demands = [seen(share * each * running) for share in shares]
    looks = followed(pool(each=each, quiet=60), running, demands, every=30)
    assert {look.replicas for look in looks} == {running}


@given(st.integers(0, 20), st.integers(1, 20))
def test_a_demand_that_stays_gets_its_engines_within_minutes(begun: int, wanted: int) -> None:
    looks = followed(pool(each=10), begun, [seen(10 * wanted)] * 60)
    assert looks[0].replicas <= max(2 * begun, begun + 2)
    enough = next(look for look in looks if look.replicas >= wanted * 0.9)
    assert enough.at - looks[0].at <= 60 * math.ceil(math.log2(20))


@given(st.integers(1, 20), st.sampled_from([60.0, 300.0, 1200.0]))
def test_without_demand_one_goes_after_the_other_until_the_least_is_left(
    begun: int, quiet: float
) -> None:
    demands = [seen(0)] * int((quiet + 300 * begun) / LOOK + 2)
    looks = followed(pool(quiet=quiet), begun, demands)
    replicas = [look.replicas for look in looks]
    assert replicas == sorted(replicas, reverse=True)
    assert replicas[-1] == 0
    falls = [b.at for a, b in pairwise(looks) if b.replicas < a.replicas]
    assert falls[0] - looks[0].at == pytest.approx(quiet, abs=2 * LOOK)
    assert all(300 <= b - a <= 300 + LOOK for a, b in pairwise(falls))


def test_the_first_request_gets_an_engine_at_the_next_look() -> None:
    assert [look.replicas for look in followed(pool(), 0, [seen(0), seen(1)])] == [0, 1]


def test_requests_that_wait_within_engines_are_demand_as_well() -> None:
    seats = pool().settings.max_num_seqs
    assert followed(pool(), 1, [seen(0, seats)])[0].replicas == 3
    assert followed(pool(), 1, [seen(0, seats)] * 7)[-1].replicas == 4


def test_looks_that_come_late_allow_no_more() -> None:
    looks = followed(pool(each=1), 1, [seen(20)] * 5, every=7.0)
    assert [look.replicas for look in looks] == [3, 3, 3, 3, 3]


def test_another_document_holds_at_the_next_look() -> None:
    scale = Scale(1)
    scale.look(0, pool(each=1), seen(3))
    assert scale.look(10, pool(least=5), seen(3)) == 5
    assert scale.look(20, pool(most=2), seen(3)) == 2


# What gateways say


def _metrics(values: Mapping[str, Mapping[str, float]]) -> Metrics:
    """A gateway's, with a number for each pool in every family that has pools."""
    metrics = Metrics(5, Bounds(3.0, 0.08))
    metrics.know(["tiny"], ["tiny"], ["search"])
    for family in contract.FAMILIES:
        if "pool" in family.label_names and family.kind is not contract.Kind.HISTOGRAM:
            numbers = values.get(family.name, {"main": 1_000_000.0})
            samples = [
                (tuple(_label(label.name, name, label.values) for label in family.labels), value)
                for name, value in numbers.items()
            ]
            metrics.show(lambda family=family, samples=samples: [shown(family, samples)])  # type: ignore[misc]
    return metrics


def _label(label: str, name: str, values: Sequence[str]) -> str:
    if label == "pool":
        return name
    return values[0] if values else "http://10.0.0.7:8100"


def _page(values: Mapping[str, Mapping[str, float]], accept: str = "") -> bytes:
    body, _ = asyncio.run(page(_metrics(values).registry, accept))
    return body


def _found(body: bytes) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in _METRIC.findall(body):
        found[name.decode()] = found.get(name.decode(), 0.0) + float(value)
    return found


VALUES: Final = {
    "gptoss_gateway_replica_requests_in_flight": {"main": 7.0, "other": 1.0},
    "gptoss_gateway_queue_waiting": {"main": 20.0},
    "gptoss_gateway_queue_held": {"main": 300.0, "none": 4.0},
}


def test_the_families_are_the_contracts() -> None:
    families = {family.name: family for family in contract.FAMILIES}
    assert families.keys() >= ASKED == VALUES.keys()
    assert all("pool" in families[name].label_names for name in ASKED)


def test_of_a_gateways_page_exactly_these_families_are_read() -> None:
    assert _found(_page(VALUES)) == {"main": 327.0, "other": 1.0, "none": 4.0}


@given(st.randoms(use_true_random=False))
def test_a_pool_is_found_wherever_it_stands_among_the_labels(chance: random.Random) -> None:
    labels = ['pool="main"', 'replica="http://10.0.0.7:8100"', 'upstream_pool="no"', 'le="+Inf"']
    chance.shuffle(labels)
    name = chance.choice(sorted(ASKED))
    assert _found(f"{name}{{{','.join(labels)}}} 3.0\n".encode()) == {"main": 3.0}


@pytest.mark.parametrize(
    "line",
    [
        'gptoss_gateway_queue_waiting_tokens{pool="main"} 9.0',
        'gptoss_gateway_replicas{pool="main"} 9.0',
        'other_gptoss_gateway_queue_held{pool="main"} 9.0',
        'gptoss_gateway_queue_held{upstream_pool="main"} 9.0',
        '# HELP gptoss_gateway_queue_held{pool="main"} 9.0',
        "gptoss_gateway_queue_held 9.0",
    ],
)
def test_nothing_else_is_taken_for_demand(line: str) -> None:
    assert _found(f"{line}\n".encode()) == {}


async def _served(bodies: Sequence[bytes | int]) -> tuple[Mapping[str, float], bool]:
    """What is asked of gateways that answer so, each at an address of its own."""
    runners: list[web.AppRunner] = []
    urls: list[str] = []
    try:
        for body in bodies:
            app = web.Application()
            app.router.add_get("/metrics", _answering(body))
            runners.append(runner := web.AppRunner(app, access_log=None))
            await runner.setup()
            await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
            urls.append(f"http://127.0.0.1:{site.port}" + "/" * (len(urls) % 2))
        return await ask(urls)
    finally:
        for runner in runners:
            await runner.cleanup()


def _answering(body: bytes | int) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        if isinstance(body, int):
            return web.Response(status=body, body=b'gptoss_gateway_queue_held{pool="main"} 9.0\n')
        return web.Response(body=body)

    return answer


def test_all_gateways_are_asked_and_what_they_say_adds_up() -> None:
    one, two = _page(VALUES), _page({"gptoss_gateway_queue_held": {"main": 0.5}} | _none())
    requests, complete = asyncio.run(_served([one, two]))
    assert requests == {"main": 327.5, "other": 1.0, "none": 4.0}
    assert complete


def _none() -> dict[str, dict[str, float]]:
    return {name: {} for name in ASKED - {"gptoss_gateway_queue_held"}}


def test_one_that_does_not_answer_or_not_well_makes_it_incomplete() -> None:
    requests, complete = asyncio.run(_served([_page(VALUES), 503]))
    assert requests["main"] == 327.0, "what the others say holds"
    assert not complete


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://", "http://a b", "http://[::1"])
def test_one_that_is_not_there_makes_it_incomplete(url: str) -> None:
    assert asyncio.run(ask([url])) == ({}, False)


def test_where_nobody_is_asked_nothing_is_missing() -> None:
    assert asyncio.run(ask([])) == ({}, True)

"""A gateway's page has the metrics of the contract, all of them, and no others."""

import itertools
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry import contract
from service.telemetry.contract import FAMILIES, NONE, OTHER, Family, Kind
from service.tenants.team import Team
from tests.integration.fake_engine import FakeEngine
from tests.integration.fleet import Gateway, until
from tests.observability.catalog import bounds_of
from tests.office import Office

ENGINE_KEY = "engine-secret-of-the-tests-0123456789"
CHAT = "/v1/chat/completions"
MODELS = ("well", "dies", "dies-midway", "errs-midway", "ends-early", "answers-500")
NAMED = 4
"""Teams that get a label."""
TEAMS = tuple(f"team-{number}" for number in range(NAMED + 3))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OTHERS = ("process_", "python_")

# These have no series right after the start.
LATER: Final = {
    "quota_limit": "of a team, once it has asked for something",
    "quota_used": "the same",
    "quota_reserved": "the same",
    "quota_debt": "the same",
}
# These counters do not begin with all that their labels can be.
SPARSE: Final = {
    "requests": "most of the routes, statuses and outcomes never meet",
    "quota_refused": "a store has no kinds of limits",
    "fallbacks": "no model here has a fallback",
}

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.short)
Page = Mapping[str, Metric]


@dataclass(frozen=True)
class Place:
    """A gateway, its engine, and the keys of its teams."""

    gateway: Gateway
    engine: FakeEngine
    keys: Mapping[str, str]

    @property
    def page(self) -> Page:
        """Its metrics, by their names without suffixes."""
        return read(httpx.get(f"{self.gateway.ops}/metrics", timeout=10).text)

    def ask(self, team: str, model: str, **more: Any) -> int:
        """A stream, read to its end. The status."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        headers = {"authorization": f"Bearer {self.keys[team]}"} | more
        answer = httpx.post(self.gateway.url + CHAT, json=body, headers=headers, timeout=20)
        return answer.status_code


def read(page: str) -> Page:
    return {family.name: family for family in text_string_to_metric_families(page)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home: Path = tmp_path_factory.mktemp("contract")
    office = Office.at(home / "state")
    keys = {}
    for team in TEAMS:
        office.add_team(Team(team))
        _, keys[team] = office.add_key(team)
    with FakeEngine() as engine:
        settings = {
            "GPTOSS_GATEWAY__UPSTREAMS": json.dumps(
                [{"model": model, "url": engine.url} for model in MODELS]
            ),
            "GPTOSS_GATEWAY__ENGINE_KEY": ENGINE_KEY,
            "GPTOSS_TELEMETRY__TEAMS": str(NAMED),
            # What metrics say of failures is looked at here, not who gets requests after them.
            "GPTOSS_ROUTING__HEALTH__FAILURES": "1000000",
        }
        with Gateway(home, settings) as gateway:
            gateway.wait()
            yield Place(gateway, engine, keys)


@pytest.fixture(scope="module")
def first(place: Place) -> Page:
    """The page right after the start."""
    return place.page


@pytest.fixture(scope="module")
def busy(first: Page, place: Place) -> Page:
    """The page after requests of all teams for everything, good and bad."""
    for team, model in itertools.product(TEAMS, MODELS):
        place.ask(team, model)
    place.ask(TEAMS[0], "no such model")
    url = place.gateway.url
    assert httpx.post(url + CHAT, json={"model": "well"}).status_code == 401
    assert httpx.get(f"{url}/nowhere").status_code in (401, 404)
    # A request is counted when it has ended, which may be after its client has seen the end.
    until(lambda: not place.gateway.metric("gptoss_gateway_requests_in_flight"))
    return place.page


def served(page: Page) -> set[str]:
    """Without what any Python process exports."""
    return {name for name in page if not name.startswith(OTHERS)}


def labels_of(family: Family, page: Page) -> Iterator[Mapping[str, str]]:
    """Of each series; a histogram's by its count."""
    name = family.exported
    return (one.labels for one in page[family.name].samples if one.name == name)


def allowed(place: Place, label: contract.Label) -> Callable[[str], bool]:
    """What a label's value may be."""
    names: Mapping[str, Iterable[str]] = {
        "model": (*MODELS, NONE),
        "fallback": (*MODELS, NONE),
        "pool": MODELS,
        "replica": (place.engine.url,),
        "team": (*TEAMS[:NAMED], OTHER, NONE),
    }
    if label.values:
        return label.values.__contains__
    return set(names[label.name]).__contains__ if label.name in names else bool


# --- what is there


def test_the_page_has_the_families_of_the_contract_and_no_others(first: Page, busy: Page) -> None:
    for page in (first, busy):
        assert served(page) == {family.name for family in FAMILIES}


def test_nothing_is_called_as_the_engines_are(busy: Page) -> None:
    """Else what sums up engines would count gateways too."""
    assert not [name for name in busy if name.startswith("vllm:")]


@every_family
def test_a_family_is_there_from_the_start(first: Page, family: Family) -> None:
    """No rate sees the first fault of a series that comes with it."""
    has_series = any(True for _ in labels_of(family, first))
    assert has_series != (family.short in LATER)


@every_family
def test_a_counter_begins_with_all_that_its_labels_can_be(first: Page, family: Family) -> None:
    if family.kind is not Kind.COUNTER or family.short in LATER.keys() | SPARSE.keys():
        return
    enumerated = [label for label in family.labels if label.values]
    wanted = set(itertools.product(*(label.values for label in enumerated)))
    found = defaultdict(set)
    for labels in labels_of(family, first):
        rest = tuple(labels[one.name] for one in family.labels if not one.values)
        found[rest].add(tuple(labels[one.name] for one in enumerated))
    for rest, combinations in found.items():
        assert combinations == wanted, rest


# --- what it is


@every_family
def test_a_family_is_what_the_contract_says(busy: Page, family: Family) -> None:
    metric = busy[family.name]
    assert (metric.type, metric.documentation) == (family.kind.value, family.help)
    for labels in labels_of(family, busy):
        assert set(labels) == set(family.label_names)


@every_family
def test_labels_have_values_of_the_contract(place: Place, busy: Page, family: Family) -> None:
    for label in family.labels:
        found = {labels[label.name] for labels in labels_of(family, busy)}
        assert not [value for value in found if not allowed(place, label)(value)]


@every_family
def test_a_histogram_has_the_buckets_of_the_contract(busy: Page, family: Family) -> None:
    if family.kind is not Kind.HISTOGRAM:
        return
    bounds = defaultdict(list)
    for one in busy[family.name].samples:
        if one.name == f"{family.name}_bucket":
            rest = {name: value for name, value in one.labels.items() if name != "le"}
            bounds[frozenset(rest.items())].append(one.labels["le"])
    assert bounds
    assert all(tuple(listed) == bounds_of(family) for listed in bounds.values())


def test_teams_beyond_the_setting_are_counted_together(place: Place, busy: Page) -> None:
    teams = Counter(
        labels["team"] for labels in labels_of(contract.REQUESTS, busy) if labels["team"] != NONE
    )
    assert teams.keys() == {*TEAMS[:NAMED], OTHER}
    assert place.gateway.metric("gptoss_gateway_teams_unnamed") == len(TEAMS) - NAMED


# --- as OpenMetrics


def test_openmetrics_says_the_same(place: Place, busy: Page) -> None:
    families = list(_openmetrics(place))
    assert {one.name for one in families if not one.name.startswith(OTHERS)} == served(busy)
    assert {one.name: one.type for one in families} == {
        name: metric.type for name, metric in busy.items()
    }


def test_an_exemplar_of_the_first_token_has_the_trace(place: Place) -> None:
    place.ask(TEAMS[0], "well", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")

    def traces() -> set[str]:
        return {
            sample.exemplar.labels["trace_id"]
            for family in _openmetrics(place)
            if family.name == contract.TTFT.name
            for sample in family.samples
            if sample.exemplar
        }

    until(lambda: TRACE in traces(), 5)


def _openmetrics(place: Place) -> Iterator[Metric]:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = httpx.get(f"{place.gateway.ops}/metrics", headers=accept, timeout=10)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families: Any = openmetrics.text_string_to_metric_families
    yield from families(answer.text)


# --- how many


def test_no_client_can_make_series_without_end(place: Place, busy: Page) -> None:
    """Whatever it sends, labels keep to what is enumerated or configured."""
    assert busy
    counts = []
    for words in (random.Random(1), random.Random(2)):
        _send_anything(place, random.Random(6), words)
        page = place.page
        counts.append({name: len(metric.samples) for name, metric in page.items()})
    assert counts[0] == counts[1], "other words of clients make other series"
    assert served(page) == {family.name for family in FAMILIES}
    for family in FAMILIES:
        for label in family.labels:
            values = {labels[label.name] for labels in labels_of(family, page)}
            assert not [value for value in values if not allowed(place, label)(value)]
    found = sum(len(page[family.name].samples) for family in FAMILIES)
    assert found <= sum(_most(family) for family in FAMILIES)


def _send_anything(place: Place, chance: random.Random, words: random.Random) -> None:
    """Requests of all kinds, whose kinds are by `chance` and whose words by `words`."""
    with httpx.Client(base_url=place.gateway.url, timeout=20) as client:
        for _ in range(300):
            method, path, options = _anything(chance, words, list(place.keys.values()))
            client.request(method, path, **options)
    until(lambda: not place.gateway.metric("gptoss_gateway_requests_in_flight"))


def _anything(
    chance: random.Random, words: random.Random, keys: list[str]
) -> tuple[str, str, dict[str, Any]]:
    """A request such as nobody should send: method, path, and the rest of it."""

    def word() -> str:
        return "".join(words.choices("abcdefghijklmnopqrstuvwxyz0123456789-._~", k=12))

    method = chance.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", word().upper()])
    known = [CHAT, "/v1/models", "/v1/quota", "/v1/completions", "/v1/responses", "/v1/messages"]
    path = chance.choice([*known, f"/{word()}", f"/v1/{word()}", f"/v1/models/{word()}"])
    headers = {
        "authorization": f"Bearer {chance.choice([*keys, word()])}",
        f"x-{word().replace('~', '')}": word(),
        "x-request-id": word(),
        "user-agent": word(),
    }
    body: dict[str, Any] = {
        "model": chance.choice(["well", word()]),
        "messages": [{"role": chance.choice(["user", word()]), "content": word()}],
        "stream": chance.choice([True, False, word()]),
        "user": word(),
    }
    if chance.random() < 0.3:
        body[word()] = word()
    return method, path, {"headers": headers, "content": json.dumps(body)}


def _most(family: Family) -> int:
    """The series that a family can have here."""
    bounded = {
        "model": len(MODELS) + 1,
        "fallback": len(MODELS) + 1,
        "pool": len(MODELS),
        "replica": 1,
        "team": NAMED + 2,
        "version": 1,
    }
    sizes = (len(label.values) or bounded[label.name] for label in family.labels)
    own = len(family.buckets) + 3 if family.kind is Kind.HISTOGRAM else 1
    return math.prod(sizes) * own

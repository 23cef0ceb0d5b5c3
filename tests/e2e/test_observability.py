"""Dashboards and alerts on a real service: nothing in them is dead.

A short load shows in every panel. Then faults are made, one for each alert that wakes somebody: it
fires within its bound, and ends after the fault. What shows nothing on this machine is listed with
its reason by the pages themselves. `.pictures/` has what a person would see, when it is over.
"""

import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.observability.pages import needs
from tests.e2e import loadtests
from tests.e2e import site as sites
from tests.e2e.conftest import MODEL
from tests.e2e.engines import stalled
from tests.e2e.pictures import draw
from tests.e2e.site import SMALL, Site
from tests.e2e.traffic import Load
from tests.integration.fleet import until
from tests.observability.macros import substituted
from tests.observability.macros import variables as variables_of
from tests.observability.queries import ROOT, dashboards, rules
from tests.observability.runbooks import runbooks
from tests.process import free_port

REQUESTS = 60
LASTS = 20.0
"""What does not go away within that is no accident of a busy machine, s."""
# The rate interval of a dashboard that is looked at closely, of scrapes of one second.
INTERVAL = "10s"
Report = Callable[[str], None]
# In every prompt of `tests.e2e.traffic`.
SAID = b"so count"
FAULT = "fault"
"""How the reason of a panel begins that shows something only when something is wrong."""
VALUES = {
    "__rate_interval": INTERVAL,
    "__interval": INTERVAL,
    "__range": "5m",
    "__range_s": "300",
    # What their textboxes hold at first.
    "seats": "128",
    "gpus": "1",
}
ALL = ".*"
"""What every other variable is at first."""


@dataclass(frozen=True)
class Panel:
    """One of a dashboard, and what it asks."""

    page: str
    title: str
    queries: tuple[str, ...]
    need: str

    def __str__(self) -> str:
        return f"{self.page}: {self.title}"


def panels() -> Iterator[Panel]:
    reasons = needs()
    for path in dashboards():
        for panel in _flat(json.loads(path.read_text())["panels"]):
            queries = tuple(target["expr"] for target in panel.get("targets", []))
            if queries:
                title = panel["title"]
                yield Panel(path.stem, title, queries, reasons.get((path.stem, title), ""))


def _flat(listed: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for panel in listed:
        yield panel
        yield from _flat(panel.get("panels", []))


def plain() -> list[Panel]:
    return [panel for panel in panels() if not panel.need]


def of_faults() -> list[Panel]:
    return [panel for panel in panels() if panel.need.startswith(FAULT)]


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says what was measured: `pytest -rP` shows it."""

    def say(text: str) -> None:
        print(text)  # noqa: T201
        record_property("measured", text)

    return say


@pytest.fixture(scope="module")
def site(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that has been in use for a little while."""
    with sites.start(weights, tmp_path_factory.mktemp("site")) as started:
        with started.load() as load, started.load(SMALL, clients=1, tokens=6):
            load.more(REQUESTS)
            time.sleep(12)  # long enough for a rate over the interval
            # What the gateway reads now and then, if the store answers in time.
            until(
                lambda: shows(started, 'deriv(gptoss_gateway_quota_used{limit="day"}[30m]) > 0'), 60
            )
        yield started
        draw(ROOT / ".pictures", list(panels()), lambda query: ask(started, query))


def ask(site: Site, query: str) -> list[tuple[Mapping[str, str], list[tuple[float, float]]]]:
    """What a panel's query has given since the beginning."""
    now = time.time()
    text = substituted(query, values(query))
    return site.prometheus.range(text, site.began, now, max((now - site.began) / 300, 1))


def values(query: str) -> Mapping[str, str]:
    """What its variables are when a dashboard is opened."""
    return dict.fromkeys(variables_of(query), ALL) | VALUES


def shows(site: Site, query: str) -> bool:
    """Whether it has given a number at all."""
    return any(math.isfinite(value) for _, values in ask(site, query) for _, value in values)


@pytest.mark.parametrize("panel", plain(), ids=str)
def test_a_panel_shows_something(site: Site, panel: Panel) -> None:
    silent = [query for query in panel.queries if not shows(site, query)]
    assert not silent


def variables() -> Iterator[tuple[str, str, str]]:
    for path in dashboards():
        for one in json.loads(path.read_text())["templating"]["list"]:
            if one["type"] == "query":
                query = one["query"]
                yield path.stem, one["name"], query if isinstance(query, str) else query["query"]


@pytest.mark.parametrize(("page", "name", "query"), list(variables()))
def test_a_variable_has_values(site: Site, page: str, name: str, query: str) -> None:
    inside = query.removeprefix("label_values(").removesuffix(")")
    selector, _, label = inside.rpartition(",")
    found = site.prometheus.label_values(
        substituted(selector.strip(), values(selector)), label.strip()
    )
    assert found, (page, name)


def test_what_shows_nothing_has_a_reason() -> None:
    for (page, title), reason in needs().items():
        assert len(reason) > 15, (page, title)
    listed = {(panel.page, panel.title) for panel in panels()}
    assert needs().keys() <= listed


def test_nothing_that_was_said_is_anywhere(site: Site) -> None:
    """Not in the logs of the gateway and the engines, nor in what the stores and Prometheus keep:
    nowhere below the folders that they were given."""
    told = [path for path in site.home.rglob("*") if path.is_file() and SAID in path.read_bytes()]
    assert not told
    assert any(path.suffix == ".log" for path in site.home.rglob("*"))


def test_without_a_fault_nobody_is_woken(site: Site) -> None:
    with site.load() as load:
        load.more(REQUESTS)
        # An hour is a minute here, and two seconds without the processor are two minutes: only what
        # lasts is a fault.
        firing = {name for name in _severe() if site.firing(name)}
        deadline = time.monotonic() + LASTS
        while firing and time.monotonic() < deadline:
            time.sleep(1)
            firing = {name for name in firing if site.firing(name)}
        assert not firing


def test_an_example_of_a_first_token_leads_to_the_log_line_of_its_request(site: Site) -> None:
    name = "gptoss_gateway_time_to_first_token_seconds_bucket"
    found = site.prometheus.exemplars(name, site.began, time.time())
    lines = [json.loads(line) for line in site.engines.gateway.log.read_text().splitlines()]
    assert {one["trace_id"] for one in found} & {line.get("trace_id") for line in lines}


def commands() -> list[str]:
    """Of all runbooks, those that need no cluster (the others are tried with one)."""
    lines = {line for runbook in runbooks() for line in runbook.commands}
    return sorted(line for line in lines if line.startswith(("gptoss ", "curl ")))


@pytest.mark.parametrize("command", commands())
def test_a_command_of_a_runbook_runs(site: Site, command: str) -> None:
    gateway = site.engines.gateway
    environment = gateway.environment
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace("http://127.0.0.1:8001", gateway.ops)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout


# Faults.


def test_a_store_that_is_gone(site: Site, report: Report) -> None:
    with site.load() as load:
        load.more(10)
        site.redis.kill()
        fired = site.pages("LimiterBackendDown", 15)
        load.more(20)  # answered all the same
        site.redis.start()
        report(f"fired after {fired:.1f} s, cleared after {site.clears('LimiterBackendDown'):.1f}")
    assert not load.failed


def test_an_engine_that_stands_still(site: Site, report: Report) -> None:
    still = site.engines.engines[0]
    with site.load(clients=6) as load:
        load.more(10)
        with stalled(still):
            fired = site.pages("EngineStalled", sites.STALL + 20)
        report(f"fired after {fired:.1f} s, cleared after {site.clears('EngineStalled'):.1f}")


def test_a_load_test_says_what_faults_did_and_who_was_told(
    site: Site, report: Report, tmp_path: Path
) -> None:
    """An engine stands still for a while, and its alert is seen. Then clients cannot reach the
    gateway: Prometheus can, so that the alert which was expected of that does not fire."""
    for engine in site.engines.engines:  # one that was out takes its time
        site.engines.until(engine, MODEL, "up", seconds=60)
    door = f"127.0.0.1:{free_port()}"
    victim, still = site.engines.engines[0], tmp_path / "core.pid"
    still.write_text(f"{victim.core[0]}\n")
    behind = site.engines.gateway.url.removeprefix("http://")
    document = loadtests.faults(still, door, behind, site.prometheus.url)
    key = site.engines.keys[sites.TEAM]
    # The engine is at work when it is stopped, whatever the load test's clients are at just then.
    with Load(victim.direct, clients=2, tokens=800, whole=False):
        ran = loadtests.run(tmp_path / "run", document, f"http://{door}", key)
    stop, cut, deny = (ran.fault(what) for what in ("stop", "cut", "deny"))
    report(
        f"stop: felt after {stop.detected} s, alert after {stop.alerted} s, lost {stop.lost},"
        f" retried {stop.retried}, as before {stop.recovered} s after its end\n"
        f"cut and deny: felt after {cut.detected} s, lost {deny.lost}, retried {deny.retried}, as"
        f" before {deny.recovered} s after its end\n{ran.said}"
    )
    assert ran.status == 3, ran.said
    assert "GatewayDown did not fire after deny of door" in ran.summary.reasons
    assert not any("EngineStalled" in reason for reason in ran.summary.reasons)
    assert stop.alerted is not None
    # Streams that stood still were given up by the gateway, after its own time for that.
    given_up = [one for one in ran.records if one.code == "engine_timeout" and one.last]
    assert all((one.ended or 0) - (one.last or 0) > sites.STALL for one in given_up)
    assert stop.lost <= ran.failed(stop)
    assert stop.recovered is not None
    # Whoever had no answer yet came again, and got one.
    assert deny.alerted is None
    assert deny.detected is not None
    assert deny.lost <= ran.failed(deny)
    assert deny.lost + deny.retried > 0
    assert deny.recovered is not None
    site.clears("EngineStalled")


def test_engines_that_are_gone(site: Site, report: Report) -> None:
    """No engine is left: the pool is down, and availability's budget burns."""
    killed, frozen = site.engines.engines
    # They ask no faster than a person would again: the ledger keeps a line of each refusal.
    with site.load(clients=6, pause=0.3) as load:
        load.more(10)
        frozen.signal_all(signal.SIGSTOP)
        killed.signal_all(signal.SIGKILL)
        killed.ended()
        down, unready = site.pages("PoolDown", 30), site.pages("GatewaysUnready", 30)
        burning, failing = site.pages("AvailabilityBudgetBurn", 60), site.pages("ModelFailing", 60)
        frozen.signal_all(signal.SIGCONT)
        killed.start()
        cleared = [
            site.clears(name, 240)
            for name in ("PoolDown", "GatewaysUnready", "AvailabilityBudgetBurn", "ModelFailing")
        ]
        fired = f"{down:.1f}, {unready:.1f}, {burning:.1f} and {failing:.1f}"
        report(f"fired after {fired} s, cleared after {cleared}")
    assert load.failed


def test_engines_that_are_slow(site: Site, report: Report) -> None:
    with site.load(clients=6, tokens=8) as load:
        load.more(10)
        with site.slowed():
            ttft, tpot = site.pages("TTFTBudgetBurn", 90), site.pages("TPOTBudgetBurn", 90)
        cleared = site.clears("TTFTBudgetBurn", 240), site.clears("TPOTBudgetBurn", 240)
        report(f"fired after {ttft:.1f} and {tpot:.1f} s, cleared after {cleared}")


def test_a_database_that_is_away(site: Site, report: Report) -> None:
    """For longer than the ledger has room, and teams and keys are new enough."""
    with site.load(clients=8, tokens=4, pause=0.2) as load:  # less a second than the ledger holds
        load.more(5)
        site.postgres.freeze()
        old, lost = site.pages("SnapshotOld", 60), site.pages("RecordsLost", 90)
        site.postgres.thaw()
        cleared = [site.clears(name) for name in ("SnapshotOld", "RecordsLost")]
        report(f"fired after {old:.1f} and {lost:.1f} s, cleared after {cleared}")


def test_a_gateway_that_is_gone(site: Site, report: Report) -> None:
    gateway = site.engines.gateway
    gateway.kill()
    fired = site.pages("GatewayDown", 20)
    gateway.start()
    report(f"fired after {fired:.1f} s, cleared after {site.clears('GatewayDown'):.1f}")


def test_a_gateway_that_ends_again_and_again(site: Site, report: Report) -> None:
    for _ in range(2):
        _restart(site)
    fired = site.pages("GatewaysRestart", 20)
    report(f"fired after {fired:.1f} s, cleared after {site.clears('GatewaysRestart', 120):.1f}")


def _restart(site: Site) -> None:
    """Kill the gateway and start it, so that Prometheus has seen it."""
    site.engines.gateway.kill()
    killed = time.time()
    site.engines.gateway.start()
    seen = f'process_start_time_seconds{{pod="{sites.GATEWAY}"}} > {killed - 1}'
    until(lambda: bool(site.prometheus.query(seen)), 20)


def test_each_alert_that_wakes_somebody_was_tried() -> None:
    tried = re.findall(r'site\.pages\("(\w+)"', Path(__file__).read_text())
    assert set(tried) == _severe()


def _severe() -> set[str]:
    """Alerts that wake somebody."""
    return {rule["alert"] for rule in rules() if rule.get("labels", {}).get("severity") == "page"}


def test_a_flood_of_one_team_is_refused_and_shows(site: Site) -> None:
    with site.load(SMALL, clients=6) as flood:
        flood.more(100)
    assert {outcome.status for outcome in flood.outcomes} >= {429}
    assert not site.firing("AvailabilityBudgetBurn")
    refused = f'gptoss_gateway_quota_refused_total{{team="{SMALL}"}}'
    until(lambda: bool(site.prometheus.query(f"{refused} > 0")), 10)


@pytest.mark.parametrize("panel", of_faults(), ids=str)
def test_a_panel_shows_the_fault(site: Site, panel: Panel) -> None:
    """After all of them: what was made shows."""
    silent = [query for query in panel.queries if not shows(site, query)]
    assert not silent

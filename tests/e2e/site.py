"""Two real engines, a gateway on real stores, and a Prometheus that looks at all of them.

It goes by the rules of the repository, sixty times faster: an hour of theirs is a minute here, so
that an alert which takes two minutes is there in two seconds.
"""

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from service.quota.limits import Limits
from service.settings import DatabaseSettings, Settings
from service.tenants.team import Team
from tests.e2e import engines
from tests.e2e.conftest import MODEL
from tests.e2e.engines import Engine, Engines, signal_core
from tests.e2e.traffic import Load
from tests.integration.fleet import until
from tests.observability.queries import RULES
from tests.office import Office
from tests.servers.postgres import Postgres
from tests.servers.prometheus import Prometheus, Target
from tests.servers.redis import Redis

NAMESPACE = "gptoss"
GATEWAY = "gptoss-gateway-0"
FASTER = 60
TEAM, SMALL = "search", "small"
STALL = 3.0
# Fewer lines than this wait for the database while it is there.
MOST_PENDING = 60
# Teams and keys are read once a second here too.
OLD = "gptoss_gateway_snapshot_age_seconds) > 120", "gptoss_gateway_snapshot_age_seconds) > 5"
# A gateway that is killed is back as fast as this machine starts one.
RESTARTS = "process_start_time_seconds[30000ms]", "process_start_time_seconds[60s]"
TTFT, TPOT = 1.5, 0.1

_TICK = 0.001
_DURATION = re.compile(r"(?<=[\[ :])(\d+)([smhd])\b")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

SETTINGS = {
    "GPTOSS_ROUTING__HEALTH__INTERVAL": "0.5",
    "GPTOSS_ROUTING__HEALTH__TIMEOUT": "2",
    "GPTOSS_ROUTING__HEALTH__FAILURES": "2",
    "GPTOSS_ROUTING__HEALTH__EJECTION": "1",
    "GPTOSS_ROUTING__HEALTH__MAX_EJECTION": "3",
    "GPTOSS_ROUTING__HEALTH__SLOW_START": "1",
    "GPTOSS_ROUTING__HEALTH__STALL": str(STALL),
    "GPTOSS_GATEWAY__FIRST_EVENT_TIMEOUT": "6",
    "GPTOSS_GATEWAY__IDLE_TIMEOUT": "5",
    "GPTOSS_GATEWAY__RESPONSE_TIMEOUT": "8",
    "GPTOSS_GATEWAY__TOTAL_TIMEOUT": "60",
    "GPTOSS_LEDGER__MAX_PENDING": str(MOST_PENDING),
    "GPTOSS_SLO__TTFT": str(TTFT),
    "GPTOSS_SLO__TPOT": str(TPOT),
}


@dataclass
class Site:
    """All of it. What its processes write is below `home`; `began` is in epoch seconds."""

    home: Path
    engines: Engines
    redis: Redis
    postgres: Postgres
    prometheus: Prometheus
    began: float = field(default_factory=time.time)

    def load(self, team: str = TEAM, **options: float) -> Load:
        """Clients of a team, until the end of `with`."""
        return self.engines.load(MODEL, team, **({"clients": 4, "tokens": 12} | options))

    def firing(self, name: str) -> bool:
        """Whether an alert of that name fires that wakes somebody."""
        return any(
            (one["alertname"], one["severity"]) == (name, "page")
            for one in self.prometheus.alerts()
        )

    def pages(self, name: str, seconds: float) -> float:
        """Wait until it fires, as long as its rule takes and a scrape or two. How long, s."""
        return until(lambda: self.firing(name), seconds, f"{name} does not fire")

    def clears(self, name: str, seconds: float = 90) -> float:
        """Wait until it has ended. How long that took, s."""
        return until(lambda: not self.firing(name), seconds, f"{name} does not end")

    @contextlib.contextmanager
    def slowed(self) -> Iterator[None]:
        """Both engines compute for a fraction of the time, as cards do that throttle."""
        with contextlib.ExitStack() as stack:
            for engine in self.engines.engines:
                stack.enter_context(throttled(engine))
            yield


def faster(expression: str) -> str:
    """A query whose durations are all shorter."""

    def shorter(found: "re.Match[str]") -> str:
        return f"{int(found[1]) * _SECONDS[found[2]] * 1000 // FASTER}ms"

    return _DURATION.sub(shorter, expression)


def fast_rules(folder: Path) -> Path:
    """The rules of the repository as a file, faster."""
    document = yaml.safe_load(RULES.read_text())
    for group in document["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            rule["expr"] = faster(f" {rule['expr']}").replace(*OLD).replace(*RESTARTS)
            if "for" in rule:
                rule["for"] = faster(f" {rule['for']}").strip()
            if "keep_firing_for" in rule:
                rule["keep_firing_for"] = faster(f" {rule['keep_firing_for']}").strip()
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@contextlib.contextmanager
def throttled(engine: Engine, share: float = 0.02, period: float = 0.4) -> Iterator[None]:
    """Its core computes for that share of each period, s: a token or two between two stops, which
    are far shorter than a stall. However long it waits for a processor: else it would stall on a
    busy machine."""
    done, core = threading.Event(), engine.core

    def toggle() -> None:
        while not done.is_set():
            signal_core(engine, signal.SIGSTOP)
            done.wait((1 - share) * period)
            enough = computed(core) + share * period
            signal_core(engine, signal.SIGCONT)
            while computed(core) < enough and not done.wait(_TICK):
                pass

    thread = threading.Thread(target=toggle)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def computed(processes: list[int]) -> float:
    """CPU time that they have taken so far, s."""
    # By the clock of a process, as clock_getcpuclockid(3) names it.
    return sum(time.clock_gettime(~process << 3 | 2) for process in processes)


@contextlib.contextmanager
def start(weights: Path, home: Path) -> Iterator[Site]:
    """All of it, ready."""
    with contextlib.ExitStack() as stack:
        redis, postgres = stack.enter_context(Redis()), stack.enter_context(Postgres())
        database = postgres.database()
        teams = [
            Team(TEAM, limits=Limits(rpm=60_000, tpm=10**8, daily_tokens=10**9)),
            Team(SMALL, limits=Limits(rpm=30, daily_tokens=20_000, monthly_tokens=10**6)),
        ]
        settings = SETTINGS | {"GPTOSS_DATABASE__URL": database, "GPTOSS_QUOTA__URL": redis.url}
        own = DatabaseSettings.model_validate({"url": database})
        office = Office(Settings(database=own), upgrade=True)
        there = stack.enter_context(
            engines.start(2, weights, home / "engines", {MODEL: {}}, teams, settings, office)
        )
        prometheus = stack.enter_context(
            Prometheus(home / "prometheus", list(_targets(there)), rules=fast_rules(home))
        )
        yield Site(home, there, redis, postgres, prometheus)


def _targets(there: Engines) -> Iterator[Target]:
    """With the labels that the chart's monitors give."""
    gateway = {"job": f"{NAMESPACE}/gptoss-gateway", "pod": GATEWAY}
    yield Target(there.gateway.ops.removeprefix("http://"), _labels(gateway, "gateway"))
    for number, engine in enumerate(there.engines):
        labels = {"job": f"{NAMESPACE}/gptoss-engine-main", "pod": f"gptoss-engine-main-{number}"}
        yield Target(engine.url.removeprefix("http://"), _labels(labels, "engine"))


def _labels(own: dict[str, str], container: str) -> dict[str, str]:
    return {"namespace": NAMESPACE, "container": container} | own

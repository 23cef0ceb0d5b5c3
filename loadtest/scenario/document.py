"""What a scenario says: a YAML file, checked by these models; its JSON schema is made of them.

Durations are seconds, or a number with `ms`, `s`, `m` or `h`. Rates are requests per second.
"""

import math
from typing import Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from loadtest.outcome import Outcome
from loadtest.scenario.arrivals import Arrivals
from loadtest.scenario.faults import Fault, FaultTarget, check_deed
from loadtest.scenario.model import Model, Percent, Seconds, Share
from loadtest.scenario.workload import Retry, Workload


class Limits(Model):
    """What a team may use, as the service was told: by these its conduct is judged."""

    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    concurrency: PositiveInt | None = None
    tokens_per_day: PositiveInt | None = None


class SLO(Model):
    """What is promised: by this a run is passed or failed, over all that was to be sent."""

    ttft: Seconds | None = None
    """Longest time from when a request was due to its first token."""
    tpot: Seconds | None = None
    """Longest time per output token after the first."""
    e2e: Seconds | None = None
    """Longest time from when a request was due to its end."""
    percent: Percent = 99.0
    """Of requests that must meet all of them together. A failed one meets none."""


class Expectation(Model):
    """What is to become of a team's requests, beside the SLO."""

    limits: Limits | None = None
    conforming: bool = True
    """Whether it keeps its limits: then nobody else may cost it anything."""
    percent: dict[Outcome, Annotated[list[Share], Field(min_length=2, max_length=2)]] = Field(
        default_factory=dict
    )
    """From how many to how many percent of its requests may end so: `quota_429: [20, 90]`."""
    slo: SLO | None = None
    """Instead of the scenario's."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for outcome, (low, high) in self.percent.items():
            if low > high:
                raise ValueError(f"of {outcome} the lowest percent ({low:g}) is above {high:g}")
        return self


class Team(Model):
    """One tenant: its key, what it sends, and what is expected of that."""

    key_env: str = ""
    """Name of the environment variable with its key: a key itself has no place in a file. Empty:
    the target's."""
    arrivals: Arrivals
    workloads: Annotated[list[Workload], Field(min_length=1)] = Field(
        default_factory=lambda: [Workload()]
    )
    retry: Retry = Retry()
    expect: Expectation = Expectation()
    start: Seconds = 0.0
    """When it begins, after the run's start."""
    stop: Seconds | None = None
    """When it sends nothing more; else at the run's end."""


class Timeouts(Model):
    """How long a client waits before it gives a request up as failed."""

    connect: Seconds = 5.0
    first_token: Seconds = 120.0
    idle: Seconds = 60.0
    """Between two pieces of a stream."""
    total: Seconds = 1200.0


class Target(Model):
    """An OpenAI-compatible endpoint."""

    url: str = "http://127.0.0.1:8000"
    """With `/v1` at its end or without."""
    model: str = ""
    """Empty: the only one that `/v1/models` names."""
    key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable with the key."""
    headers: dict[str, str] = Field(default_factory=dict)
    verify_tls: bool = True
    timeouts: Timeouts = Timeouts()


class Scrape(Model):
    """A page of metrics in Prometheus's format that is read during the run."""

    name: str
    url: str
    every: Seconds = 1.0
    metrics: list[str] = Field(default_factory=list)
    """Names of those to keep; empty: what the report knows of gpt-oss gateways and vLLM."""


class Cost(Model):
    """What the GPUs cost, for dollars per million tokens."""

    gpus: PositiveInt
    price_per_gpu_hour: PositiveFloat
    currency: str = "USD"


class Trust(Model):
    """Beyond these a run's figures are not to be believed, and the report is stamped INVALID."""

    lag_p99: Seconds = 0.05
    """How late requests were sent. The least of this and a twentieth of the SLO's TTFT counts."""
    rate_percent: Percent = 98.0
    """Of the planned requests that were sent in time."""
    cpu_percent: Percent = 90.0
    """Of a core that a process of the load test may use."""
    loop_lag_p99: Seconds = 0.05
    """How late its event loops may be."""


class Scenario(Model):
    """One run, all of it."""

    name: str
    description: str = ""
    target: Target = Target()
    seed: int = 1
    duration: Seconds = 60.0
    """For how long requests are sent."""
    warmup: Seconds = 0.0
    """From its start: what is sent then is in the records and in no figure."""
    drain: Seconds = 60.0
    """For how long the answers are waited for afterwards."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes; 0: as many as the load needs, and the machine has cores."""
    keep_gaps: bool = False
    """Whether records keep each gap between pieces: they are large then."""
    slo: SLO = SLO(ttft=3.0, tpot=0.08)
    teams: Annotated[dict[str, Team], Field(min_length=1)]
    fault_targets: dict[str, FaultTarget] = Field(default_factory=dict)
    faults: list[Fault] = Field(default_factory=list)
    scrapes: list[Scrape] = Field(default_factory=list)
    prometheus: str = ""
    """The address of a Prometheus, to be asked for alerts."""
    grafana: str = ""
    """The address of a Grafana, whose dashboards get a mark for the run. Its token is in
    GRAFANA_TOKEN."""
    cost: Cost | None = None
    trust: Trust = Trust()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.duration <= 0:
            raise ValueError("duration must be above 0: nothing would be sent")
        if self.warmup >= self.duration:
            raise ValueError(
                f"nothing would be counted: the warmup of {self.warmup:g} s is no shorter than the"
                f" duration of {self.duration:g} s. Give a longer one, or a shorter warmup, such as"
                f" --set warmup={self.duration / 5:g}"
            )
        for fault in self.faults:
            if fault.at >= self.duration:
                raise ValueError(
                    f"{fault.do} of {fault.target} at {fault.at:g} s would never be made: nothing"
                    f" is sent from {self.duration:g} s on"
                )
            if fault.target not in self.fault_targets:
                known = ", ".join(self.fault_targets) or "none"
                raise ValueError(f"fault_targets has no {fault.target!r} (it has: {known})")
            if fault.alert and not self.prometheus:
                raise ValueError(f"to see whether {fault.alert} fires, `prometheus` must be given")
            check_deed(fault, self.fault_targets[fault.target])
        return self

    def slo_of(self, team: str) -> SLO:
        """What is promised to a team."""
        return self.teams[team].expect.slo or self.slo

    def span_of(self, team: str) -> tuple[float, float]:
        """From when to when it sends, s since the run's start."""
        one = self.teams[team]
        stop = self.duration if one.stop is None else min(one.stop, self.duration)
        return min(one.start, stop), stop

    @property
    def lag_bound(self) -> float:
        """The schedule lag beyond which nothing is believed, s."""
        slos = [self.slo_of(team).ttft for team in self.teams]
        return min([self.trust.lag_p99, *(ttft / 20 for ttft in slos if ttft)], default=math.inf)

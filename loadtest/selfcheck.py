"""What this machine can do as a load test: its own ceiling, against a server that does nothing.

A run near to these figures measures the load test. The server is a process of this machine, and
takes a part of it: a load test against another machine can do a little more.
"""

import asyncio
import contextlib
import math
import os
import sys
from collections.abc import AsyncIterator, Iterable

import msgspec

from loadtest.client.crewman import environment
from loadtest.client.data import Endpoint, RunData
from loadtest.client.run import run
from loadtest.plan import plan
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from loadtest.statistics.quantiles import ordered, percentile

CHUNK_RATE = 20
"""Of one stream, per second: about what a reader sees of a busy replica."""
LAG_BOUND = 0.002
"""How late requests may be sent for a rate to count, s: their 99th percentile."""
_PROBES = 25
_RATES = (50, 100, 200, 400, 800, 1600, 3200)
# The first chunks of a run come with the connections.
_SETTLE = 2.0


class Steady(msgspec.Struct, frozen=True):
    """A number of streams at a steady pace, in one process."""

    streams: int
    chunk_rate: float
    """Chunks per second that came."""
    cpu_percent: float
    """Of a core, of the client process."""
    lag_p99: float
    """Of requests that were sent meanwhile, s."""

    @property
    def chunks_per_cpu_second(self) -> float:
        """What a whole core would take."""
        return self.chunk_rate / self.cpu_percent * 100


class Ceiling(msgspec.Struct, frozen=True):
    """What one process of the load test can do here."""

    cores: int
    steady: Steady
    half: Steady
    """At half of what a whole core would take."""
    request_rate: float
    """Highest rate, per second, of requests with one token, that were sent in time; 0 if none."""
    request_lag_p99: float | None
    """At that rate, s."""


async def check(streams: int = 200, seconds: float = 8.0) -> Ceiling:
    """Measure. Takes about three times `seconds`, and up to half a minute more."""
    first = await steady(streams, seconds)
    half = max(int(first.chunks_per_cpu_second / 2 / CHUNK_RATE), 1)
    second = await steady(half, seconds)
    rate, lag = 0.0, None
    for level in _RATES:
        trial = await _requests(level, 4.0)
        if trial is None or trial > LAG_BOUND:
            break
        rate, lag = float(level), trial
    return Ceiling(os.cpu_count() or 1, first, second, rate, lag)


async def steady(
    streams: int, seconds: float, rate: float = CHUNK_RATE, probes: float = _PROBES
) -> Steady:
    """So many streams for so long, and a few short requests a second beside them (`probes`), which
    show the lag and cost about a millisecond each."""
    tokens = max(math.ceil(rate * (seconds + _SETTLE)), 1)
    teams = {
        "streams": _team({"kind": "closed", "clients": streams}, tokens),
        "probes": _team({"kind": "constant", "rate": probes}, 1),
    }
    data = await _run(teams, seconds + _SETTLE, rate)
    one = [record for record in data.records if record.team == "streams" and record.good]
    rates = [1 / record.tpot for record in one if record.tpot]
    probed = [record for record in data.records if record.team == "probes"]
    return Steady(
        streams=len(one),
        chunk_rate=sum(rates),
        cpu_percent=_while_steady(data, seconds),
        lag_p99=_lag(probed, _SETTLE) or math.inf,
    )


def _while_steady(data: RunData, seconds: float) -> float:
    """Percent of a core that the worker used while all streams were open: the middle of its half
    seconds, without those in which they began and ended."""
    looks = data.workers[0].cpu if data.workers else []
    steady = looks[int(_SETTLE * 2) : int((_SETTLE + seconds) * 2)]
    return sum(steady) / len(steady) if steady else 100.0


async def _requests(rate: int, seconds: float) -> float | None:
    """How late requests are sent at a rate, s: None if some failed."""
    data = await _run({"a": _team({"kind": "poisson", "rate": rate}, 1)}, seconds + 1, 0)
    if not data.records or not all(record.good for record in data.records):
        return None
    return _lag(data.records, 1.0)


def _lag(records: Iterable[Record], since: float) -> float | None:
    """The 99th percentile of how late they were sent, s, of those that were due since then."""
    lags = [record.lag for record in records if record.scheduled >= since]
    return percentile(ordered(lag for lag in lags if lag is not None), 99)


def _team(arrivals: dict[str, object], tokens: int) -> dict[str, object]:
    return {"arrivals": arrivals, "workloads": [{"prompt": 64, "output": tokens}]}


async def _run(teams: dict[str, dict[str, object]], seconds: float, rate: float) -> RunData:
    scenario = Scenario.model_validate(
        {"name": "selfcheck", "duration": seconds, "drain": 30, "workers": 1, "teams": teams}
    )
    async with null_server(rate) as url:
        data = await run(scenario, plan.plan(scenario), Endpoint(url, "null"), lambda _: None)
    if data.interrupted:
        raise KeyboardInterrupt  # the run has taken the signal: it is meant for all of this
    return data


@contextlib.asynccontextmanager
async def null_server(rate: float) -> AsyncIterator[str]:
    """The server as a process of its own, and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "loadtest.null_server",
        str(rate),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Its own session: Ctrl-C is for this process, which ends the server in order.
        start_new_session=True,
        env=environment(),
    )
    assert process.stdin
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.stdin.close()
        await process.wait()

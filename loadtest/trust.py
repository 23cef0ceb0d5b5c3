"""Whether a run's figures are the server's, or those of a load test that was too slow itself."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from loadtest.client.data import RunData
from loadtest.measured import Requests, Span
from loadtest.outcome import Outcome
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from loadtest.statistics.quantiles import ordered, percentile
from loadtest.summary import Trusted

# What the system says of a connection for which the client's own machine has no room.
_OWN: Final = frozenset({"emfile", "enfile", "eaddrnotavail", "enobufs", "enomem"})
# Of requests, in percent: less than that changes no figure.
_CUT: Final = 1.0
# A wall clock that is kept in time is set by less than that all the time.
_STEP = 0.05
_REMEDY = "give the load test more workers or a machine of its own"
# Of what is believed of its CPU: a load test that uses less than that has not been at its limit.
_IDLE = 0.5


def trusted(scenario: Scenario, data: RunData, requests: Requests, span: Span) -> Trusted:
    """By the requests that were due in the measured time, and by the processes that sent them."""
    lags = ordered(lag for one in requests.records if (lag := one.lag) is not None)
    lag = percentile(lags, 99) or 0.0
    rate = _in_time(requests.records, requests.planned, span.end + scenario.lag_bound)
    cpu = max((worker.cpu_percent for worker in data.workers), default=0.0)
    # Of the worst process: one that is slow makes a part of all requests late.
    loops = [percentile(ordered(worker.loop_lags), 99) or 0.0 for worker in data.workers]
    loop = max(loops, default=0.0)
    late = lag > scenario.lag_bound or loop > scenario.trust.loop_lag_p99
    remedy = _remedy(cpu, scenario.trust.cpu_percent) if late and data.workers else _REMEDY
    reasons = [
        *_lost(data),
        *_untold(data),
        *_own_failures(requests.records),
        *_late(lag, scenario.lag_bound, remedy),
        # Records are of requests that ended: of one that died nobody knows what it had sent.
        *([] if data.died else _missing(rate, scenario.trust.rate_percent, remedy)),
        *_busy(cpu, scenario.trust.cpu_percent),
        *_slow_loop(loop, scenario.trust.loop_lag_p99, remedy),
    ]
    return Trusted(
        valid=not reasons,
        reasons=reasons,
        workers=len(data.workers) + len(data.lost_workers),
        lag_p50=percentile(lags, 50) or 0.0,
        lag_p99=lag,
        lag_highest=float(lags[-1]) if len(lags) else 0.0,
        rate_percent=rate,
        cpu_percent=cpu,
        loop_lag_p99=loop,
        clock_steps=data.clock_steps,
        notes=[*_died(data), *_stepped(data.clock_steps), *_cut(requests)],
    )


def _remedy(cpu: float, bound: float) -> str:
    """What to do about a load test that came too late to its own work, where it used so many
    percent of a core: one that had little to do was kept from it."""
    if cpu > _IDLE * bound:
        return _REMEDY
    return (
        f"its own processes used {cpu:.0f}% of a core at most, so something else on this machine"
        " takes the processor: end that, or give the load test a machine of its own"
    )


def _in_time(records: Iterable[Record], planned: int, until: float) -> float:
    """How many percent of all were sent before the measured time was over: a load test that falls
    behind sends less in that time than it was to. Where nothing was due, nothing is missing."""
    sent = sum(1 for record in records if record.opened is not None and record.opened <= until)
    return 100 * sent / planned if planned else 100.0


def _lost(data: RunData) -> list[str]:
    if not data.lost_workers:
        return []
    return [f"worker {said}: what it had sent is missing" for said in data.lost_workers]


def _untold(data: RunData) -> list[str]:
    """Where no process has said how it did, nobody knows whether it was too slow."""
    if not data.died or data.workers or not data.records:
        return []
    return ["it was killed before its processes had said how they did"]


def _died(data: RunData) -> list[str]:
    if not data.died:
        return []
    return [
        "the load test was killed: how its own processes did in its last seconds is not known, and"
        " requests that were open then count as never sent; so whether it sent them in time is not"
        " judged"
    ]


def _own_failures(records: Iterable[Record]) -> list[str]:
    """They count as the server's in all figures: so these are not to be believed."""
    found = Counter(
        record.code
        for record in records
        if record.outcome is Outcome.CONNECT and record.code in _OWN
    )
    if not found:
        return []
    codes = ", ".join(sorted(found))
    return [
        f"its own machine had no room for {found.total():,} connections ({codes}):"
        " raise its limits (ulimit -n, ip_local_port_range), or spread the load over more machines"
    ]


def _late(lag: float, bound: float, remedy: str) -> list[str]:
    if lag <= bound:
        return []
    return [
        f"1% of requests were sent more than {_ms(lag)} after they were due ({_ms(bound)} is the"
        f" most that is believed): {remedy}"
    ]


def _missing(rate: float, bound: float, remedy: str) -> list[str]:
    if rate >= bound:
        return []
    return [
        f"only {rate:.4g}% of the requests that were due were sent in time ({bound:g}% is the least"
        f" that is believed): {remedy}"
    ]


def _busy(cpu: float, bound: float) -> list[str]:
    if cpu <= bound:
        return []
    return [
        f"a process of the load test used {cpu:.0f}% of its core ({bound:g}% is the most that is"
        f" believed): {_REMEDY}"
    ]


def _slow_loop(lag: float, bound: float, remedy: str) -> list[str]:
    if lag <= bound:
        return []
    return [
        f"an event loop of the load test was {_ms(lag)} late (99th percentile; {_ms(bound)} is the"
        f" most that is believed): {remedy}"
    ]


def _stepped(steps: float) -> list[str]:
    if abs(steps) <= _STEP:
        return []
    return [
        f"the wall clock was set by {steps:.2f} s during the run: times of day are wrong by that,"
        " durations are not"
    ]


def _cut(requests: Requests) -> list[str]:
    """Of these nobody knows how they would have ended, and most are among the longest."""
    cut = sum(1 for record in requests.records if record.code == "drained")
    percent = 100 * cut / requests.planned if requests.planned else 0.0
    if percent <= _CUT:
        return []
    return [
        f"{percent:.3g}% of requests were still open at the end of `drain`, and were cut: those"
        " that were too slow until then count as missed, the others for nothing; drain for longer"
    ]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"

"""What a run comes to: `summary.json`. The report shows nothing that is not in here.

Times are in seconds. A percentile that falls among failed requests is infinite, and None here.
"""

from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec


class Verdict(StrEnum):
    """Whether what was promised was kept."""

    PASSED = "passed"
    FAILED = "failed"
    UNRESOLVED = "unresolved"
    """The run was too short, or too small, to say."""
    INVALID = "invalid"
    """The load test itself was too slow: its figures are not those of the server."""


class Interval(msgspec.Struct, frozen=True):
    """A share, and between what it is by 95% of all samples: Wilson's interval, of as many
    independent requests as these are worth."""

    share: float
    low: float
    high: float
    count: int
    """Of how many."""


class Distribution(msgspec.Struct, frozen=True):
    """Of a time, over `count` requests; percentiles are by nearest rank."""

    count: int
    mean: float | None = None
    """Of those that did not fail; so is the highest."""
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    p99_low: float | None = None
    """Between this and the next the 99th percentile is by 95% of all samples."""
    p99_high: float | None = None
    highest: float | None = None
    failed: int = 0
    """Of `count`, which failed: infinite."""


class Quota(msgspec.Struct, frozen=True):
    """One limit of a team, and what was let in."""

    limit: str
    entitled: float
    """What the limit allows over the measured time, with a full bucket at its start."""
    offered: float
    admitted: float
    worst_window: float
    """The most that was let in within any stretch of time, by what a full bucket allows in it (and
    of concurrency, by the limit): above 1 more was let in."""
    kept: bool
    retries_at_advice: int = 0
    """Requests that came again when the server had advised, or later. A refusal does not say for
    which limit it was: this and the next are the team's, and the same for each of its limits."""
    admitted_at_advice: int = 0
    """How many of these were let in: that many times the advice was honest."""
    used: float | None = None
    """What was let in, by the least of what was offered and what it is entitled to: well below 1,
    more is refused than the limit asks for. None: nothing was offered."""


class Part(msgspec.Struct):
    """A team, a workload, or all of a run."""

    planned: int
    """Due within the measured time."""
    sent: int
    outcomes: dict[str, int]
    """Their sum is less than `planned` by those that were due and never sent."""
    seconds: float
    """The measured time, of a team only as long as it is to send."""
    rate: float
    """Due per second."""
    good_rate: float
    """Whole answers per second that came within the measured time, whenever they were asked for:
    what the server did, also when it does not keep up."""
    attainment: Interval
    """Of all that were due, those that met every objective. What the client gave up before it
    could miss one is left out; so are refusals for a team's own limit, of one that is not said to
    keep its limits."""
    ttft: Distribution
    """Of streams; so are the next four. Of an answer that came whole nobody sees how it began."""
    sent_ttft: Distribution
    ttfot: Distribution
    """Without whole answers that were nothing but reasoning, as where their limit of tokens was
    used up by it: they have no token of an answer."""
    tpot: Distribution
    """Without whole answers in one piece, or in pieces without more tokens than that."""
    gap: Distribution
    """The longest pause within an answer. Of whole answers in at least two pieces only: here those
    that failed are left out and not infinite, and so is a pause after the last piece."""
    e2e: Distribution
    """Also of those that were not streamed."""
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    prompt_rate: float
    """Tokens per second that came within the measured time, as `good_rate` counts: those of prompts
    with their first token, those of answers evenly from the first to the last."""
    output_rate: float
    retries: int
    truncated_percent: float
    """Of whole answers, which ended at their limit of tokens."""
    verdict: Verdict
    reasons: list[str]
    quotas: list[Quota] = []
    codes: dict[str, dict[str, int]] = {}
    """By outcome, why: the three most frequent codes of its requests that have one, as the server
    gave it, or as the connection ended. Not of whole answers."""


class Trusted(msgspec.Struct, frozen=True):
    """Whether the figures are the server's, and not the load test's own."""

    valid: bool
    reasons: list[str]
    workers: int
    lag_p50: float
    lag_p99: float
    lag_highest: float
    rate_percent: float
    """Of what was due, sent."""
    cpu_percent: float
    """Of a core, of the busiest process."""
    loop_lag_p99: float
    clock_steps: float
    """By how much the wall clock was set during the run, s: its times of day are wrong by that."""
    notes: list[str] = []
    """What makes nothing invalid, and is good to know."""


class Fairness(msgspec.Struct, frozen=True):
    """How what there was got shared."""

    jain: float
    """Of whole answers by what was asked: 1 is even, 1/n is all to one."""
    tokens: dict[str, float]
    """Tokens per second by team."""
    ttft_ratio: float | None
    """The slowest conforming team's p99 TTFT by the fastest's."""
    isolation: dict[str, float | None]
    """Of each conforming team: its p99 TTFT while a team that does not conform sent, by that while
    none did. None: infinite, it failed. Not there: too few requests to say."""
    isolation_low: dict[str, float | None] = {}
    """Between this and the next that is by 95% of all samples (blocks of time, drawn again). None:
    infinite. Not there: it was for too short a time on either side."""
    isolation_high: dict[str, float | None] = {}


class FaultSeen(msgspec.Struct, frozen=True):
    """What a fault did. Times are from when it was made, s; None: it never happened."""

    what: str
    target: str
    at: float
    ended: float | None
    error: str
    """Why it could not be made, if so."""
    detected: float | None
    """The first request that failed for it, or was retried."""
    alerted: float | None
    alert: str
    lost: int
    retried: int
    recovered: float | None
    """From its end: when the share of good requests was as before."""
    budget_percent: float
    """Of the run's budget of failures that it spent."""


class Price(msgspec.Struct, frozen=True):
    """What tokens cost, of all that the GPUs were there for."""

    gpus: int
    currency: str
    tokens_per_gpu_second: float
    """Of answers; so is the next."""
    per_million_output: float | None
    per_million_total: float | None
    """Of prompts and answers."""


class Window(msgspec.Struct, frozen=True):
    """A part of the run's time, by when requests were due."""

    at: float
    """Its beginning."""
    seconds: float
    due: int
    outcomes: dict[str, int]
    open: int
    """Requests that were open at its end."""
    output_rate: float
    """Tokens per second that came in it."""
    ttft_p50: float | None = None
    ttft_p99: float | None = None
    tpot_p50: float | None = None
    tpot_p99: float | None = None
    teams: dict[str, int] = {}
    """Whole answers, by team."""


class Series(msgspec.Struct, frozen=True):
    """One of the server's own metrics during the run: counters as rates per second."""

    scrape: str
    name: str
    labels: dict[str, str]
    times: list[float]
    values: list[float]


class Summary(msgspec.Struct):
    """All of it."""

    run: str
    """Its id, which the requests carry in `x-loadtest-run`."""
    scenario: dict[str, Any]
    began: float
    """Epoch seconds."""
    seconds: float
    """Until the last answer."""
    interrupted: bool
    target: str
    model: str
    machine: dict[str, str]
    overhead_tokens: int
    """What the server puts around a prompt, as it was measured."""
    verdict: Verdict
    reasons: list[str]
    trusted: Trusted
    overall: Part
    teams: dict[str, Part]
    workloads: dict[str, Part]
    """By `team/workload`."""
    windows: list[Window]
    fairness: Fairness | None = None
    faults: list[FaultSeen] = []
    price: Price | None = None
    series: list[Series] = []
    version: int = 1


def write(path: Path, summary: Summary) -> None:
    """As indented JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")


def read(path: Path) -> Summary:
    """Raises `ValueError` with one line if it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Summary)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path} is no summary of a run: {error}") from None

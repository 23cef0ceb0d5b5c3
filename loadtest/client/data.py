"""What goes into a run of the client beside the plan, and what comes out of it."""

import msgspec

from loadtest.record import Record


class Endpoint(msgspec.Struct, frozen=True):
    """Where requests go, with all that a scenario leaves to the environment filled in."""

    url: str
    """Without `/v1`."""
    model: str
    keys: dict[str, str] = {}
    """By team. Empty, or no entry: without authorization."""
    headers: dict[str, str] = {}
    """In each request."""
    verify_tls: bool = True
    variables: dict[str, str] = {}
    """By team, the name of the environment variable that its key is, or would be, in."""


class WorkerStats(msgspec.Struct):
    """How one process of the load test did: whether it was the bottleneck itself."""

    worker: int
    """Its number, from 0."""
    cpu_percent: float
    """Of a core, in the busiest five seconds that it had (or in all, of a shorter run)."""
    loop_lags: list[float]
    """How late its event loop was each 20 ms, s: sorted, a sample of at most 10,000; while the run
    goes on, of at most 1,000."""
    sent: int
    """Requests that it sent. Retries do not count again."""
    cpu: list[float] = []
    """Percent of a core, in each half second or so of its life, in order. While the run goes on:
    nothing."""


class Health(msgspec.Struct):
    """How the load test itself does while a run goes on: by this one that dies is judged."""

    workers: list[WorkerStats]
    """As they told last, each few seconds, of those that live."""
    lost_workers: list[str]
    """As in `RunData`."""
    clock_steps: float


class RunData(msgspec.Struct):
    """All that a run gave."""

    records: list[Record]
    """One for each request that was due, in no order. One that was due and never sent, as when the
    run was interrupted or its worker died, has none."""
    workers: list[WorkerStats]
    """Of those that lived to tell."""
    began: float
    """Epoch seconds of the run's time 0."""
    seconds: float
    """From then to the last answer."""
    interrupted: bool
    """Whether it ended before its time: by Ctrl-C or SIGTERM, by who had enough, or as it died."""
    clock_steps: float
    """By how much the wall clock was set during the run, s, in all."""
    lost_workers: list[str] = []
    """Of each worker that died: its number, and why. What it had not yet told is lost."""
    run: str = ""
    """The run's id, which the requests carried in `x-loadtest-run`."""
    died: bool = False
    """Whether the load test was killed: then this is what was known some seconds before."""


class Progress(msgspec.Struct):
    """How a run stands. Times are in seconds; what is not known yet is None."""

    elapsed: float
    """Since the run's time 0: negative before."""
    duration: float
    """For how long requests are sent."""
    due: int
    """Requests whose time has come, those made by answers (closed loop, later turns) too."""
    sent: int
    done: int
    """Those that have ended, in whatever way."""
    open: int
    outcomes: dict[str, int]
    """Of those that have ended."""
    rate: float
    """Requests sent per second. This and all below: of the last ten seconds."""
    good_rate: float
    """Whole answers per second."""
    output_rate: float
    """Output tokens per second, of answers that ended."""
    ttft_p50: float | None
    """From when a request was due, as first tokens came."""
    ttft_p99: float | None
    gap_p50: float | None
    """Between two pieces: of each open stream the latest, looked at twice a second."""
    gap_p99: float | None
    lag_p99: float | None
    """How late requests were sent."""
    lost_workers: list[str] = []

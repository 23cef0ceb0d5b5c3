"""When the parts of one answer came, and how long the gateway itself took. Times in seconds."""

import time
from bisect import bisect_left

from service.buckets import TOKEN_BUCKETS

_now = time.perf_counter


class Timing:
    """One request. Each chunk of a stream costs one look at the clock and one search here."""

    __slots__ = (
        "_engine",
        "_engine_since",
        "_last",
        "_reading",
        "first",
        "gaps",
        "queued",
        "started",
    )

    def __init__(self) -> None:
        self.started = _now()
        self.first: float | None = None
        """When the first piece of the answer went to the client."""
        self.gaps: list[int] = []
        """How often pieces followed each other in how long: by the bounds of `TOKEN_BUCKETS`."""
        self.queued = 0.0
        """Waiting: for a replica to come, and in line."""
        self._last = 0.0
        self._reading = 0.0
        self._engine = 0.0
        self._engine_since: float | None = None

    @property
    def seconds(self) -> float:
        """Since the request began."""
        return _now() - self.started

    @property
    def ttft(self) -> float | None:
        """From when it was read to the first piece."""
        return None if self.first is None else self.first - self.started - self._reading

    @property
    def streamed(self) -> float:
        """From the first piece to the last."""
        return 0.0 if self.first is None else self._last - self.first

    @property
    def silence(self) -> float:
        """Since the last piece."""
        return 0.0 if self.first is None else _now() - self._last

    @property
    def pieces(self) -> int:
        """How many there were."""
        return 0 if self.first is None else 1 + sum(self.gaps)

    def read(self) -> "_Spell":
        """While the client sends it: that is the client's own time."""
        return _Spell(self, "_reading")

    def queue(self) -> "_Spell":
        """While it waits."""
        return _Spell(self, "queued")

    def engine_began(self) -> None:
        """An engine is asked."""
        self._engine_since = _now()

    def engine_answered(self) -> None:
        """It has begun to answer, or has failed. Only the first of several calls counts."""
        if self._engine_since is not None:
            self._engine += _now() - self._engine_since
            self._engine_since = None

    @property
    def added(self) -> float:
        """What was neither the client's, nor waiting, nor the engine's, until the first piece of a
        stream went out; until now for an answer in one."""
        until = _now() if self.first is None else self.first
        ours = until - self.started - self._reading - self.queued - self._engine
        return max(ours, 0.0)

    def piece(self) -> None:
        """A piece of a stream is about to go out."""
        now = _now()
        if self.first is None:
            self.first = now
            self.gaps = [0] * (len(TOKEN_BUCKETS) + 1)
        else:
            self.gaps[bisect_left(TOKEN_BUCKETS, now - self._last)] += 1
        self._last = now


class _Spell:
    """Adds how long a block takes to one of the sums."""

    __slots__ = ("_began", "_sum", "_timing")

    def __init__(self, timing: Timing, sum: str) -> None:
        self._timing = timing
        self._sum = sum

    def __enter__(self) -> None:
        self._began = _now()

    def __exit__(self, *_: object) -> None:
        setattr(self._timing, self._sum, getattr(self._timing, self._sum) + _now() - self._began)

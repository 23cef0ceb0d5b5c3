"""What a worker tells its parent: kept here until it does."""

from loadtest.record import Record

_SAMPLE = 2000


class Log:
    """What happened since it was told last, and how many there were in all."""

    def __init__(self) -> None:
        self.due = 0
        """Requests whose time has come, in all."""
        self.sent = 0
        """In all."""
        self.records: list[Record] = []
        self.lags: list[float] = []
        self.firsts: list[float] = []
        """Times to the first token, s, from when the request was due."""
        self.gaps: list[float] = []
        """The last of each answer that ended, s."""

    def begins(self, record: Record, now: float) -> None:
        """A request is about to be sent for the first time, `now` since the run's start."""
        record.began = now
        self.sent += 1
        if len(self.lags) < _SAMPLE:
            self.lags.append(now - record.scheduled)

    def ends(self, record: Record, gap: float | None) -> None:
        """It is over, in whatever way. `gap` is the last one it had."""
        self.records.append(record)
        if gap is not None and len(self.gaps) < _SAMPLE:
            self.gaps.append(gap)
        if record.ttft is not None and len(self.firsts) < _SAMPLE:
            self.firsts.append(record.ttft)

    def clear(self) -> None:
        """It has been told."""
        self.records, self.lags, self.firsts, self.gaps = [], [], [], []

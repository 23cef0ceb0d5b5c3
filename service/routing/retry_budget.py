"""How many requests may be sent once more.

When one engine fails, its requests go to another. When all of them fail, sending everything twice
would only finish them off. So each request pays in a part of a retry, and a retry needs a whole
one: in the long run the engines get at most `1 + ratio` times what the clients send. The floor is
for low traffic, where a fifth of a request is none at all. As in Finagle and linkerd.
"""

_START = 10.0  # seconds of the floor


class RetryBudget:
    """The balance, in retries.

    In any stretch of time from the beginning, at most `ratio` times the requests, `floor` times the
    seconds and what was there at the start are granted; and never more than `most` at once, as many
    as wait for one engine, so that a quiet night does not save up for a storm.
    """

    def __init__(self, ratio: float, floor: float, now: float, *, most: float = 100.0) -> None:
        self.spent = 0
        self.refused = 0
        self._ratio = ratio
        self._floor = floor
        self._most = most
        self._balance = min(_START * floor, most)
        self._at = now

    def deposit(self, now: float) -> None:
        """A client's request arrived. Its own retries pay nothing in."""
        self._balance += self._ratio
        self._grow(now)

    def take(self, now: float) -> bool:
        """Whether one request may be sent once more; it is paid for, if so."""
        self._grow(now)
        if self._balance < 1:
            self.refused += 1
            return False
        self._balance -= 1
        self.spent += 1
        return True

    def balance(self, now: float) -> float:
        """Retries that could be taken now."""
        self._grow(now)
        return self._balance

    def _grow(self, now: float) -> None:
        passed = max(now - self._at, 0.0)
        self._balance = min(self._balance + self._floor * passed, self._most)
        self._at = max(now, self._at)

"""What a client does about a refusal: comes again or not, and when.

Only before the first token: nobody sends a request again whose answer has begun.
"""

import random
import time

from loadtest.client.answer import Reading
from loadtest.client.pauses import Pauses
from loadtest.client.request import Request, Sender
from loadtest.outcome import REFUSED, Outcome
from loadtest.record import Attempt, Record
from loadtest.scenario.workload import Retry

RETRIED = REFUSED | {Outcome.CONNECT, Outcome.SERVER_5XX}
"""Ways to end after which a client may come again."""


class Retrying:
    """Sends requests by a policy."""

    def __init__(self, sender: Sender, pauses: Pauses) -> None:
        self._sender = sender
        self._pauses = pauses

    async def send(
        self, request: Request, record: Record, keep_text: bool, retry: Retry, seed: int
    ) -> Reading:
        """Send it until it is good, or the policy gives up. What came last is in the record, and
        the attempts before it too."""
        source: random.Random | None = None
        while True:
            reading = self._sender.reading(keep_text)
            started = time.monotonic()
            await self._sender.send(request, record, reading)
            made = len(record.attempts) + 1
            if record.first is not None or not may_retry(retry, record.outcome, made):
                return reading
            source = source or random.Random(seed)  # noqa: S311  # no secret depends on it
            at = time.monotonic() + wait(retry, made, record.retry_after, source)
            # A user who would have left before then has the refusal that there was.
            if at >= request.give_up or not await self._pauses.until(at):
                return reading
            _again(record, started - self._sender.began)


def may_retry(retry: Retry, outcome: Outcome, made: int) -> bool:
    """Whether a request that ended so is sent once more, after so many sendings."""
    return retry.policy != "none" and made < retry.attempts and outcome in RETRIED


def wait(retry: Retry, made: int, advised: float | None, source: random.Random) -> float:
    """How long until it is sent again, s.

    Full jitter: anything up to the doubled time, so that those who were refused together do not
    come again together. Advice is followed to the point, however long.
    """
    if retry.policy == "naive":
        return 0.0
    if retry.policy == "retry_after" and advised is not None:
        return advised
    # 2**63 times any base is beyond every cap.
    return source.uniform(0.0, min(retry.cap, retry.base * 2.0 ** min(made - 1, 63)))


def _again(record: Record, started: float) -> None:
    """Keep what an attempt came to, and make the record ready for the next."""
    record.attempts.append(
        Attempt(
            sent=started if record.sent is None else record.sent,
            ended=started if record.ended is None else record.ended,
            outcome=record.outcome,
            status=record.status,
            retry_after=record.retry_after,
        )
    )
    record.sent = record.headers = record.ended = record.retry_after = None
    record.remaining_requests = record.remaining_tokens = None
    record.status = 0
    record.code = record.request_id = record.replica = ""

"""Commands that wait for what somebody else does."""

import math
import signal
import sys
import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from service.errors import UserError

T = TypeVar("T")
_TERMINATED = 128 + signal.SIGTERM

WaitOption = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="longest to wait for it, s")
]


def patiently(
    attempt: Callable[[], T],
    seconds: float,
    *,
    every: float,
    again: float = math.inf,
    of: type[UserError] | tuple[type[UserError], ...] = UserError,
) -> T:
    """What `attempt` returns, tried every so many seconds for at most `seconds`.

    A failure that is not `of` these ends it at once; at the end of the wait the last one is raised.
    It says on standard error what it waits for: once, and `again` after so many seconds.
    """
    if seconds > 0:
        # Process 1 of a container, as this often is, is not ended by a signal that it leaves alone.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    now = tell_at = time.monotonic()
    end = now + seconds
    while True:
        try:
            return attempt()
        except of as error:
            now = time.monotonic()
            if not now < end:
                raise
            if now >= tell_at:
                tell_at = now + again
                typer.echo(f"gptoss: waits, {end - now:.0f} s at most: {error}", err=True)
        time.sleep(min(every, end - now))

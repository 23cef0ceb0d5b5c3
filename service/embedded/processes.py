"""Several gateways on one machine: processes that share a port, and nothing else but the stores.

The kernel spreads connections over them (`SO_REUSEPORT`). Each has an operators' port of its own,
one after the other, since each counts for itself. One that dies is started again.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from service.embedded.leash import leashed
from service.errors import UserError
from service.grace import Grace
from service.settings import Settings

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2
# One that dies at once, each time, is not started again as fast as that.
_RESTART_SECONDS = 1.0


@dataclass(slots=True)
class _Place:
    """One of the processes. `env` is what is its own."""

    env: Mapping[str, str]
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0

    def start(self) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            leashed([sys.executable, "-m", "service.cli", "gateway"]),
            env=os.environ | self.env,
            stdin=subprocess.DEVNULL,
        )

    @property
    def status(self) -> int | None:
        return self.process.poll() if self.process else None


def run(settings: Settings, number: int) -> int:
    """Keep `number` gateways running until SIGTERM or SIGINT. Returns the exit status.

    Raises `UserError` where they could not share their counters.
    """
    if not settings.quota.url.get_secret_value():
        raise UserError(
            "several gateway processes need counters that they share: set GPTOSS_QUOTA__URL to a"
            " Valkey or Redis, or run one process"
        )
    places = [_Place(_own(settings, place, number)) for place in range(number)]
    told = _Told()
    for place in places:
        place.start()
    while not told.to_end:
        time.sleep(_LOOK_SECONDS)
        for place in places:
            _mend(place)
    return _end(places, told, Grace(settings.drain, settings.notice).gateway_termination)


def _own(settings: Settings, place: int, number: int) -> dict[str, str]:
    own = {
        "GPTOSS_GATEWAY__REUSE_PORT": "true",
        "GPTOSS_GATEWAY__OPS_PORT": str(settings.gateway.ops_port + place),
        "GPTOSS_QUOTA__GATEWAYS": str(max(settings.quota.gateways, number)),
    }
    # One admin API is enough: all of them read the same database.
    return own if place == 0 else own | {"GPTOSS_ADMIN__TOKEN": ""}


def _mend(place: _Place) -> None:
    if place.status is not None and time.monotonic() - place.started > _RESTART_SECONDS:
        log.error("a gateway process ended and is started again", extra={"status": place.status})
        place.start()


def _end(places: list[_Place], told: "_Told", seconds: float) -> int:
    """Pass each signal on: the first drains, another one ends the drain."""
    passed, deadline = 0, time.monotonic() + seconds
    while any(place.status is None for place in places) and time.monotonic() < deadline:
        if passed < told.times:
            passed += 1
            for place in places:
                _signal(place, signal.SIGTERM)
        time.sleep(_LOOK_SECONDS)
    for place in places:
        _signal(place, signal.SIGKILL)
    return max((abs(place.status or 0) for place in places), default=0)


def _signal(place: _Place, number: int) -> None:
    if place.process is not None and place.status is None:
        place.process.send_signal(number)


class _Told:
    """How often this process was told to end."""

    def __init__(self) -> None:
        self.times = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    @property
    def to_end(self) -> bool:
        return self.times > 0

    def _note(self, *_: object) -> None:
        self.times += 1

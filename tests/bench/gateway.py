"""The gateway as a peer: a real `gptoss gateway`, with all that it does for a request turned on.

A team with limits of every kind and a key with its own, reservation and settlement, the ledger in
SQLite, metrics, and a line in the log for each request.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from service.quota.limits import Limits
from service.tenants.team import Team
from tests.bench import wire
from tests.bench.running import Running
from tests.office import Office
from tests.process import GPTOSS, environment, free_port, running
from tests.servers.redis import Redis

_LIMITS: Final = Limits(
    rpm=10_000_000,
    tpm=100_000_000,
    concurrency=100_000,
    daily_tokens=10**13,
    monthly_tokens=10**14,
    max_output=10_000,
)
# So long that streams which stand still for a measurement are not taken for dead.
_HOURS: Final = "7200"


@contextlib.contextmanager
def gateway(home: Path, upstream_port: int, store: str = "") -> Iterator[Running]:
    """With its counters in the process, or in the `store` at that URL."""
    office = Office.at(home / "state")
    office.add_team(Team("bench", limits=_LIMITS))
    _, token = office.add_key("bench", _LIMITS)
    port, ops_port = free_port(), free_port()
    upstreams = [{"model": wire.MODEL, "url": f"http://127.0.0.1:{upstream_port}"}]
    extra = {
        "GPTOSS_STATE_DIR": str(home / "state"),
        "GPTOSS_GATEWAY__PORT": str(port),
        "GPTOSS_GATEWAY__OPS_PORT": str(ops_port),
        "GPTOSS_GATEWAY__UPSTREAMS": json.dumps(upstreams),
        "GPTOSS_GATEWAY__IDLE_TIMEOUT": _HOURS,
        "GPTOSS_GATEWAY__TOTAL_TIMEOUT": _HOURS,
        # One upstream stands for many engines, and is not to queue what they would not.
        "GPTOSS_ROUTING__QUEUE__SLOTS": "100000",
        "GPTOSS_QUOTA__URL": store,
    }
    ready = f"http://127.0.0.1:{ops_port}/readyz"
    env = environment(home, extra)
    with running([*GPTOSS, "gateway"], env, ready=ready, log=home / "log") as process:
        # What a request leaves behind is written within a second (GPTOSS_LEDGER__FLUSH).
        yield Running(process.pid, port, token, settles=1.2)


@contextlib.contextmanager
def gateway_on_valkey(home: Path, upstream_port: int) -> Iterator[Running]:
    """With its counters in a real Valkey or Redis, whose own work is not counted."""
    with Redis() as redis, gateway(home, upstream_port, redis.url) as it:
        yield it

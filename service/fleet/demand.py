"""How many engines the demand is for: by the same numbers and rules as the chart's autoscaling.

Asked of the gateways themselves, at their operators' ports: requests that they have open at the
pool's replicas, in line and held, as `helm/gptoss/templates/engine/scaledobject.yaml` asks them of
a Prometheus. A gateway that does not answer is not one without requests: nothing is given up then.
"""

import asyncio
import math
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from service.fleet.document import Autoscaling, Pool

_TIMEOUT_SECONDS: Final = 5.0
# As the HorizontalPodAutoscaler: what differs less is no reason to do anything.
_TOLERANCE: Final = 0.1
# Of the seats of an engine; waiting requests are worse than running ones.
_SEATS: Final = 0.75
_WAITING_SEATS: Final = 0.25
# In any minute: twice as many, or two more; in any five minutes: one less.
_UP_SECONDS, _UP_AT_ONCE = 60.0, 2
_DOWN_SECONDS: Final = 300.0
_METRIC = re.compile(
    rb"^gptoss_gateway_(?:replica_requests_in_flight|queue_waiting|queue_held)"
    rb'\{(?:[^}\n]*,)?pool="([^"\n]*)"[^}\n]*\} (\S+)$',
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Demand:
    """Of one pool. `complete` is whether every gateway answered."""

    requests: float
    """At engines, in line and held, of all gateways."""
    waiting: int
    """Within the engines."""
    complete: bool


async def ask(gateways: Sequence[str]) -> tuple[Mapping[str, float], bool]:
    """Requests by pool, of all gateways that answer, and whether all did."""
    async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
        pages = await asyncio.gather(*(_page(client, url) for url in gateways))
    requests: dict[str, float] = {}
    for page in pages:
        for pool, value in _METRIC.findall(page or b""):
            name = pool.decode()
            requests[name] = requests.get(name, 0.0) + float(value)
    return requests, None not in pages


async def _page(client: httpx.AsyncClient, url: str) -> bytes | None:
    try:
        answer = await client.get(f"{url.rstrip('/')}/metrics")
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return answer.content if answer.status_code == httpx.codes.OK else None


def asked_for(pool: Pool, demand: Demand, running: int) -> int:
    """Engines that would do for the demand as it is now."""
    scaling, seats = pool.autoscaling, pool.settings.max_num_seqs
    each = scaling.requests_per_replica or math.ceil(_SEATS * seats)
    wanted = max(
        _engines(demand.requests, each, running),
        _engines(demand.waiting, math.ceil(_WAITING_SEATS * seats), running),
    )
    return min(max(wanted, scaling.min_replicas), scaling.max_replicas)


def _engines(load: float, each: float, running: int) -> int:
    if running and abs(load / (each * running) - 1) <= _TOLERANCE:
        return running
    return math.ceil(load / each)


class Scale:
    """How many engines of one pool there should be, from one look to the next.

    More at once, up to twice as many (or two more) a minute; one less every five minutes, and only
    when for `scaleDownSeconds` nothing more was asked for.
    """

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self._asked: deque[tuple[float, int]] = deque()
        self._steps: deque[tuple[float, int]] = deque()

    def look(self, now: float, pool: Pool, demand: Demand) -> int:
        """Take a look's demand in. Returns how many there should be from now on."""
        scaling = pool.autoscaling
        wanted = asked_for(pool, demand, self.replicas)
        if not demand.complete:  # there may be more than was seen
            wanted = max(wanted, self.replicas)
        self._remember(now, wanted, scaling)
        if wanted > self.replicas:
            self._step(now, min(wanted, self._most(now)))
        elif (lower := max(asked for _, asked in self._asked)) < self.replicas:
            self._step(now, max(lower, self._least(now)))
        self.replicas = min(max(self.replicas, scaling.min_replicas), scaling.max_replicas)
        return self.replicas

    def _remember(self, now: float, wanted: int, scaling: Autoscaling) -> None:
        # A window that has only begun was not quiet for so long: what runs counts as asked for.
        if not self._asked:
            self._asked.append((now, max(wanted, self.replicas)))
        self._asked.append((now, wanted))
        while self._asked[0][0] < now - scaling.scale_down_seconds:
            self._asked.popleft()

    def _step(self, now: float, replicas: int) -> None:
        if replicas != self.replicas:
            self._steps.append((now, replicas - self.replicas))
            self.replicas = replicas

    def _before(self, now: float, seconds: float, sign: int) -> int:
        """What there was so long ago, but for steps in the other direction."""
        while self._steps and self._steps[0][0] <= now - _DOWN_SECONDS:
            self._steps.popleft()
        made = sum(by for at, by in self._steps if at > now - seconds and by * sign > 0)
        return self.replicas - made

    def _most(self, now: float) -> int:
        before = self._before(now, _UP_SECONDS, +1)
        return max(2 * before, before + _UP_AT_ONCE)

    def _least(self, now: float) -> int:
        return self._before(now, _DOWN_SECONDS, -1) - 1

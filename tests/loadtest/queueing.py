"""Queues whose true behaviour is known: what searches and tests of saturation are held to."""

import heapq
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """Requests of a queue, in order of arrival; times in s."""

    arrived: Times
    began: Times
    ended: Times


def queue(rate: float, servers: int, service: float, seconds: float, seed: int) -> Run:
    """M/M/c: Poisson arrivals, exponential service of that mean, first come first served. It is
    empty at first."""
    chance = np.random.default_rng(seed)
    gaps = chance.exponential(1 / rate, int(rate * seconds * 1.5) + 100)
    arrived = np.cumsum(gaps)
    arrived = arrived[arrived < seconds]
    works = chance.exponential(service, len(arrived)).tolist()
    free = [0.0] * servers
    began, ended = [], []
    for at, work in zip(arrived.tolist(), works, strict=True):
        start = max(at, heapq.heappop(free))
        heapq.heappush(free, start + work)
        began.append(start)
        ended.append(start + work)
    return Run(arrived, np.asarray(began), np.asarray(ended))


def kept(rate: float, servers: int, service: float, wait: float) -> float:
    """The share of requests of an M/M/c that wait no longer, in the long run (Erlang's C)."""
    load = rate * service
    if load >= servers:
        return 0.0
    # By the recursion of Erlang's B, which does not overflow.
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    waits = blocked / (1 - load / servers * (1 - blocked))
    return 1 - waits * math.exp(-(servers - load) / service * wait)


def limit(share: float, servers: int, service: float, wait: float) -> float:
    """The rate at which exactly that share waits no longer."""
    low, high = 0.0, servers / service
    for _ in range(60):
        middle = (low + high) / 2
        if kept(middle, servers, service, wait) >= share:
            low = middle
        else:
            high = middle
    return low

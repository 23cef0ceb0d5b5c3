"""An engine in virtual time, for tests.balancing: seats, batches, prefill, and a prefix cache."""

import heapq
import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

# gpt-oss-120b on one 80 GB card, roughly: 2,400 tokens/s of answers when all seats are taken. What
# running requests take of the memory is not taken from the cache.
SEATS = 64
CACHE_TOKENS = 300_000
PREFILL_SECONDS = 1 / 10_000
STEP_SECONDS = 0.010
STEP_SECONDS_PER_REQUEST = 0.00025
CHUNK = 2048
"""Tokens of a prompt in one step. Each running request gets one token in it."""


class World:
    """Virtual time, and what is to happen in it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def after(self, seconds: float, what: Callable[..., None], *arguments: object) -> None:
        """Have something happen."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), what, arguments))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, what, arguments = heapq.heappop(self._events)
            what(*arguments)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a request is to an engine, tokens. The first `shared` of its prompt are those of
    others with its key: of earlier turns, or of other documents to which the same is asked."""

    key: int
    shared: int
    prompt: int
    output: int


class Client(Protocol):
    """Whoever sent a request."""

    turn: Turn

    def begun(self) -> None:
        """It got its first token."""

    def done(self) -> None:
        """It got the last."""

    def cut(self) -> None:
        """It gets no more."""


class Engine:
    """Computes prompts one after the other, in chunks, and all answers at once.

    `_made` is what a request that runs all the time would have got, tokens: one that begins at
    some count ends at another.
    """

    def __init__(self, world: World) -> None:
        self.up = True
        self.slowness = 1.0
        self.computed = 0
        """Tokens, since its last start."""
        self.hits = 0
        self.prompts = 0
        """Tokens of prompts, in all; `hits` of them were in the cache."""
        self._world = world
        self._waiting: deque[Client] = deque()
        self._prefilling: Client | None = None
        self._running: list[tuple[float, int, Client]] = []
        self._made = 0.0
        self._since = 0.0
        self._order = itertools.count()
        self._version = 0
        self._cache: OrderedDict[int, int] = OrderedDict()
        self._cached = 0

    @property
    def running(self) -> int:
        """Requests that it works on."""
        return len(self._running) + (self._prefilling is not None)

    @property
    def waiting(self) -> int:
        """Requests that it does not work on yet."""
        return len(self._waiting)

    def submit(self, client: Client) -> None:
        """Take a request."""
        self._waiting.append(client)
        if self._prefilling is None:
            self._decode()
            self._next()

    def stop(self) -> None:
        """End, with all that it has and remembers."""
        lost = [client for _, _, client in self._running] + list(self._waiting)
        lost += [self._prefilling] if self._prefilling else []
        self._waiting.clear()
        self._running.clear()
        self._cache.clear()
        self._prefilling, self._cached, self.computed, self.up = None, 0, 0, False
        self._version += 1
        for client in lost:
            client.cut()

    def start(self) -> None:
        """Begin anew."""
        self.up = True

    def slow_down(self, slowness: float) -> None:
        """Take that many times as long for everything, from the next step on."""
        self.slowness = slowness

    def _step(self) -> float:
        return (STEP_SECONDS + STEP_SECONDS_PER_REQUEST * len(self._running)) * self.slowness

    def _decode(self) -> None:
        """Count what was made until now."""
        self._made += (self._world.now - self._since) / self._step()
        self._since = self._world.now

    def _next(self) -> None:
        """Begin the next prompt, or else wait for the next answer to end."""
        self._version += 1
        if self._waiting and len(self._running) < SEATS:
            self._prefill(self._waiting.popleft())
        elif self._running:
            left = max(self._running[0][0] - self._made, 0.0)
            self._world.after(left * self._step(), self._decoded, self._version)

    def _prefill(self, client: Client) -> None:
        turn = client.turn
        known = min(self._cache.get(turn.key, 0), turn.shared)
        cold = turn.prompt - known
        self._prefilling = client
        self.hits += known
        self.prompts += turn.prompt
        self.computed += cold
        chunks = math.ceil(cold / CHUNK)
        seconds = cold * PREFILL_SECONDS * self.slowness + chunks * self._step()
        self._world.after(seconds, self._prefilled, self._version, client, chunks)

    def _prefilled(self, version: int, client: Client, chunks: int) -> None:
        if version != self._version:
            return
        turn = client.turn
        self._made, self._since, self._prefilling = self._made + chunks, self._world.now, None
        end = self._made + turn.output - 1
        heapq.heappush(self._running, (end, next(self._order), client))
        self._keep(turn.key, turn.prompt)
        client.begun()
        self._end()

    def _decoded(self, version: int) -> None:
        if version == self._version:
            self._decode()
            self._end()

    def _end(self) -> None:
        while self._running and self._running[0][0] <= self._made + 1e-6:
            client = heapq.heappop(self._running)[2]
            self.computed += client.turn.output
            self._keep(client.turn.key, client.turn.prompt + client.turn.output)
            client.done()
        self._next()

    def _keep(self, key: int, tokens: int) -> None:
        """Remember that. What was used longest ago is forgotten."""
        self._cached += tokens - self._cache.pop(key, 0)
        self._cache[key] = tokens
        while self._cached > CACHE_TOKENS:
            self._cached -= self._cache.popitem(last=False)[1]


def seconds_of(turn: Turn) -> float:
    """How long a full engine takes for it, if it knows none of it."""
    step = STEP_SECONDS + STEP_SECONDS_PER_REQUEST * SEATS
    cold = turn.prompt * PREFILL_SECONDS + math.ceil(turn.prompt / CHUNK) * step
    return cold + turn.output * step / SEATS

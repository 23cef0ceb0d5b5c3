"""Conversations that go through gateways to engines, all in virtual time, for tests.balancing."""

import contextlib
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from service.routing.balancer import Balancer
from service.routing.pool import Pool
from service.routing.prober import _PAGES_PER_SECOND
from service.routing.replica import Replica, Report
from service.settings import QueueSettings, RoutingSettings
from tests.rivals import POLICIES
from tests.virtual_engine import Engine, Turn, World, seconds_of

GATEWAYS = 4
# Replicas, and virtual seconds: enough requests each for a 99.9th percentile, and few enough.
SIZES = {10: 1500.0, 100: 480.0, 1000: 300.0}
WARM_UP = 120.0
SETTINGS = RoutingSettings(queue=QueueSettings(slots=128))

# Trouble, in the middle of the time that counts: how long and how bad.
TROUBLE_SECONDS = 60.0
DOWN_SECONDS = 20.0
SLOWER = 4.0

# Traffic. Half of the conversations have one turn only, and one in twenty is no conversation but
# part of a job: all with one key, and one beginning. Lengths are of what is new in a turn.
ALONE = 0.5
JOB = 0.05
JOB_SHARED = 3000
MEAN_TURNS = 6
THINK_SECONDS = 12.0
LONGEST = 8192
LONGEST_CONVERSATION = 32_768
USUAL_OUTPUT = 1024
"""What a gateway takes an answer to be, not knowing better: a team's `default_output`."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is simulated. `load` is of what the engines could do if they knew no prompt;
    `constants` of the balancer have other values."""

    policy: str
    replicas: int
    load: float
    constants: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        changes = (f"{name} {value:,g}" for name, value in self.constants)
        return ", ".join([self.policy, *changes])


@dataclass(slots=True)
class Result:
    """What was seen after the warm-up; times in seconds."""

    case: Case
    ttft: list[float] = field(default_factory=list)
    imbalance: list[float] = field(default_factory=list)
    hit_rate: float = 0.0
    cut: int = 0

    @property
    def row(self) -> str:
        """A line of a table."""
        ttft = " | ".join(f"{self.percentile(part):.2f}" for part in (0.5, 0.95, 0.99, 0.999))
        imbalance = statistics.fmean(self.imbalance)
        return f"| {self.case} | {ttft} | {imbalance:.1f} | {self.hit_rate:.0%} |"

    def percentile(self, part: float) -> float:
        """The time to the first token that this part of the requests does not exceed."""
        return self.ttft[min(int(part * len(self.ttft)), len(self.ttft) - 1)]


class GatewayPool(Pool):
    """The pool of one gateway, which chooses in some way."""

    def __init__(self, world: World, policy: type[Balancer], source: random.Random) -> None:
        super().__init__("pool", "model", SETTINGS, lambda: world.now, source)
        self._balancer = policy(source)


class Conversation:
    """Turns, with pauses between. Each goes through some gateway to the replica that it picks."""

    def __init__(self, run: "Run", turns: Iterator[tuple[Turn, float]]) -> None:
        self._run = run
        self._turns = turns
        self._place = contextlib.ExitStack()
        self._next()

    def _next(self) -> None:
        following = next(self._turns, None)
        if following is None:
            return
        self.turn, self._pause = following
        self._came, self._begun = self._run.world.now, False
        self._pool = self._run.a_pool()
        self._send([])

    def _send(self, tried: list[Replica]) -> None:
        work = self.turn.prompt + USUAL_OUTPUT
        while (replica := self._pool.pick(self.turn.key, work, tried)) is not None:
            self._replica = replica
            self._mark = self._place.enter_context(self._pool.request(replica, work))
            engine = self._run.engines[replica.url]
            if engine.up:
                engine.submit(self)
                return
            self._fail(unreachable=True)
            tried.append(replica)
        self._run.world.after(0.1, self._send, [])

    def begun(self) -> None:
        """Its first token."""
        self._begun = True
        self._pool.begun(self._replica, self._mark)
        if self._came >= WARM_UP:
            self._run.result.ttft.append(self._run.world.now - self._came)

    def done(self) -> None:
        """Its last token."""
        self._place.close()
        self._pool.succeeded(self._replica, self._mark)
        self._run.world.after(self._pause, self._next)

    def cut(self) -> None:
        """The engine is gone. What has begun is lost; what has not is sent again."""
        self._fail(unreachable=not self._begun)
        if self._begun:
            self._run.result.cut += 1
            self._run.world.after(self._pause, self._next)
        else:
            self._send([self._replica])

    def _fail(self, *, unreachable: bool) -> None:
        self._place.close()
        self._pool.failed(self._replica, self._mark, "gone", unreachable=unreachable)


class Run:
    """The simulation of one case."""

    def __init__(self, case: Case) -> None:
        self.world = World()
        self.result = Result(case)
        self._chance = random.Random(1)
        self._traffic = random.Random(case.replicas)
        self._seconds = SIZES[case.replicas]
        self._pause = _seconds_of_a_conversation() / (case.load * case.replicas)
        urls = [f"http://10.0.{n // 250}.{n % 250}:8000" for n in range(case.replicas)]
        self.engines = {url: Engine(self.world) for url in urls}
        self._pools = [
            GatewayPool(self.world, POLICIES[case.policy], random.Random(number))
            for number in range(GATEWAYS)
        ]
        self._plan_trouble(urls)

    def a_pool(self) -> Pool:
        """That of any gateway: what is in front of them knows nothing of conversations."""
        return self._chance.choice(self._pools)

    def run(self) -> Result:
        """Simulate it."""
        for pool in self._pools:
            pool.set_members(self.engines, lambda url: SETTINGS.queue.slots)
            self._refresh(pool)
            for replica in pool.replicas.values():
                self.world.after(self._chance.uniform(0, 5), self._probe, pool, replica, 0.0)
        self._begin()
        self.world.run(WARM_UP)
        hits, prompts = self._prompts()
        self._look()
        self.world.run(self._seconds)
        hits, prompts = self._prompts()[0] - hits, self._prompts()[1] - prompts
        self.result.hit_rate = hits / prompts
        self.result.ttft.sort()
        return self.result

    def _begin(self) -> None:
        # All lengths are drawn here, so that they are the same whatever the policy.
        Conversation(self, iter(_turns(self._traffic)))
        self.world.after(self._traffic.expovariate(1 / self._pause), self._begin)

    def _plan_trouble(self, urls: Sequence[str]) -> None:
        number = max(len(urls) // 50, 1)
        begin = (WARM_UP + self._seconds - TROUBLE_SECONDS) / 2
        chosen = [self.engines[url] for url in random.Random(2).sample(urls, 2 * number)]
        for engine in chosen[:number]:
            self.world.after(begin, engine.slow_down, SLOWER)
            self.world.after(begin + TROUBLE_SECONDS, engine.slow_down, 1.0)
        for place, engine in enumerate(chosen[number:]):
            when = begin + TROUBLE_SECONDS * place / number
            self.world.after(when, engine.stop)
            self.world.after(when + DOWN_SECONDS, engine.start)

    def _refresh(self, pool: Pool) -> None:
        pool.refresh()
        self.world.after(1.0, self._refresh, pool)

    def _probe(self, pool: Pool, replica: Replica, read_at: float) -> None:
        """As `Prober` does."""
        now, engine = self.world.now, self.engines[replica.url]
        pool.checked(replica, None if engine.up else "gone")
        if engine.up and now >= read_at:
            report = Report(engine.running, engine.waiting, 0.5, engine.computed, now)
            pool.reported(replica, report, engine.computed)
            read_at = now + len(self.engines) / _PAGES_PER_SECOND
        pause = SETTINGS.health.interval * self._chance.uniform(0.9, 1.1)
        self.world.after(pause, self._probe, pool, replica, read_at)

    def _look(self) -> None:
        counts = [engine.running + engine.waiting for engine in self.engines.values()]
        self.result.imbalance.append(max(counts) / max(statistics.fmean(counts), 1.0))
        self.world.after(1.0, self._look)

    def _prompts(self) -> tuple[int, int]:
        engines = self.engines.values()
        return sum(engine.hits for engine in engines), sum(engine.prompts for engine in engines)


def _turns(source: random.Random) -> list[tuple[Turn, float]]:
    """The turns of a conversation, and the pause after each."""
    kind, key, turns = source.random(), source.getrandbits(64), []
    more = round(source.expovariate(1 / (MEAN_TURNS - 1))) if kind > ALONE else 0
    shared = 0
    if kind < JOB:
        key, shared = 0, JOB_SHARED
    for _ in range(1 + more):
        prompt = shared + min(30 + int(source.lognormvariate(6.2, 1.2)), LONGEST)
        output = min(int(100 * source.paretovariate(1.3)), LONGEST)
        if prompt + output > LONGEST_CONVERSATION:
            break
        pause = source.expovariate(1 / THINK_SECONDS)
        turns.append((Turn(key, shared, prompt, output), pause))
        shared = prompt + output
    return turns


def _seconds_of_a_conversation() -> float:
    source = random.Random(0)
    turns = [turn for _ in range(10_000) for turn, _ in _turns(source)]
    return sum(seconds_of(turn) for turn in turns) / 10_000

"""What one engine is told: made by the keeper, carried out on the engine's node."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from service.fleet.document import Fleet, Pool
from service.fleet.rollout import Phase
from service.grace import Grace


@dataclass(frozen=True, slots=True)
class Order:
    """One engine of a pool. Times in seconds."""

    fleet: str
    pool: str
    model: str
    profile: str
    weights: str
    """Folder of the weights on the node; empty: fetched there."""
    revision: str
    offline: bool
    first_port: int
    last_port: int
    startup: float
    stall: float
    notice: float
    drain: float
    env: Mapping[str, str]
    labels: Mapping[str, str]
    """Of the nodes that it may run on."""

    @classmethod
    def of(cls, fleet: Fleet, name: str, pool: Pool) -> "Order":
        """For an engine of that pool."""
        return cls(
            fleet=fleet.name,
            pool=name,
            model=pool.model_name,
            profile=pool.card.name,
            weights=fleet.weights.folders.get(pool.model_name, ""),
            revision=fleet.weights.revision,
            offline=fleet.offline,
            first_port=fleet.ports.first,
            last_port=fleet.ports.last,
            startup=float(pool.startup_seconds),
            stall=float(pool.stall_seconds),
            notice=float(fleet.notice_seconds),
            drain=float(fleet.drain_seconds),
            env=dict(pool.env),
            labels=dict(pool.node_selector),
        )

    @property
    def generation(self) -> str:
        """The same for engines that are told the same."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def grace(self) -> Grace:
        """How long it gets to end in good order."""
        return Grace(self.drain, self.notice)

    def arguments(self, host: str, port: int) -> list[str]:
        """Of `gptoss engine`."""
        found = ["--weights", self.weights] if self.weights else []
        revision = ["--revision", self.revision] if self.revision and not self.weights else []
        return [
            *("--model", self.model, "--profile", self.profile),
            *("--host", host, "--port", str(port), *found, *revision),
        ]

    def variables(self) -> dict[str, str]:
        """Of its environment, over the node's."""
        hub = {"HF_HUB_OFFLINE": "1"} if self.offline else {}
        return {**hub, **self.env, "GPTOSS_DRAIN": f"{self.drain:g}"}


@dataclass(frozen=True, slots=True)
class Report:
    """What an engine says of itself."""

    order: Order
    phase: Phase
    url: str
    """Empty until it listens."""
    since: float
    """When it was started, Unix time."""
    why: str
    """What keeps it, or broke it."""
    process: int = 0
    """Of vLLM's server on the node; 0 until there is one."""
    running: int = 0
    """Requests."""
    waiting: int = 0
    ended: bool = False
    """Nothing of it runs any more."""

"""One engine behind the gateway, as this process sees it."""

import asyncio
from dataclasses import dataclass

from service.routing.health import Health


@dataclass(frozen=True, slots=True)
class Report:
    """What an engine says of itself; its requests are those of all gateways.

    `waiting` are queued in the engine, `kv_usage` is the part of its KV cache in use (0 to 1).
    `tokens` are all it has computed since it began, `at` is when it was read, monotonic s.
    """

    running: int
    waiting: int
    kv_usage: float
    tokens: int
    at: float


class Replica:
    """A place that requests can be sent to.

    `model` is what the engine calls the model. `in_flight` and `tokens` are this gateway's own
    requests and their estimated work: known at once. `foreign` is the work of others, by the last
    report: true, and late.
    """

    def __init__(self, pool: str, model: str, url: str, slots: int, health: Health) -> None:
        self.pool = pool
        self.model = model
        self.url = url
        self.slots = slots
        self.health = health
        self.in_flight = 0
        self.tokens = 0
        self.foreign = 0.0
        self.report: Report | None = None
        self.answered = False
        """Whether it has ever answered: to a check, or to a request."""
        self.suspected = asyncio.Event()
        """Set to have it checked now, not when its time has come."""
        self.heard_at = 0.0
        """When it last began to answer a request."""
        self.is_member = True
        """False once it was taken off the list: it finishes what it has."""

    @property
    def load(self) -> float:
        """Tokens of work that it has, of all gateways."""
        return self.tokens + self.foreign

    def take_in(self, report: Report, work: float) -> None:
        """What the engine says; `work` is that of a request, as far as others' is not known."""
        self.report = report
        self.foreign = max(report.running + report.waiting - self.in_flight, 0) * work

    def began(self, work: int) -> None:
        """It was sent a request of ours."""
        self.in_flight += 1
        self.tokens += work

    def ended(self, work: int) -> None:
        """That has ended."""
        self.in_flight -= 1
        self.tokens -= work

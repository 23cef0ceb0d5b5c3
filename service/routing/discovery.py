"""Follows where the replicas of one address are, and errs on the side of those it knows.

A replica that is wrongly kept costs a health check; one that is wrongly dropped costs capacity,
and all of them an outage. So
- a failure of the DNS, or of the page, changes nothing, however long it lasts;
- *there are none* is believed once it was said three times in a row: a name server that has just
  started says it too, before it has read its records;
- that some are gone is believed at once: open streams on them go on anyway. Only addresses of an
  IP version of which the question failed are kept, and all while a page has a target that cannot
  be read.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Protocol

from service.address import Address, Kind
from service.routing.resolver import QUESTION_SECONDS, RESOLV_CONF, Resolution, Resolver
from service.routing.sd_page import SDPage

log = logging.getLogger(__name__)

MOST_ORIGINS = 4096
_NONE_BELIEVED = 3
_JITTER = 0.1


class Source(Protocol):
    """What is asked where replicas are, and what a person is told of it."""

    check: str
    """What to look at while it fails."""
    none: str
    """What it says where there are none."""

    async def resolve(self) -> Resolution:
        """Ask, once. Raises nothing."""


class Discovery:
    """Where the replicas of `address` are. `interval` is between two rounds, in seconds.

    `nameserver`, `timeout` and `resolv_conf` are those of `Resolver`; `timeout` is also a page's.
    """

    def __init__(
        self,
        address: Address,
        *,
        interval: float = 5.0,
        nameserver: str = "",
        timeout: float = QUESTION_SECONDS,
        resolv_conf: str = RESOLV_CONF,
    ) -> None:
        self.address = address
        self.origins: frozenset[str] = frozenset()
        """Those known at present."""
        self.failures = 0
        """Rounds with a failure, in all."""
        self.last_error = ""
        """What is wrong at present, for display."""
        self._interval = interval
        self._source: Source = (
            SDPage(address.url, timeout=timeout)
            if address.kind is Kind.SD
            else Resolver(address, nameserver, timeout=timeout, resolv_conf=resolv_conf)
        )
        self._nones = 0
        self._failing = False
        self._crowded = False

    async def watch(self, changed: Callable[[frozenset[str]], None]) -> None:
        """Call `changed` with all origins whenever they are others, until cancelled.

        It begins with none known: the first call has at least one.
        """
        if self.address.kind is Kind.STATIC:
            self._learn(frozenset({str(self.address)}), changed)
            await asyncio.Event().wait()
        while True:
            self._learn(self._believed(await self._source.resolve()), changed)
            await asyncio.sleep(self._interval * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311

    def _learn(self, origins: frozenset[str], changed: Callable[[frozenset[str]], None]) -> None:
        if origins != self.origins:
            self.origins = origins
            changed(origins)

    def _believed(self, resolution: Resolution) -> frozenset[str]:
        """What is taken to be true after a round."""
        if resolution.error:
            self._nones = 0
            self._note_failure(resolution.error)
            if not resolution.origins:
                return self.origins
        elif not resolution.origins:
            return self._none()
        else:
            self._nones = 0
            self._note_answer()
        kept = {origin for origin in self.origins if _version(origin) in resolution.unsure}
        return self._bounded(resolution.origins | kept)

    def _none(self) -> frozenset[str]:
        self._nones += 1
        if self._nones < _NONE_BELIEVED:
            return self.origins
        if self._nones == _NONE_BELIEVED:
            self._note_answer()
            self.last_error = f"{self.address}: {self._source.none}"
            log.warning(
                "%s: %s: no replica is ready, or the URL is wrong", self.address, self._source.none
            )
        return frozenset()

    def _note_failure(self, error: str) -> None:
        self.failures += 1
        self.last_error = error
        if not self._failing:
            log.warning(
                "questions about %s fail; the replicas known from it stay (%d). %s: %s",
                self.address,
                len(self.origins),
                self._source.check,
                error,
            )
        self._failing = True

    def _note_answer(self) -> None:
        if self._failing:
            log.warning("questions about %s are answered again", self.address)
        self._failing = False
        self.last_error = ""

    def _bounded(self, origins: frozenset[str]) -> frozenset[str]:
        crowded = len(origins) > MOST_ORIGINS
        if crowded and not self._crowded:
            log.warning(
                "%s has %d replicas, of which %d are used: spread them over more upstreams",
                self.address,
                len(origins),
                MOST_ORIGINS,
            )
        self._crowded = crowded
        # The same ones each time: the order in which they come changes.
        return frozenset(sorted(origins)[:MOST_ORIGINS]) if crowded else origins


def _version(origin: str) -> int:
    return 6 if "[" in origin else 4

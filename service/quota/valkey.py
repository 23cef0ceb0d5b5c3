"""Counters that all gateways share, in Valkey or Redis: one script, one round trip an operation."""

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Self, TypeVar

import msgspec
from pydantic import SecretStr
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from service.quota.calendar import Windows
from service.quota.counters import MEMORY, SECOND
from service.quota.reservation import Level, Outcome, Reservation, Scope, Settled
from service.quota.store import StoreUnavailable
from service.quota.valkey_pool import Command
from service.quota.valkey_servers import Servers, servers
from service.quota.valkey_url import parse

T = TypeVar("T")

_GATEWAYS = "gptoss:gateways"
# Lua's stack is bounded, and so is the time that others wait for one script.
_IDS = 1000
_SCRIPTS_AT_ONCE = 50

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Reservation).decode


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, and its name in the server."""

    source: str
    sha: str

    @classmethod
    def load(cls, *names: str) -> Self:
        """The files of those names, one after the other."""
        folder = files("service.quota") / "lua"
        source = "\n".join((folder / f"{name}.lua").read_text() for name in names)
        # The name that the server gives it, no signature.
        return cls(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


_RESERVE = Script.load("common", "reserve")
_SETTLE = Script.load("common", "settle")
_RENEW = Script.load("common", "renew")
_LEVELS = Script.load("common", "levels")
_ALIVE = Script.load("gateways")


@dataclass(frozen=True, slots=True)
class _Call:
    script: Script
    key: str
    arguments: tuple[Any, ...]

    def by_name(self) -> Command:
        return ("EVALSHA", self.script.sha, 1, self.key, *self.arguments)

    def in_full(self) -> Command:
        return ("EVAL", self.script.source, 1, self.key, *self.arguments)


class ValkeyStore:
    """All teams' counters. `lease` and `timeout` are in seconds; no call takes longer than that."""

    def __init__(self, servers: Servers, lease: float, timeout: float) -> None:
        self._servers = servers
        self._lease = int(lease * SECOND)
        self._timeout = timeout

    @classmethod
    def connect(cls, url: SecretStr, lease: float, timeout: float) -> Self:
        """The store at a URL. Raises `UserError` if it is none. Connects with the first call."""
        return cls(servers(parse(url)), lease, timeout)

    async def reserve(self, reservation: Reservation) -> Outcome:
        """Take a reservation on all of its limits, or on none."""
        arguments = (_encode(reservation), self._lease, MEMORY)
        call = _Call(_RESERVE, _leases(reservation.team), arguments)
        _, granted, levels, expired = await self._run(call)
        return Outcome(granted == 1, _levels(levels), tuple(map(_decode, expired)))

    async def settle(self, settled: Settled) -> tuple[Reservation, ...]:
        """End a reservation. May be repeated. Returns others that were found expired."""
        reservation = settled.reservation
        arguments = (_encode(reservation), settled.tokens, settled.requests, MEMORY)
        _, expired = await self._run(_Call(_SETTLE, _leases(reservation.team), arguments))
        return tuple(map(_decode, expired))

    async def renew(self, gateway: str, open: Mapping[str, Iterable[str]]) -> int:
        """Extend leases, and say that this gateway lives. Returns how many do.

        The time limit is for one batch of leases at a time.
        """
        calls = [
            _Call(_RENEW, _leases(team), (self._lease, *chunk))
            for team, ids in open.items()
            for chunk in _chunks(ids, _IDS)
        ]
        for batch in _chunks(calls, _SCRIPTS_AT_ONCE):
            await self._run_all(batch)
        alive: int = await self._run(_Call(_ALIVE, _GATEWAYS, (gateway, self._lease)))
        return alive

    async def levels(
        self, team: str, scopes: tuple[Scope, ...], windows: Windows
    ) -> tuple[Level, ...]:
        """How much of each scope is used."""
        asked = _encode({"scopes": scopes, "windows": windows})
        _, levels = await self._run(_Call(_LEVELS, _leases(team), (asked,)))
        return _levels(levels)

    async def close(self) -> None:
        """Close all connections."""
        await self._servers.close()

    async def _run(self, call: _Call) -> Any:
        return (await self._run_all([call]))[0]

    async def _run_all(self, calls: Sequence[_Call]) -> list[Any]:
        return await self._guarded(self._evaluate(calls))

    async def _guarded(self, work: Awaitable[T]) -> T:
        try:
            return await within(self._timeout, work)
        except TimeoutError:
            raise StoreUnavailable(f"no answer within {self._timeout * 1000:.0f} ms") from None
        except (AuthenticationError, AuthorizationError):
            raise StoreUnavailable(
                "the store refuses user or password: mend the setting quota.url"
            ) from None
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"{type(error).__name__}: {_line(error)}") from None

    async def _evaluate(self, calls: Sequence[_Call]) -> list[Any]:
        replies = await self._servers.exchange([(call.key, call.by_name()) for call in calls])
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # restarted, flushed, or another server; EVAL also makes the name known
            again = [(calls[i].key, calls[i].in_full()) for i in unknown]
            for i, reply in zip(unknown, await self._servers.exchange(again), strict=True):
                replies[i] = reply
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies


class _LastTurns:
    """Ends a time limit, a few turns of the event loop late.

    When this loop was busy with something else for longer than the limit, the limit and the
    reply are found due at the same time, and the reply deserves to win: the server was in time. It
    needs one turn to be read from the socket and one to wake up who waits for it; uvloop runs
    timers before it looks at sockets, which makes three.
    """

    TURNS = 3

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._left = self.TURNS
        self._next: asyncio.Handle = self._loop.call_later(seconds, self._turn)

    def _turn(self) -> None:
        if self._left:
            self._left -= 1
            self._next = self._loop.call_soon(self._turn)
        else:
            self._limit.reschedule(self._loop.time())

    def cancel(self) -> None:
        self._next.cancel()


async def within(seconds: float, work: Awaitable[T]) -> T:
    """What `work` returns, or `TimeoutError` after that time."""
    async with asyncio.timeout(None) as limit:
        end = _LastTurns(limit, seconds)
        try:
            return await work
        finally:
            end.cancel()


def _leases(team: str) -> str:
    return f"gptoss:{{{team}}}:leases"


def _levels(levels: list[list[int]]) -> tuple[Level, ...]:
    return tuple(Level(*level) for level in levels)


def _chunks(items: Iterable[T], size: int) -> Iterable[list[T]]:
    rest = iter(items)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

"""Counters that all gateways share, in Valkey or Redis: one script, one round trip an operation."""

import asyncio
import hashlib
import itertools
import re
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Self, TypeVar

import msgspec
from pydantic import SecretStr
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from service.quota.calendar import Windows
from service.quota.counters import MEMORY, SECOND
from service.quota.reservation import Level, Outcome, Reservation, Scope, Settled
from service.quota.store import Beat, StoreFailed, StoreSlow, StoreUnavailable, Used
from service.quota.valkey_pipeline import Command
from service.quota.valkey_servers import Servers, servers
from service.quota.valkey_url import parse

T = TypeVar("T")

_GATEWAYS = "gptoss:gateways"
# Lua's stack is bounded, and so is the time that others wait for one script.
_IDS = 1000
_SCRIPTS_AT_ONCE = 50
# Errors of the server, not of the one call: another call would have it as well.
_OF_THE_SERVER = re.compile(
    r"\b(OOM|LOADING|READONLY|CLUSTERDOWN|MISCONF|NOAUTH|NOPERM|NOREPLICAS|BUSY|MASTERDOWN|TRYAGAIN)\b"
)

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
_EXPIRED = Script.load("common", "expired")
_RESTORE = Script.load("common", "restore")
_BEAT = Script.load("gateways")


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
        # When each place last answered in time.
        self._answered: dict[str, float] = {}
        self._with_expired: set[str] = set()

    @classmethod
    def connect(cls, url: SecretStr, lease: float, timeout: float) -> Self:
        """The store at a URL. Raises `UserError` if it is none. Connects with the first call."""
        return cls(servers(parse(url)), lease, timeout)

    def place(self, team: str = "") -> str:
        """The server that has a team's counters, or else the list of gateways."""
        return self._servers.place(_leases(team) if team else _GATEWAYS)

    async def reserve(self, reservation: Reservation) -> Outcome:
        """Take a reservation on all of its limits, or on none."""
        team = reservation.team
        call = _Call(_RESERVE, _leases(team), (_encode(reservation), self._lease, MEMORY))
        _, granted, levels, expired = await self._run(call)
        self._note(team, expired)
        return Outcome(granted == 1, _levels(levels))

    async def settle(self, settled: Settled) -> None:
        """End a reservation. May be repeated."""
        reservation = settled.reservation
        arguments = (_encode(reservation), settled.tokens, settled.requests, MEMORY)
        _, expired = await self._run(_Call(_SETTLE, _leases(reservation.team), arguments))
        self._note(reservation.team, expired)

    async def renew(self, open: Mapping[str, Iterable[str]]) -> None:
        """Extend leases. The time limit is for one batch of them at a time."""
        calls = [
            _Call(_RENEW, _leases(team), (self._lease, *chunk))
            for team, ids in open.items()
            for chunk in _chunks(ids, _IDS)
        ]
        for batch in _chunks(calls, _SCRIPTS_AT_ONCE):
            await self._run_all(batch)

    async def levels(
        self, team: str, scopes: tuple[Scope, ...], windows: Windows
    ) -> tuple[Level, ...]:
        """How much of each scope is used."""
        asked = _encode({"scopes": scopes, "windows": windows})
        _, levels, expired = await self._run(_Call(_LEVELS, _leases(team), (asked, MEMORY)))
        self._note(team, expired)
        return _levels(levels)

    async def expired(self, told: Iterable[Reservation]) -> tuple[Reservation, ...]:
        """Of the teams that were lately said to have expired ones, and those told already."""
        teams: dict[str, list[str]] = {team: [] for team in self._with_expired}
        for reservation in told:
            teams.setdefault(reservation.team, []).append(reservation.id)
        found: list[Reservation] = []
        for team, ids in teams.items():
            self._with_expired.discard(team)
            try:
                _, untold = await self._run(_Call(_EXPIRED, _leases(team), tuple(ids)))
            except StoreFailed:
                continue
            except StoreUnavailable:
                self._with_expired.add(team)
                continue
            found += map(_decode, untold)
        return tuple(found)

    async def beat(self, gateway: str, restored: bool = False) -> Beat:
        """Say that a gateway lives; and that the store now knows what the ledger knows."""
        arguments = (gateway, self._lease, int(restored))
        return Beat(*await self._run(_Call(_BEAT, _GATEWAYS, arguments)))

    async def restore(self, team: str, used: Used) -> None:
        """Raise what was used to what the ledger says. May be repeated."""
        await self._run(_Call(_RESTORE, _leases(team), (_encode(used),)))

    async def close(self) -> None:
        """Close all connections."""
        await self._servers.close()

    def _note(self, team: str, expired: int) -> None:
        if expired:
            self._with_expired.add(team)

    async def _run(self, call: _Call) -> Any:
        return (await self._run_all([call]))[0]

    async def _run_all(self, calls: Sequence[_Call]) -> list[Any]:
        loop = asyncio.get_running_loop()
        place, began = self._servers.place(calls[0].key), loop.time()
        try:
            replies = await within(self._timeout, self._evaluate(calls))
        except TimeoutError:
            # It answers others, or this process was too busy to ask it in time.
            is_slow = (
                self._answered.get(place, 0.0) > began
                or self._servers.owes(calls[0].key) < self._timeout
            )
            kind = StoreSlow if is_slow else StoreUnavailable
            raise kind(f"no answer within {self._timeout * 1000:.0f} ms") from None
        except (AuthenticationError, AuthorizationError):
            raise StoreUnavailable(
                "the store refuses user or password: mend the setting quota.url"
            ) from None
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"{type(error).__name__}: {_line(error)}") from None
        self._answered[place] = loop.time()
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise _failure(reply)
        return replies

    async def _evaluate(self, calls: Sequence[_Call]) -> list[Any]:
        replies = await self._servers.exchange([(call.key, call.by_name()) for call in calls])
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # restarted, flushed, or another server; EVAL also makes the name known
            again = [(calls[i].key, calls[i].in_full()) for i in unknown]
            for i, reply in zip(unknown, await self._servers.exchange(again), strict=True):
                replies[i] = reply
        return replies


def _failure(error: ResponseError) -> StoreUnavailable:
    text = f"{error.status_code or type(error).__name__} {_line(error)}"
    of_the_server = isinstance(error, AskError) or _OF_THE_SERVER.search(text)
    return (StoreUnavailable if of_the_server else StoreFailed)(text)


class _LastTurns:
    """Ends a time limit, a few turns of the event loop late.

    When this loop was busy with something else for longer than the limit, the limit and the
    reply are found due at the same time, and the reply deserves to win: the server was in time. It
    needs one turn to be read from the socket, one to wake up who reads, and one to wake up who
    waits for it; uvloop runs timers before it looks at sockets, which makes four.
    """

    TURNS = 4

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

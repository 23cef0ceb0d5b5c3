"""Clients of a real engine, or of gateways in front of some, and what became of each request."""

import asyncio
import itertools
import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

# Longer than any timeout of the gateway: what comes to this hangs.
_PATIENCE = 120.0
_WHOLE_ONE_IN = 4


@dataclass(frozen=True)
class Place:
    """Where to ask, as whom, for what."""

    url: str
    key: str
    model: str
    extra: Mapping[str, Any] | None = None


@dataclass
class Outcome:
    """How one request went."""

    place: Place
    streamed: bool
    asked: int
    """Tokens that the answer should have."""
    began: float = 0.0
    first: float = 0.0
    ended: float = 0.0
    status: int = 0
    id: str = ""
    code: str = ""
    """Of the error: of the answer, or of the event with which the stream ended."""
    used: int = 0
    """Tokens that it had."""
    complete: bool = False
    broken: str = ""
    """What happened to the connection, if it was not ended in order."""

    @property
    def ok(self) -> bool:
        """Whether all of the answer came."""
        return self.complete and self.used == self.asked and not (self.code or self.broken)

    @property
    def ttft(self) -> float:
        return self.first - self.began

    @property
    def seconds(self) -> float:
        return self.ended - self.began


async def ask(
    session: ClientSession,
    place: Place,
    messages: list[dict[str, str]],
    tokens: int,
    *,
    streamed: bool = True,
) -> Outcome:
    """One request for so many tokens. Nothing is raised: the outcome says what went wrong."""
    outcome = Outcome(place, streamed, tokens, began=time.monotonic())
    body = {
        "model": place.model,
        "messages": messages,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": streamed,
        **({"stream_options": {"include_usage": True}} if streamed else {}),
        **(place.extra or {}),
    }
    headers = {"authorization": f"Bearer {place.key}"}
    try:
        async with session.post(
            f"{place.url}/v1/chat/completions", json=body, headers=headers
        ) as answer:
            await _read(answer, outcome)
    except (ClientError, ConnectionError, TimeoutError) as error:
        outcome.broken = type(error).__name__
    outcome.ended = time.monotonic()
    return outcome


async def _read(answer: ClientResponse, outcome: Outcome) -> None:
    outcome.status, outcome.id = answer.status, answer.headers.get("x-request-id", "")
    if answer.status != 200 or not outcome.streamed:
        _take(await answer.json(), outcome)
        outcome.complete = answer.status == 200
        return
    async for line in answer.content:
        data = line.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            outcome.complete = True
        elif line.startswith(b"data: "):
            _take(json.loads(data), outcome)


def _take(document: dict[str, Any], outcome: Outcome) -> None:
    """One event of a stream, or a whole answer."""
    if error := document.get("error"):
        outcome.code = str(error["code"])
        return
    outcome.first = outcome.first or time.monotonic()
    if usage := document.get("usage"):
        outcome.used = usage["completion_tokens"]


def session() -> ClientSession:
    return ClientSession(timeout=ClientTimeout(total=_PATIENCE))


class Load:
    """Clients that ask one request after the other, from `with` on until its end.

    Most are streams, of up to `tokens` tokens. Each is a conversation of its own, so that all
    engines get their share. A client waits for `pause` seconds between two.
    """

    _numbers = itertools.count()

    def __init__(
        self, place: Place, *, clients: int, tokens: int, pause: float = 0.0, whole: bool = True
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._place = place
        self._clients = clients
        self._tokens = tokens
        self._pause = pause
        self._whole = whole
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * _PATIENCE)
        assert not self._thread.is_alive(), "a client hangs"

    def more(self, requests: int, seconds: float = 90) -> None:
        """Wait until so many more requests have ended."""
        wanted, deadline = len(self.outcomes) + requests, time.monotonic() + seconds
        while (ended := len(self.outcomes)) < wanted:
            assert time.monotonic() < deadline, f"{wanted - ended} of {requests} have not ended"
            time.sleep(0.02)

    @property
    def failed(self) -> list[Outcome]:
        """Those that did not get all of their answer."""
        return [outcome for outcome in self.outcomes if not outcome.ok]

    async def _run(self) -> None:
        async with session() as connections:
            await asyncio.gather(*(self._ask_on(connections) for _ in range(self._clients)))

    async def _ask_on(self, connections: ClientSession) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            # The cue, which the tiny model goes by, is the last word.
            text = f"This is number {number}, so count"
            outcome = await ask(
                connections,
                self._place,
                [{"role": "user", "content": text}],
                # Not always as many, so that the clients do not keep step with each other.
                random.randint(self._tokens // 2, self._tokens),
                streamed=not (self._whole and number % _WHOLE_ONE_IN == 0),
            )
            self.outcomes.append(outcome)
            await asyncio.sleep(self._pause)

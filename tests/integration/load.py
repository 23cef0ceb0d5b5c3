"""A steady load of streams, and what became of each request.

The clients do what a load balancer in front of several gateways does, and nothing more: a request
that a gateway turns away because it ends, or that finds nobody at its port, goes to the next one.
"""

import asyncio
import itertools
import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession, ClientTimeout

CHAT = "/v1/chat/completions"
# Of a client that was told that something is wrong, so that it does not ask in a circle.
_PAUSE = 0.05
_PATIENCE = 30.0
_WHOLE_ONE_IN = 4


@dataclass
class Outcome:
    """How one request went."""

    streamed: bool
    began: float
    asked: int = 0
    """Tokens that the answer should have."""
    status: int = 0
    code: str = ""
    """Of the error: of the answer, or of the event with which the stream ended."""
    gateway: str = ""
    """The last one that was asked."""
    replica: str = ""
    """Who wrote the tokens that came, `host:port`."""
    tokens: int = 0
    complete: bool = False
    broken: str = ""
    """What happened to the connection, if it was neither ended in order nor refused."""
    passed_on: int = 0
    """Gateways that did not take it."""
    first: float = 0.0
    ended: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)

    mixed: bool = False
    """Whether two replicas wrote it: a part was sent twice."""

    @property
    def ok(self) -> bool:
        """Whether all of the answer came, and once."""
        whole = self.tokens == (self.asked if self.streamed else 1)
        return self.complete and whole and not (self.code or self.broken or self.mixed)

    @property
    def seconds(self) -> float:
        """From the first try to the end."""
        return self.ended - self.began

    @property
    def id(self) -> str:
        """The request's, as its gateway calls it."""
        return self.headers.get("x-request-id", "")


class Load:
    """Clients that ask one after the other without a pause, from `with` on until its end."""

    def __init__(
        self,
        urls: Sequence[str],
        key: str,
        *,
        clients: int = 12,
        model: str = "tiny",
        tokens: int = 15,
        whole: bool = True,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._urls = urls
        self._headers = {"authorization": f"Bearer {key}"}
        self._clients = clients
        self._model = model
        self._tokens = tokens
        self._whole = whole
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * _PATIENCE)
        assert not self._thread.is_alive(), "a client hangs"

    def more(self, requests: int, seconds: float = 30) -> int:
        """Wait until so many more requests have ended. Returns how many there were before."""
        before = len(self.outcomes)
        deadline = time.monotonic() + seconds
        while len(self.outcomes) < before + requests:
            assert time.monotonic() < deadline, f"{len(self.outcomes) - before} requests ended"
            time.sleep(0.01)
        return before

    def new(self, requests: int) -> list[Outcome]:
        """At least so many that begin from now on, once they have ended."""
        at = time.monotonic()
        since = self.more(requests)
        while len(found := [one for one in self.outcomes[since:] if one.began > at]) < requests:
            self.more(1)
        return found

    @property
    def failed(self) -> list[Outcome]:
        """Those that did not get all of their answer."""
        return [outcome for outcome in self.outcomes if not outcome.ok]

    async def _run(self) -> None:
        timeout = ClientTimeout(total=_PATIENCE)
        async with ClientSession(headers=self._headers, timeout=timeout) as session:
            await asyncio.gather(*(self._ask_on(session, n) for n in range(self._clients)))

    async def _ask_on(self, session: ClientSession, number: int) -> None:
        place = number
        while not self._stop.is_set():
            streamed = not (self._whole and next(self._numbers) % _WHOLE_ONE_IN == 0)
            outcome = Outcome(streamed, time.monotonic())
            place = await self._ask(session, place, outcome)
            outcome.ended = time.monotonic()
            self.outcomes.append(outcome)
            if not outcome.ok:
                await asyncio.sleep(_PAUSE)

    async def _ask(self, session: ClientSession, place: int, outcome: Outcome) -> int:
        """Ask the gateway at `place`, or the next one that takes it. Returns which that was."""
        for attempt in range(place, place + 3 * len(self._urls)):
            url = outcome.gateway = self._urls[attempt % len(self._urls)]
            try:
                async with session.post(url + CHAT, json=self._body(outcome)) as response:
                    await _read(response, outcome)
            except ClientConnectorError:
                outcome.passed_on += 1
            except (ClientError, ConnectionError, TimeoutError) as error:
                outcome.broken = type(error).__name__
                return attempt
            else:
                if outcome.code != "gateway_draining":
                    return attempt
                outcome.passed_on += 1
                outcome.code = ""
            await asyncio.sleep(0.01)
        outcome.code = "no_gateway"
        return place

    def _body(self, outcome: Outcome) -> dict[str, Any]:
        # A conversation of its own, so that all replicas get their share; and not always as many
        # tokens, so that the clients do not keep step with each other.
        outcome.asked = random.randint(self._tokens // 2, self._tokens)
        text = f"{outcome.asked} tokens, conversation {next(self._numbers)}"
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": text}],
            "stream": outcome.streamed,
        }


async def _read(response: ClientResponse, outcome: Outcome) -> None:
    outcome.status = response.status
    outcome.headers = {name.lower(): value for name, value in response.headers.items()}
    if response.status != 200 or not outcome.streamed:
        _take(await response.json(), outcome)
        outcome.complete = response.status == 200
        return
    async for line in response.content:
        data = line.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            outcome.complete = True
        elif line.startswith(b"data: "):
            _take(json.loads(data), outcome)


def _take(document: dict[str, Any], outcome: Outcome) -> None:
    """One event of a stream, or a whole answer."""
    if "error" in document:
        outcome.code = document["error"]["code"]
        return
    for choice in document["choices"]:
        content = (choice.get("delta") or choice.get("message") or {}).get("content")
        if content:
            outcome.first = outcome.first or time.monotonic()
            outcome.replica = outcome.replica or content
            outcome.mixed |= outcome.replica != content
            outcome.tokens += 1

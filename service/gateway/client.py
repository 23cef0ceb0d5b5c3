"""The client's side of a request: its body, and its leaving."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from service.gateway import errors

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

CONNECTION = "gptoss.connection"
"""ASGI extension: the request's `ClientConnection`, by which it is answered."""

# What is read, and thrown away, of a body that is too large. A client that is still sending when
# the connection closes sees a reset instead of the 413 that tells it why.
_DISCARD_BYTES = 64 << 20
_DISCARD_SECONDS = 10.0


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


class ClientStalled(Exception):
    """The client stopped reading its answer."""


class ClientConnection(Protocol):
    """What ASGI has no word for: an answer in calls that do not wait, and the wait apart."""

    @property
    def is_full(self) -> bool:
        """Whether the client reads so slowly that what is sent to it is kept here."""

    async def drained(self) -> None:
        """Wait until it has read so much that it is not full any more, or has left."""

    def body(self) -> bytes | None:
        """The whole body of the request, once, if all of it is here."""

    def respond(self, status: int, headers: Headers, body: bytes | None) -> None:
        """Begin an answer that `write` goes on with and `end` ends; with a `body`, give all of
        it: then its length is among the headers."""

    def write(self, body: bytes) -> None:
        """A piece of an answer that has begun, never an empty one: at once, whatever is kept."""

    def end(self) -> None:
        """The end of an answer that has begun."""

    def abort(self) -> None:
        """Close at once, unsent bytes and all."""

    def watch(self, gone: Callable[[], None] | None) -> None:
        """Have `gone` called when the client leaves, or nobody any more."""


async def read_body(
    client: ClientConnection, receive: Receive, headers: Headers, *, limit: int, seconds: float
) -> bytes:
    """The whole request body.

    Raises `APIError` for more than `limit` bytes (413) or a body that takes longer than
    `seconds` (408), and `ClientGone`.
    """
    named = dict(headers)
    declared = named.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        if named.get(b"expect", b"").lower() != b"100-continue":  # else nothing is on its way
            await _discard(receive)
        raise errors.body_too_large(limit)
    here = client.body()
    if here is not None:  # as nearly always: then nothing has to be waited for
        if len(here) > limit:
            raise errors.body_too_large(limit)
        return here
    try:
        async with asyncio.timeout(seconds):
            body, more = await _collect(receive, limit)
    except TimeoutError:
        raise errors.body_too_slow(seconds) from None
    if len(body) > limit:
        if more:
            await _discard(receive)
        raise errors.body_too_large(limit)
    return body


async def _collect(receive: Receive, limit: int) -> tuple[bytes, bool]:
    """The body, up to what goes past `limit`, and whether more of it is to come."""
    parts: list[bytes] = []
    size, more = 0, True
    while more and size <= limit:
        part, more = await _part(receive)
        size += len(part)
        parts.append(part)
    return b"".join(parts), more


async def _discard(receive: Receive) -> None:
    size, more = 0, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while more and size < _DISCARD_BYTES:
                part, more = await _part(receive)
                size += len(part)


async def _part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)


class UntilGone:
    """A block that lasts until it ends or the client leaves: that cancels it and raises
    `ClientGone`.

    A context manager. The body must have been read: all that can still come from the client is its
    leaving. Once `answered` is true nothing is lost by it.
    """

    __slots__ = ("_answered", "_client", "_gone", "_task")

    def __init__(self, client: ClientConnection, answered: Callable[[], bool]) -> None:
        self._client = client
        self._answered = answered
        self._gone = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._client.watch(self._leave)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.watch(None)
        # Ours, unless somebody else cancelled this task too (the server, at the end of a drain).
        if self._gone and kind is asyncio.CancelledError and self._task.uncancel() == 0:
            raise ClientGone from None

    def _leave(self) -> None:
        if not self._answered():
            self._gone = True
            self._task.cancel()

"""The client's side of a request: its body, and its leaving."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from service.gateway import errors

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# What is read, and thrown away, of a body that is too large. A client that is still sending when
# the connection closes sees a reset instead of the 413 that tells it why.
_DISCARD_BYTES = 64 << 20
_DISCARD_SECONDS = 10.0


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


class ClientStalled(Exception):
    """The client stopped reading its answer."""


async def read_body(
    receive: Receive, headers: Iterable[tuple[bytes, bytes]], *, limit: int, seconds: float
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


@contextlib.asynccontextmanager
async def until_gone(receive: Receive, answered: Callable[[], bool]) -> AsyncIterator[None]:
    """Run a block until it ends or the client leaves: that cancels it and raises `ClientGone`.

    The body must have been read: all that can still come from the client is its leaving. Servers
    say the same once they have all of the answer, which is what `answered` is about.
    """
    task = asyncio.current_task()
    assert task is not None
    watch = asyncio.ensure_future(receive())
    gone = False

    def cancel(watch: "asyncio.Future[Message]") -> None:
        nonlocal gone
        if not (watch.cancelled() or answered()):
            gone = True
            task.cancel()

    watch.add_done_callback(cancel)
    try:
        yield
    except asyncio.CancelledError:
        # Ours, unless somebody else cancelled this task too (the server, at the end of a drain).
        if gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        watch.remove_done_callback(cancel)
        watch.cancel()

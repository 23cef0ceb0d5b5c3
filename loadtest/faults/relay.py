"""One connection through the fault proxy: two ends, each of which passes its bytes to the other.

Each end reads no faster than the other takes: what is not yet taken is held once, up to the
transport's own mark, and the sender is stopped by TCP.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final, cast

# Closing with this set drops what is unsent and sends a reset, not an orderly end.
_RESET: Final = struct.pack("ii", 1, 0)


def _nothing(_: "End") -> None:
    pass


def _never() -> bool:
    return False


class End(asyncio.Protocol):
    """One side of a connection. `delay` says how long each piece waits at present, s; `made` and
    `lost` are told when the side is there, and when it is no more. While it is `denied`, what it
    begins to ask is refused: the connection is reset.

    Nothing is known here of what the bytes mean, and none of it is needed: what comes first, or
    after something from the peer, begins to ask. So who is idle is refused when it asks again; what
    is being asked or answered goes on to its end.

    A piece is what has come when the one before it was passed: behind a delayed piece others wait,
    and are then one.
    """

    def __init__(
        self,
        delay: Callable[[], float],
        made: Callable[["End"], None] = _nothing,
        lost: Callable[["End"], None] = _nothing,
        denied: Callable[[], bool] = _never,
    ) -> None:
        self.peer: End | None = None
        self._delay = delay
        self._made = made
        self._lost = lost
        self._denied = denied
        self._asking = False
        self._transport: asyncio.Transport | None = None
        self._waiting = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._peer_full = False
        self._at_end = False
        self._ended = False

    @property
    def gone(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._transport is None or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It waits until there is a peer to pass to."""
        # Those of uvloop are none by their class.
        self._transport = cast(asyncio.Transport, transport)
        self._steer()
        self._made(self)

    def data_received(self, data: bytes) -> None:
        """A piece came."""
        if not self._asking and self._denied():
            self.reset()
            return
        self._asking = True
        if self.peer is None or self._waiting:
            self._waiting += data
        elif delay := self._delay():
            self._waiting += data
            self._timer = asyncio.get_running_loop().call_later(delay, self._pass)
            self._steer()
        else:
            self.peer.write(data)

    def eof_received(self) -> bool:
        """It sends nothing more, and may still get something."""
        self._at_end = True
        if not self._waiting and self.peer is not None:
            self.peer.end()
        self._leave()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """A reset is passed on as one, an end after what was still waiting."""
        if self._timer is not None:
            self._timer.cancel()
        self._lost(self)
        if self.peer is None:
            return
        if error is not None:
            self.peer.reset()
        else:
            if self._waiting:
                self.peer.write(bytes(self._waiting))
            self.peer.close()

    def pause_writing(self) -> None:
        """It takes nothing more for now: the peer is not read."""
        if self.peer is not None:
            self.peer._peer_full = True
            self.peer._steer()

    def resume_writing(self) -> None:
        """It takes more."""
        if self.peer is not None:
            self.peer._peer_full = False
            self.peer._steer()

    def meet(self, peer: "End") -> None:
        """What came before there was a peer goes to it now."""
        self.peer = peer
        self._pass()

    def write(self, data: bytes) -> None:
        """Send it."""
        self._asking = False
        if self._transport is not None and not self.gone:
            self._transport.write(data)

    def end(self) -> None:
        """Send nothing more. When nothing more comes either, it is over."""
        self._ended = True
        if self._transport is not None and not self.gone:
            self._transport.write_eof()
            self._leave()

    def close(self) -> None:
        """In order, after what is still to be sent."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """At once: whoever is there sees its connection reset."""
        if self._transport is None:
            return
        opened = self._transport.get_extra_info("socket")
        if opened is not None and not self.gone:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _pass(self) -> None:
        self._timer = None
        data = bytes(self._waiting)
        self._waiting.clear()
        if self.peer is not None:
            if data:
                self.peer.write(data)
            if self._at_end:
                self.peer.end()
        self._leave()
        self._steer()

    def _leave(self) -> None:
        # Of its own end, and with nothing to pass: the peer has said its last before.
        if self._at_end and self._ended and not self._waiting:
            self.close()

    def _steer(self) -> None:
        """Read, or do not."""
        if self._transport is None or self.gone or self._at_end:
            return
        if self.peer is None or self._peer_full or self._waiting:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

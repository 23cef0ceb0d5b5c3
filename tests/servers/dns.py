"""A real name server, whose records change while it runs and which fails on command."""

import contextlib
import secrets
import socket
import socketserver
import struct
import threading
from collections import defaultdict, deque
from enum import StrEnum, auto
from typing import Any, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

_UDP_LIMIT = 512
_TTL = 30
# Whatever a test asks for, a held answer goes out after that.
_LONGEST_HOLD = 30.0


class Behaviour(StrEnum):
    """What becomes of a question."""

    ANSWER = auto()
    NXDOMAIN = auto()
    """There is no such name."""
    NODATA = auto()
    """The name has no such records."""
    SERVFAIL = auto()
    REFUSED = auto()
    DROP = auto()
    """Nothing, ever."""
    HOLD = auto()
    """The answer, but only once `release` was called."""
    TRUNCATE = auto()
    """By UDP only that it does not fit."""
    RUBBISH = auto()
    """Many kinds of malformed answers, by UDP."""
    TORN = auto()
    """By UDP that it does not fit, and by TCP less than was announced."""


_RCODES = {
    Behaviour.NXDOMAIN: dns.rcode.NXDOMAIN,
    Behaviour.NODATA: dns.rcode.NOERROR,
    Behaviour.SERVFAIL: dns.rcode.SERVFAIL,
    Behaviour.REFUSED: dns.rcode.REFUSED,
}


class DNS:
    """A server on one port of loopback, by UDP and TCP, in threads of this process.

    Used as a context manager; it begins without records.
    """

    def __init__(self) -> None:
        self.port = 0
        self.glue = True
        """Whether the addresses of SRV targets come with the answer."""
        self._records: dict[tuple[dns.name.Name, str], tuple[str, ...]] = {}
        self._standing: dict[str, Behaviour] = {}
        self._scripts: dict[str, deque[Behaviour]] = defaultdict(deque)
        self._asked: list[tuple[str, str, bool]] = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._running: contextlib.ExitStack | None = None

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def put(self, name: str, kind: str, *values: str) -> None:
        """Let a name have these records of a kind, and no others; without values: none."""
        with self._lock:
            self._records.pop((dns.name.from_text(name), kind), None)
            if values:
                self._records[dns.name.from_text(name), kind] = values

    def behave(self, behaviour: Behaviour, *kinds: str) -> None:
        """What becomes of questions for those kinds of records from now on; of all, if none."""
        with self._lock:
            if kinds:
                self._standing |= dict.fromkeys(kinds, behaviour)
            else:
                self._standing = {"": behaviour}

    def script(self, kind: str, *behaviours: Behaviour) -> None:
        """What becomes of the next questions for that kind, one by one, before it is as before."""
        with self._lock:
            self._scripts[kind].extend(behaviours)

    def is_scripted(self, kind: str) -> bool:
        """Whether a script is not yet at its end."""
        with self._lock:
            return bool(self._scripts[kind])

    def release(self) -> None:
        """Send what is held."""
        self._released.set()

    def asked(self, kind: str = "", *, name: str = "", by_tcp: bool = False) -> int:
        """How many questions there were, of that kind, for that name, by TCP."""
        with self._lock:
            return sum(
                kind in ("", asked) and name in ("", about) and (tcp or not by_tcp)
                for about, asked, tcp in self._asked
            )

    def start(self) -> None:
        """Listen, on the same port as before."""
        assert self._running is None, "it runs already"
        with contextlib.ExitStack() as stack:
            tcp, udp = self._sockets()
            stack.callback(tcp.close)
            stack.callback(udp.close)
            for server in (_TCPServer(self, tcp), _UDPServer(self, udp)):
                thread = threading.Thread(target=server.serve_forever, args=(0.01,))
                thread.start()
                stack.callback(thread.join)
                stack.callback(server.shutdown)
            self._running = stack.pop_all()

    def stop(self) -> None:
        """End: a question is refused by the system."""
        assert self._running is not None, "it does not run"
        self._released.set()
        self._running.close()
        self._running = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._running is not None:
            self.stop()

    def replies(self, wire: bytes, *, tcp: bool) -> list[bytes]:
        """What is sent for a question, in the order it is sent."""
        question = dns.message.from_wire(wire)
        about = question.question[0]
        kind = dns.rdatatype.to_text(about.rdtype)
        behaviour = self._note(about.name.to_text(omit_final_dot=True), kind, tcp)
        if behaviour is Behaviour.DROP:
            return []
        if behaviour is Behaviour.HOLD:
            self._released.wait(_LONGEST_HOLD)
        if behaviour is Behaviour.RUBBISH and not tcp:
            return _rubbish(wire, self._answer(question, behaviour).to_wire())
        answer = self._answer(question, behaviour)
        if tcp:
            whole = answer.to_wire(max_size=65535)
            return [whole[: len(whole) // 2] if behaviour is Behaviour.TORN else whole]
        if behaviour not in (Behaviour.TRUNCATE, Behaviour.TORN):
            with contextlib.suppress(dns.exception.TooBig):
                return [answer.to_wire(max_size=_UDP_LIMIT)]
        truncated = dns.message.make_response(question)
        truncated.flags |= dns.flags.TC
        return [truncated.to_wire()]

    def _note(self, name: str, kind: str, tcp: bool) -> Behaviour:
        with self._lock:
            self._asked.append((name, kind, tcp))
            if self._scripts[kind]:
                return self._scripts[kind].popleft()
            standing = self._standing.get("", Behaviour.ANSWER)
            return self._standing.get(kind, standing)

    def _answer(self, question: dns.message.Message, behaviour: Behaviour) -> dns.message.Message:
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.AA
        if behaviour in _RCODES:
            answer.set_rcode(_RCODES[behaviour])
            return answer
        about = question.question[0]
        with self._lock:
            found = self._rrset(about.name, dns.rdatatype.to_text(about.rdtype))
            if found:
                answer.answer.append(found)
            elif not any(name == about.name for name, _ in self._records):
                answer.set_rcode(dns.rcode.NXDOMAIN)
            if found and self.glue and about.rdtype == dns.rdatatype.SRV:
                targets = {record.target for record in found}
                glue = (self._rrset(name, kind) for name in targets for kind in ("A", "AAAA"))
                answer.additional.extend(rrset for rrset in glue if rrset)
        return answer

    def _rrset(self, name: dns.name.Name, kind: str) -> dns.rrset.RRset | None:
        values = self._records.get((name, kind))
        return dns.rrset.from_text_list(name, _TTL, "IN", kind, values) if values else None

    def _sockets(self) -> tuple[socket.socket, socket.socket]:
        """One port for both."""
        while True:
            tcp = socket.create_server(("127.0.0.1", self.port), backlog=128)
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                tcp.close()
                udp.close()
                if self.port:
                    raise
                continue
            self.port = int(tcp.getsockname()[1])
            return tcp, udp


class _UDPServer(socketserver.ThreadingUDPServer):
    daemon_threads = True

    def __init__(self, owner: DNS, listener: socket.socket) -> None:
        super().__init__(("127.0.0.1", 0), _UDPHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.owner = owner


class _TCPServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, owner: DNS, listener: socket.socket) -> None:
        super().__init__(("127.0.0.1", 0), _TCPHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.owner = owner


class _UDPHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        wire, sender = self.request
        for reply in self._owner().replies(wire, tcp=False):
            with contextlib.suppress(OSError):  # whoever asked has given up, or the test is over
                sender.sendto(reply, self.client_address)

    def _owner(self) -> DNS:
        assert isinstance(self.server, _UDPServer)
        return self.server.owner


class _TCPHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _TCPServer)
        with contextlib.suppress(OSError):
            while len(prefix := self.rfile.read(2)) == 2:
                wire = self.rfile.read(*struct.unpack("!H", prefix))
                for reply in self.server.owner.replies(wire, tcp=True):
                    self.wfile.write(struct.pack("!H", len(reply)) + reply)


def _rubbish(question: bytes, answer: bytes) -> list[bytes]:
    """Answers that must not be believed: to no one's question, cut off, or no answers at all."""
    other = bytes([question[0] ^ 0xFF]) + answer[1:]
    counts: Any = struct.pack("!4H", 1, 999, 0, 0)
    return [
        b"",
        secrets.token_bytes(100),
        question,
        other,
        answer[:7],
        answer[: len(answer) - 3],
        answer[:4] + counts + answer[12:],
        answer + b"more",
    ]

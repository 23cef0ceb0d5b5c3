"""Connections to engines over real sockets: kept, closed, held up, refused."""

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from service.gateway import connections as pool
from service.gateway.connection import Broken
from service.gateway.connections import Connections
from service.gateway.dialer import Unreachable, origin_of
from service.tenants.team import Team
from tests.certificate import certificate_for
from tests.integration.conftest import IDLE_TIMEOUT
from tests.integration.fake_engine import EVENT, Call, FakeEngine, json_answer
from tests.integration.test_gateway import CHAT, ask
from tests.integration.waiting import wait_for
from tests.office import Office
from tests.process import GPTOSS, environment, free_port, running

ANSWER = json_answer(200, {})
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Asked:
    """A reader that waits for its answer."""

    def __init__(self) -> None:
        self.body = b""
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def begun(self, status: int, media_type: bytes) -> None:
        self.body = b""

    def received(self, data: bytes) -> None:
        self.body += data

    def ended(self) -> None:
        self.over.set_result("whole")

    def failed(self, broken: Broken) -> None:
        self.over.set_result("broken")


async def answered(connections: Connections, url: str) -> str:
    """One request: how its answer ended."""
    lease = connections.to(url)
    async with lease as connection:
        asked = Asked()
        head = b"POST / HTTP/1.1\r\nhost: %b\r\ncontent-length: 2\r\n\r\n" % lease.authority
        connection.ask(head, b"{}", asked)
        return await asked.over


@dataclass
class Engine:
    """Connections that came, and requests on them."""

    port: int = 0
    opened: int = 0
    requests: int = 0
    heads: tuple[bytes, ...] = ()

    async def next(self, reader: asyncio.StreamReader) -> bool:
        """Read a request. False where the other side has closed."""
        try:
            self.heads += (await reader.readuntil(b"\r\n\r\n"),)
            await reader.readexactly(2)
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        self.requests += 1
        return True

    async def well(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer all."""
        while await self.next(reader):
            writer.write(ANSWER)


@contextlib.asynccontextmanager
async def engine(
    serve: Callable[[Engine], Serve] = lambda engine: engine.well,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Engine]:
    made = Engine()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.opened += 1
        with contextlib.suppress(ConnectionError):
            await serve(made)(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, host, 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def run(
    test: Callable[[], Any], loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
) -> None:
    """On the event loop of the gateway."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # of what the pool does nobody is told
        await asyncio.sleep(0.005)


# --- kept


def test_a_connection_is_kept_for_the_next_request() -> None:
    async def test() -> None:
        async with engine() as made, Connections(5) as connections:
            url = f"http://127.0.0.1:{made.port}"
            for _ in range(5):
                assert await answered(connections, url) == "whole"
            assert (made.opened, made.requests, connections.idle) == (1, 5, 1)
            await asyncio.gather(*(answered(connections, url) for _ in range(3)))
            assert made.opened == connections.idle == 3

    run(test)


def test_one_that_the_engine_has_closed_is_not_used() -> None:
    """As vLLM does after 5 s without a request."""

    async def test() -> None:
        def closing(made: Engine) -> Serve:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await made.next(reader)
                writer.write(ANSWER)

            return serve

        async with engine(closing) as made, Connections(5) as connections:
            url = f"http://127.0.0.1:{made.port}"
            for number in range(1, 4):
                assert await answered(connections, url) == "whole"
                await until(lambda: connections.idle == 0)
                assert made.opened == number

    run(test)


def test_a_request_that_meets_the_closing_is_not_sent_a_second_time() -> None:
    """It may have reached the engine: whether to repeat it, and where, is not decided here."""

    async def test() -> None:
        def racing(made: Engine) -> Serve:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await made.next(reader)
                writer.write(ANSWER)
                await made.next(reader)  # and closes

            return serve

        async with engine(racing) as made, Connections(5) as connections:
            url = f"http://127.0.0.1:{made.port}"
            assert await answered(connections, url) == "whole"
            assert await answered(connections, url) == "broken"
            assert (made.opened, made.requests) == (1, 2)

    run(test)


def test_one_that_was_idle_for_too_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "KEEP_SECONDS", 0.2)
    ends: list[float] = []

    async def test() -> None:
        def timed(made: Engine) -> Serve:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while await made.next(reader):
                    writer.write(ANSWER)
                    idle = time.monotonic()
                ends.append(time.monotonic() - idle)

            return serve

        async with engine(timed) as made, Connections(5) as connections:
            url = f"http://127.0.0.1:{made.port}"
            await asyncio.gather(*(answered(connections, url) for _ in range(3)))
            await until(lambda: len(ends) == 3)
            assert connections.idle == 0
            assert min(ends) > 0.15

    run(test)


def test_what_is_left_of_an_answer_is_waited_for_only_shortly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "LINGER_SECONDS", 0.3)

    async def test() -> None:
        rest, closed = asyncio.Event(), asyncio.Event()

        def halting(made: Engine) -> Serve:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while await made.next(reader):
                    writer.write(ANSWER[:-1])
                    await rest.wait()
                    writer.write(ANSWER[-1:])
                closed.set()

            return serve

        async def leave(connections: Connections, url: str) -> None:
            async with connections.to(url) as connection:
                asked = Asked()
                connection.ask(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n", b"{}", asked)
                await until(lambda: bool(asked.body))

        async with engine(halting) as made, Connections(5) as connections:
            url = f"http://127.0.0.1:{made.port}"
            await leave(connections, url)
            rest.set()
            await until(lambda: connections.idle == 1)
            rest.clear()
            await leave(connections, url)
            assert made.opened == 1
            await asyncio.sleep(0.6)  # twice as long as it is waited for
            rest.set()
            await closed.wait()
            assert connections.idle == 0

    run(test)


def test_all_are_closed_at_the_end() -> None:
    async def test() -> None:
        ended = asyncio.Event()

        def watched(made: Engine) -> Serve:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await made.well(reader, writer)
                ended.set()

            return serve

        async with engine(watched) as made:
            async with Connections(5) as connections:
                await answered(connections, f"http://127.0.0.1:{made.port}")
                assert not ended.is_set()
            await ended.wait()

    run(test)


# --- opened


def test_an_engine_at_an_ipv6_address_is_reached() -> None:
    async def test() -> None:
        async with engine(host="::1") as made, Connections(5) as connections:
            assert await answered(connections, f"http://[::1]:{made.port}") == "whole"
            assert b"host: [::1]:%d\r\n" % made.port in made.heads[0]

    run(test)


class TwoAddresses(uvloop.Loop):
    """A name leads to two addresses, at the first of which nobody answers."""

    asked = 0

    async def getaddrinfo(self, host: Any, port: Any, **more: Any) -> Any:
        if host != "engine.test.":
            return await super().getaddrinfo(host, port, **more)
        type(self).asked += 1
        await asyncio.sleep(0.05)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]


def test_of_the_addresses_of_a_name_the_one_that_answers_is_used() -> None:
    """And of a burst of requests one asks for them."""

    async def test() -> None:
        async with engine() as made, Connections(5) as connections:
            url = f"http://engine.test.:{made.port}"
            ends = await asyncio.gather(*(answered(connections, url) for _ in range(5)))
            assert ends == ["whole"] * 5
            assert b"host: engine.test:%d\r\n" % made.port in made.heads[0]

    run(test, TwoAddresses)
    assert TwoAddresses.asked == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-name.invalid"])
def test_an_engine_that_is_not_there_is_unreachable(host: str) -> None:
    async def test() -> None:
        async with Connections(5) as connections:
            with pytest.raises(Unreachable):
                await answered(connections, f"http://{host}:{free_port()}")

    run(test)


def test_one_that_does_not_accept_in_time_is_unreachable() -> None:
    async def test() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            with contextlib.ExitStack() as stack:
                for _ in range(4):  # more than it queues
                    one = stack.enter_context(socket.socket())
                    one.setblocking(False)
                    one.connect_ex(address)
                async with Connections(0.2) as connections:
                    with pytest.raises(Unreachable):
                        await answered(connections, f"http://127.0.0.1:{address[1]}")

    run(test)


@pytest.mark.parametrize(("host", "ok"), [("127.0.0.1", True), ("localhost", False)])
def test_an_https_engine_must_be_whom_its_certificate_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, ok: bool
) -> None:
    certificate, key = certificate_for(tmp_path, "IP:127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def test() -> None:
        async with engine(tls=context) as made:
            url = f"https://{host}:{made.port}"
            async with Connections(5) as stranger:
                with pytest.raises(Unreachable):  # nobody vouches for it
                    await answered(stranger, url)
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            async with Connections(5) as connections:
                if ok:
                    assert await answered(connections, url) == "whole"
                    assert await answered(connections, url) == "whole"
                    assert (made.requests, connections.idle) == (2, 1)
                else:
                    with pytest.raises(Unreachable):
                        await answered(connections, url)
                    assert made.requests == 0

    run(test)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("http://10.0.0.7", "10.0.0.7", 80, b"10.0.0.7"),
        ("https://engine", "engine", 443, b"engine"),
        ("http://[fd00::7]:8000", "fd00::7", 8000, b"[fd00::7]:8000"),
        ("http://engine.svc.:8000", "engine.svc.", 8000, b"engine.svc:8000"),
    ],
)
def test_an_origin_is_what_its_url_says(url: str, host: str, port: int, authority: bytes) -> None:
    origin = origin_of(url)
    assert (origin.host, origin.port, origin.authority) == (host, port, authority)
    assert origin.is_tls is url.startswith("https")


# --- held up


@dataclass(frozen=True)
class Site:
    """A gateway of its own, whose memory is looked at. The parameter is how long a client may not
    read, s."""

    port: int
    key: str
    process: subprocess.Popen[bytes]

    @property
    def memory(self) -> int:
        """Resident, bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) << 10

    def ask(self, model: str) -> socket.socket:
        """A client that has sent its request for a stream, and has read nothing."""
        body = json.dumps(ask(model, stream=True)).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), 10)
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.key}\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        return connection


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest, engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("site")
    office = Office.at(home / "state")
    office.add_team(Team("tests"))
    _, token = office.add_key("tests")
    port, ops = free_port(), free_port()
    upstreams = [{"model": name, "url": engine.url} for name in ("well", "floods", "forever")]
    env = environment(
        home,
        {
            "GPTOSS_STATE_DIR": str(home / "state"),
            "GPTOSS_GATEWAY__PORT": str(port),
            "GPTOSS_GATEWAY__OPS_PORT": str(ops),
            "GPTOSS_GATEWAY__UPSTREAMS": json.dumps(upstreams),
            "GPTOSS_GATEWAY__CLIENT_TIMEOUT": str(request.param),
        },
    )
    ready = f"http://127.0.0.1:{ops}/livez"
    with running([*GPTOSS, "gateway"], env, ready=ready, log=home / "log") as process:
        made = Site(port, token, process)
        with made.ask("well") as warm:
            warm.recv(1 << 16)
        yield made


def sent(call: Call) -> int:
    """Events of the engine's answer, once it is held up: it sends no more for half a second."""
    before = -1
    while before != call.sent:
        before = call.sent
        time.sleep(0.5)
    return before


# What the kernel may hold for two connections, the engine's and the client's, and a gateway beside.
IN_SOCKETS = 64 << 20
GROWTH = 8 << 20


@pytest.mark.parametrize("site", [30.0], indirect=True)
@pytest.mark.parametrize("halves", [False, True], ids=["open", "half closed"])
def test_an_engine_waits_for_a_client_that_does_not_read(
    site: Site, new_call: Callable[[], Call], halves: bool
) -> None:
    """And goes on where the client does. Some clients say at once that they will send no more."""
    before = site.memory
    with site.ask("floods") as connection:
        call = new_call()
        if halves:
            wait_for(lambda: call.sent > 2)
            connection.shutdown(socket.SHUT_WR)
        held = sent(call)
        assert held * 1000 * len(EVENT) < IN_SOCKETS
        assert site.memory - before < GROWTH
        received = 0
        while call.sent < 2 * held and (part := connection.recv(1 << 16)):
            received += len(part)
        assert received > 0
        if not halves:
            assert call.sent >= 2 * held
        assert site.memory - before < GROWTH
    assert call.closed.wait(5)


@pytest.mark.parametrize("site", [IDLE_TIMEOUT], indirect=True)
def test_a_client_that_says_no_more_and_reads_nothing_does_not_hold_the_engine(
    site: Site, new_call: Callable[[], Call]
) -> None:
    before = site.memory
    with site.ask("floods") as connection:
        call = new_call()
        wait_for(lambda: call.sent > 2)
        connection.shutdown(socket.SHUT_WR)
        assert call.closed.wait(20)
        assert site.memory - before < GROWTH


@pytest.mark.parametrize("site", [30.0], indirect=True)
@pytest.mark.parametrize("model", ["forever", "floods"])
def test_a_client_that_leaves_closes_the_engines_connection_at_once(
    site: Site, new_call: Callable[[], Call], model: str
) -> None:
    with site.ask(model) as connection:
        call = new_call()
        wait_for(lambda: call.sent > 2)
        assert connection.recv(100)
        assert not call.closed.is_set()
    assert call.closed.wait(2)

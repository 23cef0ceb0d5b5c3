"""An engine's answer on its way: what is wrong with it is told, and nothing stays behind."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.gateway import answer as module
from service.gateway.answer import Answer
from service.gateway.client import ClientStalled
from service.gateway.connection import Connection
from service.gateway.errors import APIError
from service.gateway.failure import EngineFailed, Fault
from service.gateway.patience import Patience
from service.gateway.policy import Request
from service.gateway.routes import INFERENCE, Dialect
from service.gateway.tab import Tab
from service.gateway.usage import Meter
from tests.unit.test_connection import Transport

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM = HEAD + b"%x\r\n%b\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n" % (len(EVENT), EVENT)


class Exchange:
    """Of a client that reads nothing, and has been waited for long enough."""

    dialect = Dialect.OPENAI

    def push(self, events: bytes, is_comment: bool) -> bool:
        return False

    async def write(self, events: bytes, is_comment: bool) -> None:
        raise ClientStalled

    async def answer(self, status: int, body: bytes) -> None:
        raise ClientStalled

    def settle(self) -> None:
        pass


async def failed(relay: "Relay", *parts: bytes) -> bool:
    """Whether it failed. `pytest.raises` would hold on to where."""
    try:
        await relay.run(*parts)
    except EngineFailed:
        return True
    return False


def refusal(status: int, body: bytes) -> bytes:
    head = b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


class Relay:
    """An answer under way."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.connection = Connection(lambda _: None)
        self.connection.connection_made(cast(asyncio.Transport, cast(Any, self.transport)))
        request = Request(INFERENCE["/v1/chat/completions"], "m", True, b"", may_be_empty=False)
        tab = cast(Tab, SimpleNamespace(meter=Meter(Dialect.OPENAI)))
        exchange, self.patience = cast(Any, Exchange()), Patience(60, 30)
        self.answer: Answer | None = Answer(request, exchange, tab, self.patience, lambda: None)
        self.seen = weakref.ref(self.answer)

    async def run(self, *parts: bytes) -> None:
        """Have the engine send these."""
        answer, self.answer = self.answer, None
        assert answer is not None
        for part in parts:
            asyncio.get_running_loop().call_soon(self.connection.data_received, part)
        async with self.patience:
            await answer.relay(self.connection, b"")


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(5):
            await test()

    asyncio.run(bounded())


def test_a_connection_whose_client_left_during_the_last_read_is_not_used_again() -> None:
    async def test() -> None:
        relay = Relay()
        with pytest.raises(ClientStalled):
            await relay.run(STREAM)
        assert relay.connection.is_over
        assert not relay.connection.is_usable

    run(test)


def test_a_whole_answer_waits_for_its_client_on_the_clients_time() -> None:
    """However late it came: else the engine's limit would end the wait."""

    async def test() -> None:
        relay = Relay()
        assert relay.patience.seconds == 60
        with pytest.raises(ClientStalled):
            await relay.run(refusal(200, b"{}"))
        assert relay.patience.seconds == 30

    run(test)


@pytest.mark.parametrize("body", [b'{"error":' + b"[" * 100_000, b'{"error":{}}', b"[]", b""])
def test_an_error_that_cannot_be_read_is_an_error_all_the_same(body: bytes) -> None:
    async def test() -> None:
        with pytest.raises(APIError, match="without a reason that can be read"):
            await Relay().run(refusal(400, body))

    run(test)


def test_an_error_event_that_cannot_be_read_is_a_failure() -> None:
    event = b'data: {"error":{"x":1},"y":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n"

    async def test() -> None:
        relay = Relay()
        assert relay.answer is not None
        relay.answer._meter.failed = True
        with pytest.raises(EngineFailed):
            await relay.run(HEAD + b"%x\r\n" % len(event) + event + b"\r\n")

    run(test)


@pytest.mark.parametrize(("status", "bound"), [(400, "_ERROR_BYTES"), (200, "_WHOLE_BYTES")])
def test_no_more_of_an_answer_is_kept_than_one_can_have(
    monkeypatch: pytest.MonkeyPatch, status: int, bound: str
) -> None:
    """It may never end."""
    monkeypatch.setattr(module, bound, 100_000)

    async def test() -> None:
        relay = Relay()
        with pytest.raises(EngineFailed) as failed:
            await relay.run(refusal(status, b" " * 200_000)[:150_000])
        assert failed.value.fault is Fault.FAILED
        assert not relay.connection.is_usable

    run(test)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n", "its body is encoded"),
        (HEAD + b"0\r\n\r\n", "its stream ended without its last event"),
    ],
)
def test_operators_are_told_what_was_wrong_with_an_answer(sent: bytes, reason: str) -> None:
    async def test() -> None:
        with pytest.raises(EngineFailed) as failed:
            await Relay().run(sent)
        assert failed.value.fault is Fault.CUT
        assert reason in failed.value.reason

    run(test)


@pytest.mark.parametrize("parts", [[refusal(500, b"{}")], [HEAD, b"no chunk\r\n"]])
def test_an_answer_that_failed_leaves_nothing_for_the_collector(parts: list[bytes]) -> None:
    """With it would stay its request's body, until one looks for circles among all that is old."""

    async def test() -> None:
        relay = Relay()
        gc.disable()
        try:
            assert await failed(relay, *parts)
            assert relay.seen() is None
        finally:
            gc.enable()

    run(test)


def test_a_meter_does_not_hold_itself() -> None:
    gc.disable()
    try:
        meter = weakref.ref(Meter(Dialect.OPENAI))
        assert meter() is None
    finally:
        gc.enable()

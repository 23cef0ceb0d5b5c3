"""A client that reads nothing has stalled: that is said of the client, and in time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

import pytest

from service.gateway.client import CONNECTION, ClientStalled
from service.gateway.errors import APIError
from service.gateway.exchange import Exchange
from service.gateway.tab import Tab
from service.telemetry.trace import Sampling


class Full:
    """A connection that takes nothing more."""

    is_full = True
    aborted = False

    async def drained(self) -> None:
        await asyncio.Event().wait()

    def abort(self) -> None:
        self.aborted = True


def exchange(client: Full, patience: float = 0.05) -> Exchange:
    scope = {"path": "/v1/chat/completions", "headers": [], "extensions": {CONNECTION: client}}
    made = Exchange(scope, patience, Sampling(), lambda: None)
    assert not scope["extensions"], "the connection would hold on to itself"
    return made


@pytest.mark.parametrize(
    "send",
    [
        lambda it: it.answer(200, b"{}"),
        lambda it: it.write(b"data: 1\n\n"),
        lambda it: it.write(b": 1\n\n", is_comment=True),
        lambda it: it.finish(),
    ],
    ids=["a whole answer", "a stream's beginning", "a comment", "an end"],
)
def test_no_send_waits_for_longer_than_a_client_may_not_read(
    send: Callable[[Exchange], Awaitable[None]],
) -> None:
    """Else the limit that ends the wait is the engine's, which has done its part."""

    async def test() -> None:
        async with asyncio.timeout(5):
            with pytest.raises(ClientStalled):
                await send(exchange(Full()))

    asyncio.run(test())


def test_who_cannot_even_be_told_what_went_wrong_is_cut_off() -> None:
    async def test() -> None:
        client = Full()
        async with asyncio.timeout(5):
            await exchange(client).fail(APIError(500, "it failed"))
        assert client.aborted

    asyncio.run(test())


def test_accounting_that_fails_is_logged_and_breaks_no_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def close(outcome: str) -> None:
        raise RuntimeError("accounting failed")

    answered = exchange(Full())
    answered.admitted(cast(Tab, SimpleNamespace(headers=[], close=close)))
    with caplog.at_level(logging.ERROR):
        answered.settle()
    assert [record.message for record in caplog.records] == ["a request was not settled"]
    assert "accounting failed" in caplog.text

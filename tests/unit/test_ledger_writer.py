"""The ledger takes records in at once, bounded, whatever its database does."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.database.connect import Database
from service.ledger.writer import Ledger
from service.settings import LedgerSettings
from tests.records import record


@given(puts=st.integers(0, 50), bound=st.integers(1, 20))
def test_each_record_is_pending_or_counted_as_dropped(puts: int, bound: int) -> None:
    ledger = Ledger(Database("sqlite://"), LedgerSettings(max_pending=bound))
    for number in range(puts):
        ledger.put(record(f"{number}"))
    assert ledger.pending == min(puts, bound)
    assert ledger.dropped == puts - ledger.pending


def test_the_overflow_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(Database("sqlite://"), LedgerSettings(max_pending=1))
    for number in range(5):
        ledger.put(record(f"{number}"))
    assert len(caplog.records) == 1


def test_a_cancelled_request_can_put_its_record() -> None:
    async def run() -> None:
        ledger = Ledger(Database("sqlite://"), LedgerSettings())

        async def request() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                ledger.put(record("cut"))

        task = asyncio.create_task(request())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert ledger.pending == 1

    asyncio.run(run())


def test_closing_an_empty_ledger_asks_no_database() -> None:
    ledger = Ledger(Database("postgresql://nobody@127.0.0.1:1/none"), LedgerSettings())
    assert asyncio.run(ledger.close(0.1)) == 0
    assert ledger.failures == 0

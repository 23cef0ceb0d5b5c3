"""The load test's measure of itself is right about what it can know: the server's pace."""

import asyncio

import pytest

from loadtest.selfcheck import steady


def test_a_steady_stream_is_counted_as_the_server_paces_it() -> None:
    found = asyncio.run(steady(streams=20, seconds=1.0))
    assert found.streams >= 20  # one that ends a moment early is followed by another
    assert found.chunk_rate == pytest.approx(20 * 20, rel=0.2)
    assert 0 < found.cpu_percent < 100
    assert found.chunks_per_cpu_second == pytest.approx(found.chunk_rate / found.cpu_percent * 100)
    assert found.lag_p99 >= 0

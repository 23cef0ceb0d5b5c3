"""Gateways and engines count times by the same bounds, so that an objective is read on both."""

from service.buckets import TOKEN_BUCKETS, TTFT_BUCKETS
from service.profiles.common import COMMON
from service.telemetry import contract

MLPERF_TTFT = {2.0, 3.0}
MLPERF_TPOT = {0.015, 0.08}


def test_an_engine_has_the_gateways_bounds() -> None:
    assert contract.TTFT.buckets == TTFT_BUCKETS
    assert contract.ITL.buckets == contract.TPOT.buckets == TOKEN_BUCKETS
    assert COMMON["custom-histogram-buckets"] == {
        "time_to_first_token": list(TTFT_BUCKETS),
        "inter_token_latency": list(TOKEN_BUCKETS),
    }


def test_the_bounds_of_objectives_are_among_them() -> None:
    assert set(TTFT_BUCKETS) >= MLPERF_TTFT
    assert set(TOKEN_BUCKETS) >= MLPERF_TPOT


def test_bounds_go_up() -> None:
    """vLLM takes them as they are."""
    for bounds in (TTFT_BUCKETS, TOKEN_BUCKETS):
        assert list(bounds) == sorted(set(bounds))

"""Which objectives a request is about, and whether it met them."""

import pytest

from service.telemetry.slo import Bounds, Seen, judge

BOUNDS = Bounds(ttft=3.0, tpot=0.08)


def verdicts(
    status: int = 200,
    outcome: str = "ok",
    *,
    streamed: bool = True,
    seconds: float = 10.0,
    ttft: float | None = None,
    tpot: float | None = None,
    batch: bool = False,
) -> dict[str, bool]:
    return judge(Seen(status, outcome, streamed, seconds, ttft, tpot, batch), BOUNDS)


def test_a_stream_in_time_meets_all() -> None:
    assert verdicts(ttft=3.0, tpot=0.08) == {"availability": True, "ttft": True, "tpot": True}


def test_a_slow_one_is_available_all_the_same() -> None:
    assert verdicts(ttft=3.01, tpot=0.09) == {"availability": True, "ttft": False, "tpot": False}


def test_a_whole_answer_is_about_availability_only() -> None:
    assert verdicts(streamed=False) == {"availability": True}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (429, "rate_limit_exceeded"),
        (429, "insufficient_quota"),
        (429, "queue_full"),
        (401, "invalid_api_key"),
        (400, "invalid_request_error"),
        (404, "model_not_found"),
        (413, "request_too_large"),
        (408, "request_timeout"),
        (503, "gateway_draining"),
    ],
)
def test_a_refusal_for_cause_is_about_none(status: int, outcome: str) -> None:
    assert verdicts(status, outcome) == {}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (503, "engine_unavailable"),
        (503, "model_overloaded"),
        (503, "quota_unavailable"),
        (504, "request_timeout"),
        (502, "engine_error"),
        (500, "internal_error"),
    ],
)
def test_a_failure_before_the_first_token_is_bad_for_both(status: int, outcome: str) -> None:
    assert verdicts(status, outcome) == {"availability": False, "ttft": False}
    assert verdicts(status, outcome, streamed=False) == {"availability": False}


@pytest.mark.parametrize("outcome", ["engine_disconnected", "engine_timeout", "gateway_shutdown"])
def test_a_stream_that_breaks_off_was_not_available(outcome: str) -> None:
    bad = {"availability": False, "ttft": True, "tpot": False}
    assert verdicts(200, outcome, ttft=0.2, tpot=0.01) == verdicts(200, outcome, ttft=0.2) == bad


def test_a_client_that_leaves_in_time_says_nothing() -> None:
    assert verdicts(499, "client_gone", seconds=2.9) == {}


def test_a_client_that_gave_up_after_the_bound_did_not_get_its_first_token_in_time() -> None:
    assert verdicts(499, "client_gone", seconds=3.1) == {"ttft": False}


def test_a_client_that_leaves_later_has_seen_a_first_token() -> None:
    assert verdicts(200, "client_gone", ttft=0.5, tpot=0.01) == {"ttft": True, "tpot": True}


def test_a_batch_waits_as_it_was_told() -> None:
    assert verdicts(ttft=210, tpot=0.01, batch=True) == {"availability": True, "tpot": True}
    assert verdicts(503, "model_overloaded", batch=True) == {}
    assert verdicts(503, "engine_unavailable", batch=True) == {"availability": False}

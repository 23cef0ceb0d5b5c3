"""A summary says what the records say, to the last figure; failures are in every one of them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import summary
from loadtest.outcome import Outcome
from loadtest.record import Attempt, Record
from loadtest.scenario.document import Scenario
from loadtest.statistics.intervals import wilson
from loadtest.summarise import summarise
from loadtest.summary import Verdict
from loadtest.windows import output_until, width, windows
from tests.loadtest.runs import CONSTANT, answered, data, failed, planned, scenario


def _hand_made() -> list[Record]:
    """Due from 10 s (the end of the warm-up) to 20 s: ten requests of `main`."""
    return [
        answered(0, 5.0, ttft=9.0),  # of the warm-up, though its answer comes afterwards
        answered(1, 10.0, ttft=0.1, cached_tokens=40),
        answered(2, 11.0, ttft=0.2, reasoning_tokens=5, output=11.25),
        answered(3, 12.0, ttft=0.3, outcome=Outcome.LENGTH, max_gap=0.04),
        answered(4, 13.0, ttft=4.0),  # too late for its first token
        answered(5, 14.0, ttft=0.5, tokens=1),  # one piece: no time per token
        failed(6, 15.0, Outcome.SERVER_5XX, status=500),
        failed(7, 16.0, Outcome.TRUNCATED, status=200, first=16.05, last=16.05, output_tokens=1),
        answered(8, 17.0, ttft=1.0, sent=17.5, attempts=[_refused(17.0, 17.1)]),
        failed(9, 18.0, Outcome.CANCELLED, status=200),
    ]


def test_why_requests_failed_is_told_by_their_three_most_frequent_codes() -> None:
    said = ["x", *["unknown_parameter"] * 4, *["no_model"] * 2, *["a"] * 2, "", ""]
    records = [
        *(failed(n, 10.0 + n / 9, Outcome.BAD_4XX, code=code) for n, code in enumerate(said)),
        failed(20, 15.0, Outcome.CONNECT, code="econnrefused"),
        failed(21, 15.0, Outcome.TRUNCATED),
        failed(22, 5.0, Outcome.CONNECT, code="of the warm-up"),
        answered(23, 16.0, code="of a whole answer"),
    ]
    part = summarise(_hand_scenario(), data(records), {}).overall
    assert part.codes == {
        "bad_4xx": {"unknown_parameter": 4, "a": 2, "no_model": 2},
        "connect": {"econnrefused": 1},
    }
    assert list(part.codes["bad_4xx"]) == ["unknown_parameter", "a", "no_model"]


def _refused(sent: float, ended: float) -> Attempt:
    return Attempt(sent=sent, ended=ended, outcome=Outcome.CAPACITY_503, status=503)


def _hand_scenario() -> Scenario:
    return scenario(duration=20, warmup=10, slo={"ttft": 3, "tpot": 0.05, "percent": 50})


def test_every_figure_of_a_hand_made_run_is_what_it_is_by_hand() -> None:
    """Number 10 was due at 19 s and was never sent: a worker died."""
    plan = {"main": planned([5, *range(10, 20)])}
    part = summarise(_hand_scenario(), data(_hand_made(), seconds=20.5), plan).teams["main"]
    assert (part.planned, part.sent, part.seconds, part.rate) == (10, 9, 10.0, 1.0)
    assert part.outcomes == {
        "ok": 5,
        "length": 1,
        "server_5xx": 1,
        "stream_truncated": 1,
        "client_cancelled": 1,
    }
    # Of ten, one was given up; 1, 2, 3, 5 and 8 met all; 4 was late, 6 and 7 failed, 10 never was.
    assert (part.attainment.share, part.attainment.count) == (5 / 9, 9)
    # Each of the eight that were sent is alone in its tenth: their chi square is 8, by 5 1.6.
    bounds = part.attainment.low, part.attainment.high
    assert bounds == pytest.approx(wilson(5 / 1.6, 9 / 1.6))
    assert part.ttft.count == 9
    assert part.ttft.failed == 3
    assert part.ttft.mean == pytest.approx((0.1 + 0.2 + 0.3 + 4.0 + 0.5 + 1.0) / 6)
    assert part.ttft.p50 == pytest.approx(1.0)  # the fifth of nine
    assert part.ttft.highest == pytest.approx(4.0)
    assert part.ttft.p90 is None
    assert part.ttft.p99 is None
    assert part.sent_ttft.mean == pytest.approx((0.1 + 0.2 + 0.3 + 4.0 + 0.5 + 0.5) / 6)
    assert part.ttfot.mean == pytest.approx((0.1 + 0.25 + 0.3 + 4.0 + 0.5 + 1.0) / 6)
    assert part.tpot.count == 8  # not of number 5
    assert part.tpot.mean == pytest.approx(0.01)
    assert (part.gap.count, part.gap.failed) == (5, 0)
    assert part.gap.highest == 0.04
    assert part.e2e.p50 == pytest.approx(1.1)  # 0.2, 0.3, 0.4, 0.5, 1.1, 4.1, and three failed
    assert (part.prompt_tokens, part.cached_tokens) == (600, 40)
    assert (part.output_tokens, part.reasoning_tokens) == (56 + 1, 5)
    assert part.retries == 1
    assert part.truncated_percent == pytest.approx(100 / 6)


def test_rates_are_of_what_came_within_the_measured_time() -> None:
    """The answer that was asked for in the warm-up came within it; that of 17 s too."""
    part = summarise(_hand_scenario(), data(_hand_made()), {}).teams["main"]
    assert part.good_rate == pytest.approx(7 / 10)
    assert part.output_rate == pytest.approx((57 + 11) / 10)
    assert part.prompt_rate == pytest.approx(700 / 10)


def test_a_server_that_does_not_keep_up_has_its_own_rate_and_not_the_asked_one() -> None:
    """Ten a second are asked for and one is answered, long after the measured time."""
    records = [answered(number, number / 10, ttft=number - number / 10) for number in range(200)]
    part = summarise(scenario(duration=20), data(records, seconds=200.0), {}).overall
    assert part.rate == 10
    assert part.good_rate == pytest.approx(1)
    assert part.output_rate == pytest.approx(11, rel=0.01)


def test_tokens_of_an_answer_come_evenly_from_its_first_to_its_last() -> None:
    record = answered(0, 0.0, ttft=1.0, tokens=101)
    assert output_until([record], [0.5, 1.0, 1.5, 2.0, 9.0]).tolist() == pytest.approx(
        [0, 0, 50.5, 101, 101]
    )


def test_shedding_load_makes_nothing_better() -> None:
    """Half of all are refused at once: the rest is fast, and the run fails all the same."""
    records = [
        answered(number, number / 10)
        if number % 2
        else failed(number, number / 10, Outcome.CAPACITY_503)
        for number in range(1000)
    ]
    made = summarise(scenario(), data(records), {})
    assert made.verdict is Verdict.FAILED
    assert made.overall.attainment.share == 0.5
    assert made.overall.ttft.p50 == pytest.approx(0.5)
    assert made.overall.ttft.p90 is None


@pytest.mark.parametrize(
    ("conforming", "count", "verdict"), [(True, 1000, Verdict.FAILED), (False, 500, Verdict.PASSED)]
)
def test_a_refusal_for_its_own_limit_counts_for_a_team_that_keeps_its_limits_only(
    conforming: bool, count: int, verdict: Verdict
) -> None:
    records = [
        answered(number, number / 10)
        if number % 2
        else failed(number, number / 10, Outcome.QUOTA_429)
        for number in range(1000)
    ]
    team = {"arrivals": CONSTANT, "expect": {"conforming": conforming}}
    made = summarise(scenario(teams={"main": team}), data(records), {}).teams["main"]
    assert made.attainment.count == made.ttft.count == count
    assert made.verdict is verdict


def test_who_left_before_an_objective_was_missed_says_nothing_and_after_it_does() -> None:
    slo = {"ttft": 3, "e2e": 10, "percent": 99}
    given_up = [
        failed(0, 0.0, Outcome.CANCELLED, ended=2.9),
        failed(1, 0.0, Outcome.CANCELLED, ended=3.1),  # without a token
        failed(2, 0.0, Outcome.CANCELLED, ended=9.0, first=2.0),
        failed(3, 0.0, Outcome.CANCELLED, ended=9.0, first=4.0),
        failed(4, 0.0, Outcome.CANCELLED, ended=11.0, first=2.0),
        failed(5, 0.0, Outcome.CANCELLED, ended=None, sent=None),
    ]
    made = summarise(scenario(slo=slo), data(given_up), {}).overall
    assert (made.attainment.count, made.attainment.share) == (3, 0.0)
    assert made.planned == 6
    assert made.sent == 5


@pytest.mark.parametrize("counts", [True, False])
def test_what_is_too_slow_by_its_tokens_when_the_client_leaves_is_missed(counts: bool) -> None:
    """Whether or not the server counts them by piece."""

    def left(number: int, after: float, pieces: int) -> Record:
        said = {"first": 1.0, "last": after, "ended": after, "pieces": pieces}
        if counts:
            said |= {"output_tokens": pieces, "first_tokens": 1}
        return failed(number, 0.0, Outcome.CANCELLED, **said)

    slow, fast, stalled, begun = (
        left(0, 11.0, 101),
        left(1, 11.0, 401),
        left(2, 9.0, 2),
        left(3, 1, 1),
    )
    stalled.last = 1.02
    scenario_ = scenario(slo={"tpot": 0.05})
    judged = [
        summarise(scenario_, data([one]), {}).overall.attainment.count
        for one in (slow, fast, stalled, begun)
    ]
    assert judged == [1, 0, 1, 0]
    assert summarise(scenario_, data([slow]), {}).overall.attainment.share == 0


def test_of_an_answer_that_comes_whole_there_is_no_first_token() -> None:
    """It is held to nothing that is promised of first tokens, and in no figure of them: not even
    where it fails."""
    stream = [answered(n, n / 10, ttft=0.5) for n in range(0, 500)]
    whole = [answered(n, n / 10, ttft=9.0, tokens=1, streamed=False) for n in range(500, 999)]
    whole.append(failed(999, 49.9, Outcome.SERVER_5XX, streamed=False))
    made = summarise(scenario(slo={"ttft": 3, "percent": 99}), data([*stream, *whole]), {})
    for one in (made.overall.ttft, made.overall.sent_ttft, made.overall.ttfot, made.overall.tpot):
        assert (one.count, one.failed) == (500, 0)
    assert made.overall.ttft.highest == pytest.approx(0.5)
    assert (made.overall.e2e.count, made.overall.e2e.failed) == (1000, 1)
    assert made.overall.attainment.share == 0.999
    in_the_window_of_the_failure = made.windows[24]
    assert in_the_window_of_the_failure.outcomes == {"ok": 20, "server_5xx": 1}
    assert in_the_window_of_the_failure.ttft_p99 == pytest.approx(0.5)
    alone = summarise(scenario(slo={"ttft": 3, "e2e": 10}), data(whole), {})
    assert "had E2E within 10 s" in alone.reasons[0]


def test_objectives_that_an_answer_cannot_have_are_kept() -> None:
    one_piece = answered(0, 0.0, tokens=1, streamed=False)
    made = summarise(scenario(slo={"tpot": 0.001}), data([one_piece]), {}).overall
    assert made.attainment.share == 1.0
    assert made.tpot.count == made.gap.count == 0


def test_a_team_that_is_refused_as_expected_passes_and_else_not() -> None:
    def made(share: int) -> Verdict:
        records = [
            failed(number, number / 20, Outcome.QUOTA_429, team="noisy")
            if number % 100 < share
            else answered(number, number / 20, team="noisy")
            for number in range(2000)
        ]
        expect = {"conforming": False, "percent": {"quota_429": [60, 90]}}
        teams = {"noisy": {"arrivals": CONSTANT, "expect": expect}}
        return summarise(scenario(teams=teams), data(records), {}).verdict

    assert made(75) is Verdict.PASSED
    assert made(30) is Verdict.FAILED
    # Nothing is left to hold the objectives against, and nothing was to be.
    assert made(100) is Verdict.FAILED


def test_the_run_is_as_good_as_its_worst_team_and_says_which() -> None:
    teams = {"a": {"arrivals": CONSTANT}, "b": {"arrivals": CONSTANT}}
    records = [
        record
        for number in range(1000)
        for record in (
            answered(number, number / 10, team="a"),
            answered(number, number / 10, team="b", ttft=5.0),
        )
    ]
    made = summarise(scenario(teams=teams), data(records), {})
    assert made.verdict is made.overall.verdict is Verdict.FAILED
    assert made.teams["a"].verdict is Verdict.PASSED
    assert made.reasons[0].startswith(
        "b: 0% of 1,000 requests had TTFT within 3 s, TPOT within 80 ms"
    )
    assert made.overall.attainment.share == 0.5


def test_a_limit_that_lets_more_in_fails_the_team() -> None:
    limits = {"requests_per_minute": 6}
    teams = {"main": {"arrivals": CONSTANT, "expect": {"limits": limits}}}
    records = [answered(number, number / 10) for number in range(1000)]
    made = summarise(scenario(teams=teams), data(records), {})
    assert made.verdict is Verdict.FAILED
    assert "requests_per_minute" in made.reasons[0]
    assert not made.teams["main"].quotas[0].kept


@pytest.mark.parametrize("records", [[], [failed(0, 1.0, Outcome.CANCELLED)]])
@pytest.mark.parametrize("warmup", [0, 99])
def test_a_run_of_nothing_divides_by_nothing(records: list[Record], warmup: float) -> None:
    said: dict[str, Any] = {"warmup": warmup, "cost": {"gpus": 8, "price_per_gpu_hour": 2.0}}
    teams = {"main": {"arrivals": CONSTANT, "expect": {"limits": {"concurrency": 1}}}}
    said["teams"] = teams | {"other": {"arrivals": CONSTANT}}
    made = summarise(scenario(**said), data(records, workers=[], seconds=0.0), {})
    assert made.verdict is Verdict.UNRESOLVED
    assert made.overall.attainment.count == 0
    assert made.overall.ttft.p99 is None
    assert made.windows == []
    assert made.price is not None
    assert made.price.per_million_output is None


def test_a_run_of_failures_only_fails() -> None:
    records = [
        failed(number, number / 10, Outcome.CONNECT, sent=None, began=number / 10)
        for number in range(1000)
    ]
    made = summarise(scenario(), data(records), {})
    assert made.verdict is Verdict.FAILED
    assert made.overall.ttft == summary.Distribution(count=1000, failed=1000)


def test_what_was_never_sent_is_missed_and_makes_the_run_invalid() -> None:
    plan = {"main": planned(range(100))}
    made = summarise(scenario(), data([answered(number, number) for number in range(50)]), plan)
    assert made.overall.planned == 100
    assert made.overall.attainment.share == 0.5
    assert made.trusted.rate_percent == 50.0
    assert made.verdict is Verdict.INVALID
    assert made.reasons[0].startswith("the load test itself is not to be trusted: only 50% of the")
    assert made.workloads["main/default"].planned == 100


def test_of_a_closed_loop_nobody_knows_what_would_have_been_sent() -> None:
    teams = {"main": {"arrivals": {"kind": "closed", "clients": 100}}}
    plan = {"main": planned(range(100), closed=True)}
    made = summarise(scenario(teams=teams), data([answered(0, 1.0)]), plan)
    assert made.overall.planned == 1


def test_an_interrupted_run_is_measured_until_then_and_does_not_pass() -> None:
    plan = {"main": planned(number / 10 for number in range(1000))}
    records = [answered(number, number / 10, sent=number / 10 + 1e-4) for number in range(501)]
    made = summarise(scenario(), data(records, interrupted=True, seconds=51.0), plan)
    assert made.overall.seconds == pytest.approx(50.0, abs=1e-3)
    assert made.overall.rate == pytest.approx(10, rel=0.01)
    assert made.trusted.valid
    assert made.verdict is Verdict.UNRESOLVED
    assert made.reasons[0].startswith("the run was interrupted after 50 of 100 s")
    nothing = summarise(scenario(), data([], interrupted=True, seconds=0.0), plan)
    assert nothing.overall.planned == 0


@pytest.mark.parametrize(
    ("seconds", "step"),
    [(0.5, 1), (20, 1), (60, 1), (61, 2), (600, 10), (28_800, 600), (1e6, 18_000)],
)
def test_windows_are_about_sixty_of_a_round_length(seconds: float, step: float) -> None:
    assert width(seconds) == step


def test_windows_have_what_was_due_in_them_and_what_came() -> None:
    records = [
        answered(0, 0.2, ttft=0.5, tokens=101),  # its tokens come from 0.7 to 1.7
        answered(1, 1.5, ttft=3.0),
        failed(2, 1.6, Outcome.SERVER_5XX),
    ]
    made = windows(scenario(duration=2), records, 2.5)
    assert [(one.at, one.seconds, one.due) for one in made] == [(0, 1, 1), (1, 1, 2), (2, 0.5, 0)]
    assert [one.open for one in made] == [1, 1, 1]
    assert [one.output_rate for one in made] == pytest.approx([0.3 * 101, 0.7 * 101, 0])
    assert made[1].outcomes == {"ok": 1, "server_5xx": 1}
    assert made[1].teams == {"main": 1}
    assert made[0].ttft_p50 == pytest.approx(0.5)
    assert made[1].ttft_p50 == pytest.approx(3.0)
    assert made[1].ttft_p99 is None


def test_it_goes_into_a_file_and_out_again(tmp_path: Path) -> None:
    headers = {"Authorization": "Bearer secret", "x-team": "a"}
    said = scenario(target={"url": "http://x", "headers": headers})
    made = summarise(said, data(_hand_made()), {}, model="m", machine={"cpu": "2"})
    summary.write(tmp_path / "summary.json", made)
    text = (tmp_path / "summary.json").read_text()
    assert "secret" not in text
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    read = summary.read(tmp_path / "summary.json")
    assert read == made
    assert Scenario.model_validate(read.scenario).slo == said.slo


OUTCOMES = st.sampled_from(list(Outcome))


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 120), OUTCOMES, st.floats(0, 5)), max_size=60),
    st.booleans(),
    st.integers(0, 40),
)
def test_whatever_happens_the_figures_fit_together(
    happened: list[tuple[float, Outcome, float]], conforming: bool, more: int
) -> None:
    records = [
        answered(number, at, ttft=ttft, outcome=outcome)
        if outcome in (Outcome.OK, Outcome.LENGTH)
        else failed(number, at, outcome)
        for number, (at, outcome, ttft) in enumerate(happened)
    ]
    times = [at for at, _, _ in happened] + [50.0] * more
    teams = {"main": {"arrivals": CONSTANT, "expect": {"conforming": conforming}}}
    made = summarise(scenario(teams=teams), data(records), {"main": planned(times)})
    part = made.overall
    assert part.planned == sum(part.outcomes.values()) + more
    assert part.sent <= part.planned
    assert part.attainment.count <= part.planned
    assert part.ttft.count == part.attainment.count
    assert part.attainment.low <= part.attainment.share <= part.attainment.high
    assert part.e2e.failed == part.ttft.failed
    known = [time for time in (part.ttft.p50, part.ttft.p90, part.ttft.p99) if time is not None]
    assert known == sorted(known)
    assert sum(one.due for one in made.windows) == len(records)
    assert all(math.isfinite(one.output_rate) for one in made.windows)
    assert made.teams["main"].planned == made.workloads["main/default"].planned == part.planned

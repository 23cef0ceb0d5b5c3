"""When the benchmark's check says that the gateway has become dearer."""

from pathlib import Path

import pytest

from tests.bench.results import Latency, PeerResult, Results, Round, Spread
from tests.bench.table import put_into, table
from tests.bench.verdict import (
    GPTOSS,
    NGINX,
    SPLICE,
    Compared,
    Ratio,
    Record,
    Unfit,
    compare,
    dearer,
    ratios,
    sentence,
)

Cost = tuple[float, float]
"""Of a chunk and of a request, µs."""


def peer(name: str, *costs: Cost, latency: Latency | None = None) -> PeerResult:
    rounds = [Round(request, chunk, latency) for chunk, request in costs]
    return PeerResult(name, "a peer", "1.0", rounds, idle_bytes=12_345.0)


def run(*peers: PeerResult, machine: str = "here") -> Results:
    return Results(machine, list(peers), {"litellm": "it is not installed"})


RECORDED = Record.of(
    run(peer("nginx", (10, 20)), peer("splice", (5, 10)), peer("gptoss", (20, 400)))
)


BY_SPLICE = Record("here", tuple(one for one in RECORDED.ratios if one.peer == "splice"))


def test_a_ratio_is_taken_within_a_round_and_the_median_of_the_rounds_counts() -> None:
    # A machine that is twice as slow in one round, and disturbs one of the two alone in two others.
    nginx, gptoss = (
        peer("nginx", (10, 20), (20, 40), (10, 20), (40, 90), (10, 20)),
        peer("gptoss", (20, 400), (40, 800), (90, 4000), (20, 400), (20, 400)),
    )
    assert ratios(run(nginx, gptoss)) == (
        Ratio("chunk", "nginx", 2.0),
        Ratio("request", "nginx", 20.0),
    )


def test_rounds_whose_chunks_came_late_say_nothing_of_chunks_while_others_do() -> None:
    def measured(name: str, *rounds: Round) -> PeerResult:
        return PeerResult(name, "a peer", "1.0", list(rounds))

    late = Round(400, 40, merged=0.4), Round(400, 40, merged=0.3)
    nginx = measured("nginx", Round(20, 10), Round(20, 10), Round(20, 10))
    chunk, request = ratios(run(nginx, measured("gptoss", *late, Round(300, 20))))
    assert (chunk.times, request.times) == (2, 20)
    chunk, _ = ratios(run(measured("nginx", *nginx.rounds[:2]), measured("gptoss", *late)))
    assert chunk.times == 4, "where all were late they are what there is"


def test_a_machine_that_is_slower_in_all_changes_nothing() -> None:
    slow = run(peer("nginx", (30, 60)), peer("splice", (15, 30)), peer("gptoss", (60, 1200)))
    compared = compare(slow, RECORDED)
    assert [one.growth for one in compared] == [0, 0, 0, 0]
    assert sentence(compared).startswith("the gateway costs what it did: 2.00 x nginx per chunk")


@pytest.mark.parametrize(
    ("chunk", "request_", "grew"), [(22.9, 459, 0), (23.1, 400, 2), (20, 461, 2)]
)
def test_more_than_15_percent_in_a_chunk_or_in_a_request_is_dearer(
    chunk: float, request_: float, grew: int
) -> None:
    now = run(peer("nginx", (10, 20)), peer("splice", (5, 10)), peer("gptoss", (chunk, request_)))
    assert len(dearer(compare(now, RECORDED))) == grew


def test_what_grew_against_one_of_the_two_alone_is_that_ones_doing() -> None:
    now = run(peer("nginx", (8, 20)), peer("splice", (5, 8)), peer("gptoss", (20, 400)))
    compared = compare(now, RECORDED)
    assert [one.grew for one in compared] == [True, False, False, True]
    assert dearer(compared) == []
    assert sentence(compared).startswith("the gateway costs what it did")


def test_one_line_says_what_grew_and_what_to_do() -> None:
    now = run(peer("splice", (5, 10)), peer("gptoss", (30, 400)))
    said = sentence(compare(now, BY_SPLICE))
    assert said == (
        "the gateway has become dearer: 6.00 x splice per chunk, recorded 4.00 (+50%); allowed is"
        " +15%: make it cheaper again, or write the new cost down with `make bench-record` and say"
        " why"
    )


@pytest.mark.parametrize("away", ["nginx", "splice", "gptoss"])
def test_nothing_is_said_or_recorded_where_one_of_them_was_not_measured(away: str) -> None:
    """A check that compares half of it, or nothing, would say that all is well."""
    three = peer("nginx", (10, 20)), peer("splice", (5, 10)), peer("gptoss", (20, 400))
    results = run(*(one for one in three if one.name != away))
    with pytest.raises(Unfit, match=f"nothing is compared: {away} was not measured"):
        compare(results, RECORDED)
    with pytest.raises(Unfit, match=f"nothing is recorded: {away} was not measured"):
        Record.of(results)


def test_an_empty_record_is_nothing_to_compare_with() -> None:
    everything = run(peer("nginx", (10, 20)), peer("splice", (5, 10)), peer("gptoss", (20, 400)))
    with pytest.raises(Unfit, match="nothing to compare with"):
        compare(everything, Record("here", ()))


def test_a_run_whose_chunks_were_all_late_is_not_recorded() -> None:
    def measured(*merged: float) -> Results:
        rounds = [Round(20, 10, merged=one) for one in merged]
        return run(*(PeerResult(one, "a peer", "1.0", rounds) for one in (GPTOSS, NGINX, SPLICE)))

    with pytest.raises(Unfit, match="the machine is too busy"):
        Record.of(measured(0.4, 0.06))
    assert Record.of(measured(0.4, 0.04)).merged == pytest.approx(0.22)


def test_a_cost_that_fell_is_to_be_recorded_lest_it_come_back_unseen() -> None:
    assert "keep that with `make bench-record`" in sentence([Compared("chunk", "nginx", 1.6, 2.0)])


def test_a_second_measurement_outvotes_a_disturbed_one_and_confirms_a_true_one() -> None:
    def cost(*chunks: float) -> Results:
        return run(
            peer("splice", *[(5, 10)] * len(chunks)),
            peer("gptoss", *[(one, 400) for one in chunks]),
        )

    disturbed = cost(20, 30, 30)
    assert dearer(compare(disturbed, BY_SPLICE))
    quiet, dear = cost(20, 20, 20), cost(30, 30, 30)
    assert not dearer(compare(disturbed.with_rounds_of(quiet), BY_SPLICE))
    assert dearer(compare(disturbed.with_rounds_of(dear), BY_SPLICE))


def test_results_and_record_are_read_as_they_were_written(tmp_path: Path) -> None:
    latency = Latency(77, 0.5, 2.5, 1.0)
    results = run(peer("nginx", (10, 20), latency=latency), peer("gptoss", (20, 400), (21, 410)))
    (tmp_path / "results.json").write_text(results.to_json())
    assert Results.read(tmp_path / "results.json") == results
    RECORDED.write(tmp_path / "record.json")
    assert Record.read(tmp_path / "record.json") == RECORDED


def test_the_spread_is_from_end_to_end_of_the_middle() -> None:
    assert Spread.of([9, 10, 12]) == Spread(10, 9, 12)
    assert Spread(10, 9, 12).percent == pytest.approx(30)


def test_the_table_says_each_figure_the_machine_and_who_is_missing() -> None:
    said = table(run(peer("nginx", (10, 20), (12, 24), latency=Latency(77, 0.52, 2.5, 1.04))))
    assert "| nginx: a peer | 11.0 (18 %) | 22.0 (18 %) | 77 | 0.5 / 2.5 | 1.0 | 12 |\n" in said
    assert "One run on here. Medians of 2 rounds" in said
    assert "Not measured: litellm (it is not installed)." in said


def test_the_table_of_a_busy_machine_says_so() -> None:
    def measured(*merged: float) -> Results:
        rounds = [Round(20, 10, merged=one) for one in merged]
        return run(PeerResult("nginx", "a peer", "1.0", rounds))

    assert "up to 31% of chunks came late" in table(measured(0, 0.31, 0.4))
    assert "busy" not in table(measured(0, 0.01, 0.9))


def test_the_table_takes_its_place_on_a_page_again_and_again(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(
        "before\n<!-- made by `make bench-record` -->\nold\n<!-- end of what is made -->\nafter\n"
    )
    for _ in range(2):
        put_into(page, run(peer("nginx", (10, 20))))
        text = page.read_text()
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "old" not in text
        assert text.count("| nginx: a peer |") == 1
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no place for the table"):
        put_into(page, run(peer("nginx", (10, 20))))

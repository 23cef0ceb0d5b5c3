"""What the requests of a team, of a workload or of all of a run come to."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from loadtest.judgement import SURE, Judgement, worth_of
from loadtest.measured import Requests, Span
from loadtest.outcome import Outcome
from loadtest.record import Record
from loadtest.statistics.quantiles import finite, interval, ordered, percentile
from loadtest.summary import Distribution, Interval, Part, Quota
from loadtest.windows import output_until

# Of each outcome: what is rarer is in the records.
_CODES: Final = 3


def part(
    requests: Requests,
    span: Span,
    run: Iterable[Record],
    judged: Judgement,
    quotas: list[Quota] | None = None,
) -> Part:
    """`requests` were due in `span`; `run` is all records of the same kind, with warm-up."""
    records = requests.records
    good = [record for record in records if record.good]
    answers, prompts, outputs = _came(list(run), span)
    cut = sum(record.outcome is Outcome.LENGTH for record in good)
    return Part(
        planned=requests.planned,
        sent=sum(1 for record in records if record.opened is not None),
        outcomes=dict(Counter(str(record.outcome) for record in records)),
        codes=_codes(records),
        seconds=span.seconds,
        rate=_per(requests.planned, span.seconds),
        good_rate=_per(answers, span.seconds),
        attainment=attainment(requests, span),
        ttft=_of_streams(requests, lambda record: record.ttft),
        sent_ttft=_of_streams(requests, lambda record: record.sent_ttft),
        ttfot=_of_streams(requests, lambda record: record.ttfot),
        tpot=_of_streams(requests, lambda record: record.tpot),
        gap=distribution(record.max_gap for record in good if record.pieces > 1),
        e2e=_distribution(requests, lambda record: record.e2e),
        prompt_tokens=sum(record.prompt_tokens for record in records),
        cached_tokens=sum(record.cached_tokens for record in records),
        output_tokens=sum(record.output_tokens for record in records),
        reasoning_tokens=sum(record.reasoning_tokens for record in records),
        prompt_rate=_per(prompts, span.seconds),
        output_rate=_per(outputs, span.seconds),
        retries=sum(len(record.attempts) for record in records),
        truncated_percent=_per(100 * cut, len(good)),
        verdict=judged.verdict,
        reasons=judged.reasons,
        quotas=quotas or [],
    )


def attainment(requests: Requests, span: Span) -> Interval:
    """With the interval by which it is judged; of nothing it is 0, and can be anything."""
    low, high = worth_of(requests, span).interval(SURE)
    met, count = requests.met, requests.counted
    return Interval(share=_per(met, count), low=low, high=high, count=count)


def distribution(times: Iterable[float], failed: int = 0) -> Distribution:
    """Of these times, and as many infinite ones as failed."""
    all_times = ordered(times, failed)
    known = all_times[: len(all_times) - failed]
    low, high = interval(all_times, 99)
    return Distribution(
        count=len(all_times),
        mean=float(known.mean()) if len(known) else None,
        p50=finite(percentile(all_times, 50)),
        p90=finite(percentile(all_times, 90)),
        p95=finite(percentile(all_times, 95)),
        p99=finite(percentile(all_times, 99)),
        p99_low=low,
        p99_high=high,
        highest=float(known[-1]) if len(known) else None,
        failed=failed,
    )


def _codes(records: Iterable[Record]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for record in records:
        if record.code and not record.good:
            found.setdefault(str(record.outcome), Counter())[record.code] += 1
    # By name where they are as many, so that the same records come to the same.
    return {
        outcome: dict(sorted(codes.items(), key=lambda one: (-one[1], one[0]))[:_CODES])
        for outcome, codes in found.items()
    }


def _of_streams(requests: Requests, time: Callable[[Record], float | None]) -> Distribution:
    """Of a time that only streams have: that of others is unknown also where they fail."""
    streamed = [
        (record, fate)
        for record, fate in zip(requests.records, requests.fates, strict=True)
        if record.streamed
    ]
    kept = Requests([one for one, _ in streamed], [one for _, one in streamed], requests.unsent)
    return _distribution(kept, time)


def _distribution(requests: Requests, time: Callable[[Record], float | None]) -> Distribution:
    """Over all that count. A whole answer that has no such time, as one piece has no time per
    token, is left out."""
    judged = requests.judged
    good = [record for record in judged if record.good]
    failed = len(judged) - len(good) + requests.unsent
    return distribution((found for record in good if (found := time(record)) is not None), failed)


def _came(run: list[Record], span: Span) -> tuple[int, int, float]:
    """Whole answers, and tokens of prompts and of answers, that came within that time."""
    answers = sum(1 for one in run if one.good and one.ended is not None and one.ended in span)
    prompts = sum(one.prompt_tokens for one in run if one.first is not None and one.first in span)
    before, until = output_until(run, (span.start, span.end))
    return answers, prompts, float(until - before)


def _per(number: float, whole: float) -> float:
    return number / whole if whole else 0.0

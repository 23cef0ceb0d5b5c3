"""What is measured: a sentence for each number, shown beside it."""

from typing import Final, NamedTuple


class Definition(NamedTuple):
    """`name` is its name in the summary."""

    name: str
    title: str
    meaning: str


TIMES: Final = (
    Definition(
        "ttft",
        "TTFT",
        "Time to first token: from when the request was due, not from when it was sent, to the"
        " first piece with a token (content, reasoning or a tool call; a role alone is none). Of"
        " streamed answers only.",
    ),
    Definition(
        "tpot",
        "TPOT",
        "Time per output token of one answer: from its first piece to its last, by the tokens after"
        " the first piece. Answers in one piece have none.",
    ),
    Definition(
        "gap",
        "Longest gap",
        "The longest pause between two pieces of one answer: what a reader feels as a stall. Of"
        " whole answers in at least two pieces; failed ones are left out.",
    ),
    Definition(
        "e2e",
        "Whole answer",
        "From when the request was due to the end of the answer. It depends on how long answers"
        " are.",
    ),
    Definition(
        "ttfot",
        "TTFOT",
        "Time to first output token: as TTFT, but to the first piece that is not reasoning."
        " Answers that are nothing but reasoning have none.",
    ),
    Definition(
        "sent_ttft",
        "TTFT from sending",
        "From when the request was really sent (its last attempt): what most other tools call TTFT."
        " For comparison only.",
    ),
)

COUNTS: Final = (
    Definition(
        "planned", "Requests due", "Within the measured time, which leaves the warm-up out."
    ),
    Definition("sent", "Requests sent", "Of these."),
    Definition("retries", "Retries", "Sendings beyond the first of a request. They are load too."),
)
RATES: Final = (
    Definition("rate", "Requests due per second", "What was asked of the server."),
    Definition(
        "good_rate",
        "Whole answers per second",
        "That came within the measured time, whenever they were asked for.",
    ),
    Definition("prompt_rate", "Prompt tokens per second", "Likewise, with their first token."),
    Definition(
        "output_rate",
        "Output tokens per second",
        "Likewise, evenly from an answer's first to last.",
    ),
)
TOKENS: Final = (
    Definition("prompt_tokens", "Prompt tokens", "As the server counted them."),
    Definition("cached_tokens", "… of these cached", "By the server's own word."),
    Definition("output_tokens", "Output tokens", "Reasoning is among them."),
    Definition("reasoning_tokens", "… of these reasoning", "Where the server says how many."),
)
TRUNCATED: Final = Definition(
    "truncated_percent", "Ended at the limit", "Of whole answers, those cut at max_tokens."
)

ATTAINMENT: Final = (
    "Attainment is the share of all requests due that met every objective together; a failed one"
    " meets none. Left out are those that the client gave up before they could miss one, and"
    " refusals for a team's own limit where it is said not to keep it. The interval is Wilson's,"
    " by as few requests as those that missed together are worth: a verdict is given only where all"
    " of it is on one side."
)
PERCENTILES: Final = (
    "Percentiles are by nearest rank over all requests due; a failed request counts as infinitely"
    " late, so ∞ stands where a percentile falls among failures. The range below p99 is what it is"
    " by 95% of all samples; mean and highest are of the requests that have the time."
)

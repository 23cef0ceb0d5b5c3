"""A load test's window: what clients asked, on both sides of the gateway."""

from typing import Final

from deploy.observability import vllm
from deploy.observability.metric import Metric
from deploy.observability.page import MODEL, Page, Row
from deploy.observability.pages.capacity import demand
from deploy.observability.pages.objectives import attained
from deploy.observability.panels import (
    Column,
    Look,
    Panel,
    Query,
    lines,
    page_link,
    percentiles,
    table,
    text,
)
from deploy.observability.promql import (
    RANGE,
    Expr,
    gauge,
    quantile,
    rate,
    renamed,
    sums,
    total,
)
from service.telemetry import contract
from service.telemetry.contract import REQUESTS, Family

_HOW: Final = (
    "Each run marks its time on every page, by an annotation with the tag `loadtest`: click its"
    " mark and zoom to it, and every panel and table here is about that run. The clients' own side"
    " (from when a request was *due*) is in the run's report; here are the two sides of the"
    " gateway: what it measured of an answer, and what vLLM did. A difference is the gateway and"
    " its line; one between the report and this page is the network or the load generator."
)
_WHICH: Final = (0.5, 0.95, 0.99)


def _both(title: str, ours: Family, theirs: Metric, description: str, wide: int = 12) -> Panel:
    """A percentile by the gateway's clock beside the engine's."""
    queries = [
        query
        for which in _WHICH
        for query in (
            Query(quantile(which, ours, model="$model"), f"gateway p{round(which * 100)}"),
            Query(quantile(which, theirs, model_name="$model"), f"engine p{round(which * 100)}"),
        )
    ]
    return lines(title, description, "s", queries, wide=wide)


def _percentile(asked: Family, which: float) -> Expr:
    return quantile(which, asked, "model", window=RANGE, model="$model")


def _by_engines(asked: Metric, which: float) -> Expr:
    by_name = quantile(which, asked, "model_name", window=RANGE, model_name="$model")
    return total(renamed(by_name, "model_name", "model"), "model")


def _run() -> Row:
    columns = [
        Column("Requests/s", total(rate(REQUESTS, RANGE, model="$model"), "model"), "reqps"),
        Column("Output tokens/s", _output(RANGE, "model"), "short"),
        Column("TTFT p50", _percentile(contract.TTFT, 0.5), "s"),
        Column("TTFT p99", _percentile(contract.TTFT, 0.99), "s"),
        Column("TTFT p99, engine", _by_engines(vllm.TTFT, 0.99), "s"),
        Column("TPOT p50", _percentile(contract.TPOT, 0.5), "s"),
        Column("TPOT p99", _percentile(contract.TPOT, 0.99), "s"),
        Column("First token in time", attained("ttft", RANGE, "model"), "percentunit"),
        Column("Tokens in time", attained("tpot", RANGE, "model"), "percentunit"),
        Column("Answered", attained("availability", RANGE, "model"), "percentunit"),
    ]
    return Row(
        "The run",
        (
            text(
                "How to read this page",
                "Where the marks of runs come from, and by whose clock times are.",
                _HOW,
            ),
            table(
                "The chosen time, by model",
                "The figures of exactly the chosen time: zoom to the run first. Compare with its"
                " report: percentiles here come from buckets, so that up to a bucket's width of"
                " difference is no error; more is the network or the load generator.",
                {"model": "Model"},
                columns,
                {"model": (page_link("Its replicas", "gptoss-replicas", model="${__value.raw}"),)},
                high=6,
            ),
        ),
    )


def _output(window: str, *by: str) -> Expr:
    return total(rate(contract.TOKENS_CHARGED, window, model="$model", kind="completion"), *by)


def _sides() -> Row:
    return Row(
        "Both sides of the gateway",
        (
            _both(
                "Time to first token, both sides",
                contract.TTFT,
                vllm.TTFT,
                "The gateway's from a request, once read, the engine's from its arrival there."
                " Apart: time in line at the gateway (below), which is what an overload looks like."
                " Together and high: the engine is full or its cache cold.",
            ),
            _both(
                "Inter-token latency, both sides",
                contract.ITL,
                vllm.ITL,
                "The gateway's between pieces, which may carry more than one token, so its values"
                " are the higher ones. Much higher at p99: the gateway's loop lag (Gateway).",
            ),
            _both(
                "Time per output token, both sides",
                contract.TPOT,
                vllm.TPOT,
                "Of whole streams. They should be alike; the gateway's higher means that clients"
                " read slowly, which holds up their streams.",
            ),
            _both(
                "Whole answers, both sides",
                contract.DURATION,
                vllm.E2E,
                "Whole requests, streamed or not. The gateway's has those that no engine saw, too:"
                " refused ones, which are quick. Judge a run by its good requests, in the report.",
            ),
        ),
    )


def _load() -> Row:
    engines = total(gauge(vllm.RUNNING, model_name="$model"))
    return Row(
        "The load, and what became of it",
        (
            lines(
                "Requests by outcome",
                "What came of all requests. Anything but `ok` belongs into the run's verdict: 429"
                " is a team's limit and no failure of the service; `engine_*` and `*_overloaded`"
                " are the knee of the curve.",
                "reqps",
                [Query(total(rate(REQUESTS, model="$model"), "outcome"), "{{outcome}}")],
                Look(stacked=True),
            ),
            lines(
                "Tokens, in and out",
                "Tokens charged a second. Output that stays flat while more is asked is the most"
                " these replicas give: the capacity at this mix of lengths.",
                "short",
                [
                    Query(_input(), "in"),
                    Query(_output("$__rate_interval"), "out"),
                ],
            ),
            lines(
                "Open, waiting and running",
                "Requests that gateways have (open, in line, held) of all pools, whichever model is"
                " chosen, and those in the engines' batches. The first growing without end: more is"
                " asked than is served, and latencies of this run depend on its length.",
                "short",
                [
                    Query(_asked(), "asked for"),
                    Query(total(gauge(contract.QUEUE_WAITING)), "in line"),
                    Query(engines, "running in engines"),
                ],
            ),
            lines(
                "Time in line, in this run",
                "What requests waited for a replica at the gateway. It is the part of the time to"
                " first token that more replicas take away.",
                "s",
                percentiles(contract.QUEUE_SECONDS, model="$model"),
            ),
            lines(
                "Streams by end, in this run",
                "How streams ended. `client_left` is the load generator's own time limit, unless"
                " the scenario has clients that leave. `engine_*` is a failed run.",
                "ops",
                [Query(total(rate(contract.STREAMS, model="$model"), "end"), "{{end}}")],
                Look(stacked=True),
            ),
            lines(
                "Lengths",
                "Mean tokens of prompts and answers, as engines saw them. Not what the scenario"
                " asks for: the run measured something else than it says.",
                "short",
                [
                    Query(_length(vllm.PROMPT_LENGTH), "prompt"),
                    Query(_length(vllm.GENERATION_LENGTH), "answer"),
                ],
            ),
        ),
    )


def _asked() -> Expr:
    return demand()


def _input() -> Expr:
    return total(rate(contract.TOKENS_CHARGED, model="$model", kind="prompt"))


def _length(asked: Metric) -> Expr:
    # By what each request had: tokens come long before the end of theirs.
    finished = total(rate(asked, model_name="$model"))
    return total(sums(asked, model_name="$model")) / finished.above(0)


PAGE: Final = Page(
    "gptoss-loadtest",
    "A load test's window, on both sides of the gateway.",
    (_run(), _sides(), _load()),
    (MODEL,),
)

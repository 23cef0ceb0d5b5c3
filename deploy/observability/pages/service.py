"""What users feel: whether objectives are met, how much is asked, how it ends, and how fast."""

from typing import Final

from deploy.observability.page import MODEL, Page, Row
from deploy.observability.pages.objectives import (
    BUDGETS,
    MODELS,
    attained,
    budget_left,
    failing,
    failing_early,
)
from deploy.observability.panels import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    Column,
    Look,
    Panel,
    Query,
    Steps,
    heatmap,
    lines,
    page_link,
    percentiles,
    stat,
    table,
)
from deploy.observability.promql import (
    RATE,
    Expr,
    Not,
    gauge,
    heat,
    highest,
    or_none,
    quantile,
    rate,
    total,
)
from service.telemetry import contract
from service.telemetry.contract import DURATION, ITL, REQUESTS, TPOT, TTFT, Family

WORDS: Final = {
    "availability": "answered",
    "ttft": "first token in time",
    "tpot": "tokens in time",
}

BROKEN: Final = ("engine_error", "engine_cut", "engine_silent", "shutdown", "other")


def _steps(slo: str) -> Steps:
    bad = BUDGETS[slo]
    return ((round(1 - 2 * bad, 6), YELLOW), (round(1 - bad, 6), GREEN))


def _attainment(slo: str, what: str) -> Panel:
    return stat(
        f"Objective: {WORDS[slo]}",
        f"Share of requests in the chosen time that {what}; the objective is"
        f" {1 - BUDGETS[slo]:.1%}. Refusals by quota and clients that left are not counted. Red:"
        " look at the rows below for the model and the kind of error, then at Replicas.",
        "percentunit",
        [Query(attained(slo, "$__range"), once=True)],
        Look(_steps(slo), RED, decimals=2, most=1),
    )


def _objectives() -> Row:
    attained_over_time = [Query(attained(slo, RATE), word) for slo, word in WORDS.items()]
    return Row(
        "Objectives",
        (
            _attainment("availability", "were answered to their end"),
            _attainment("ttft", "had their first token within the bound"),
            _attainment("tpot", "had their further tokens, on average, within the bound"),
            stat(
                "Error budget left",
                "What is left of the failures that the objectives allow in 30 days, whatever time"
                " is chosen, of the model that has least. Below a quarter: no risky rollouts. Below"
                " 0: the objective is missed; find the days in the panel of attainment, over 30"
                " days. It goes by what rules.yaml records, and needs a Prometheus that keeps 30"
                " days (its own default is 15): with less it is of what is kept. A model without a"
                " single failure to spend is left out.",
                "percentunit",
                [Query(budget_left(slo), word, once=True) for slo, word in WORDS.items()],
                Look(((0, YELLOW), (0.25, GREEN)), RED, least=None, most=1, decimals=0),
                wide=8,
            ),
            stat(
                "Bounds of good",
                "Up to which time a first token, and each token after it, counts as good: a setting"
                " of the gateway (`gptoss settings`). Of gateways that differ, the largest.",
                "s",
                [Query(highest(gauge(contract.SLO_BOUND), "slo"), "{{slo}}")],
                Look(low=BLUE),
            ),
            lines(
                "Attainment",
                "Share of good requests by objective. A dip says when it began: choose that time"
                " here, then see errors, latency and queue. A gap is a time without requests.",
                "percentunit",
                attained_over_time,
                Look(most=1, least=None),
                wide=12,
            ),
            table(
                "Models",
                "Each model in the chosen time. Click a model for its replicas. A model below its"
                " objectives with a long queue needs replicas (Capacity); without one it has a"
                " slow or failing replica.",
                {"model": "Model"},
                _model_columns(),
                {"model": (page_link("Its replicas", "gptoss-replicas", model="${__value.raw}"),)},
                wide=12,
            ),
        ),
    )


def _model_columns() -> list[Column]:
    objectives = [
        Column(
            word.capitalize(), attained(slo, "$__range", "model"), "percentunit", _steps(slo), RED
        )
        for slo, word in WORDS.items()
    ]
    requests = total(rate(REQUESTS, "$__range", model=MODELS), "model")
    return [
        Column("Requests", requests, "reqps"),
        *objectives,
        Column("TTFT p95", quantile(0.95, TTFT, "model", window="$__range", model=MODELS), "s"),
    ]


def _traffic() -> Row:
    everything = total(rate(REQUESTS, model="$model"), "model")
    return Row(
        "Requests and how they end",
        (
            lines(
                "Requests",
                "Requests answered a second, by model; `none` is those of which the model is not"
                " known. A sudden fall with the same clients: look at errors, and whether they"
                " reach the gateway at all.",
                "reqps",
                [Query(everything, "{{model}}")],
                Look(
                    links=(
                        page_link(
                            "Its replicas",
                            "gptoss-replicas",
                            model="${__field.labels.model}",
                        ),
                    )
                ),
            ),
            lines(
                "Failures that are ours",
                "Share of requests that ended by a fault of engines or gateways, by model, of those"
                " that the availability objective is about: what quotas refused, bad requests and"
                " clients that left are not counted. `before its model was known` is of all"
                " requests. Above the line the objective is being missed: the next panel says which"
                " fault.",
                "percentunit",
                [
                    Query(failing(), "{{model}}"),
                    Query(failing_early(), "before its model was known"),
                ],
                Look(((BUDGETS["availability"], RED),)),
            ),
            lines(
                "Errors by outcome",
                "Every request that did not end well, by its error's code, whoever's fault."
                " `engine_*` and `model_overloaded`: Replicas and Capacity. `rate_limit_exceeded`"
                " and `insufficient_quota`: Teams. Others are the clients' own.",
                "reqps",
                [
                    Query(
                        total(rate(REQUESTS, model="$model", outcome=Not("ok")), "outcome"),
                        "{{outcome}}",
                    )
                ],
                Look(stacked=True),
                needs="fault: requests that fail",
            ),
            lines(
                "Answers by status",
                "HTTP status of answers. 429 is a limit (Teams), 503 that there is no room or no"
                " engine, 499 that the client left. A stream that broke off later is still a 200:"
                " see the next panel.",
                "reqps",
                [Query(total(rate(REQUESTS, model="$model"), "status"), "{{status}}")],
                Look(stacked=True),
            ),
            lines(
                "Streams by end",
                "Streams that ended a second, by how. `client_left` is the client's; `engine_*` are"
                " failures after the first byte, which clients get as an error event and no status"
                " shows: find the replica on Replicas.",
                "ops",
                [Query(total(rate(contract.STREAMS, model="$model"), "end"), "{{end}}")],
                Look(stacked=True, colors={"complete": GREEN}),
            ),
            lines(
                "Streams cut short",
                "Share of streams that ended by an error event. More than a few while engines"
                " restart: an engine fails in the middle of answers (Replicas, ejections), or"
                " gateways do not drain (`shutdown`).",
                "percentunit",
                [Query(_cut(), "cut short")],
                Look(((0.001, RED),)),
            ),
        ),
    )


def _cut() -> Expr:
    everything = total(rate(contract.STREAMS, model="$model"))
    return (
        or_none(total(rate(contract.STREAMS, model="$model", end=BROKEN)), everything) / everything
    )


def _latency() -> Row:
    return Row(
        "Latency, as the gateway's clients see it",
        (
            lines(
                "Time to first token",
                "From a streamed request, once read, to its first token: line, prompt and gateway."
                " When it rises with the queue on Capacity, replicas are missing; without a queue"
                " prompts are longer or the prefix cache misses (Replicas).",
                "s",
                percentiles(TTFT, model="$model"),
                wide=6,
            ),
            lines(
                "Inter-token latency",
                "Between two pieces of a stream. p99 rising alone: long prompts of others hold up"
                " decoding, or preemptions (Replicas). All rising: more streams than the engines"
                " are good for.",
                "s",
                percentiles(ITL, model="$model"),
                wide=6,
            ),
            lines(
                "Time per output token",
                "Of a whole stream: its time after the first token, by its tokens. What users feel"
                " as reading speed. Rises with the batch: compare with running requests on"
                " Replicas, and add replicas if it nears the bound.",
                "s",
                percentiles(TPOT, model="$model"),
                wide=6,
            ),
            lines(
                "Whole answers",
                "From a request's first byte to its answer's last. It grows with the length of"
                " answers, so it has no objective: judge speed by the panels beside it.",
                "s",
                percentiles(DURATION, model="$model"),
                wide=6,
            ),
            _heat(
                "Time to first token, all",
                TTFT,
                "a second group far above the first is a queue, a cold cache, or one slow replica",
            ),
            _heat(
                "Inter-token latency, all",
                ITL,
                "cells far above the band are pauses that users"
                " see: preemptions or long prompts (Replicas)",
            ),
            _heat(
                "Time per output token, all",
                TPOT,
                "a band that splits in two is replicas or"
                " models of different speed: choose one model",
            ),
            _heat(
                "Whole answers, all",
                DURATION,
                "cells at the top that stay are requests near their time limit",
            ),
        ),
    )


def _heat(title: str, asked: Family, bad: str) -> Panel:
    description = f"How many a second took how long. What to look for: {bad}."
    return heatmap(title, description, "s", heat(asked, model="$model"))


def _tokens() -> Row:
    per_kind = total(rate(contract.TOKENS_CHARGED, model="$model"), "kind")
    return Row(
        "Tokens",
        (
            lines(
                "Tokens by kind",
                "Tokens charged a second. Cached ones are among the prompt's, reasoning among the"
                " completion's. Cached falling while the prompt's do not: the prefix cache is"
                " thrashing (Replicas).",
                "short",
                [Query(per_kind, "{{kind}}")],
                wide=12,
            ),
            lines(
                "Output tokens by model",
                "Completion tokens a second, by model: what the GPUs produce. Flat while the queue"
                " grows is saturation: Capacity says how many replicas are missing.",
                "short",
                [Query(_out(), "{{model}}")],
                wide=12,
            ),
        ),
    )


def _out() -> Expr:
    return total(rate(contract.TOKENS_CHARGED, model="$model", kind="completion"), "model")


PAGE: Final = Page(
    "gptoss-service",
    "What users of gpt-oss feel. Begin here; the other pages say why.",
    (_objectives(), _traffic(), _latency(), _tokens()),
    (MODEL,),
)

"""Capacity: what is asked against what there is, what scales it, and the GPUs."""

from typing import Final

from deploy.observability import external, vllm
from deploy.observability.external import DCGM, KUBERNETES
from deploy.observability.metric import Metric
from deploy.observability.page import MODEL, Page, Row, typed
from deploy.observability.pages.replicas import POOL, seen
from deploy.observability.panels import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    Look,
    Panel,
    Query,
    lines,
    page_link,
    stat,
)
from deploy.observability.promql import (
    Expr,
    everywhere,
    gauge,
    gauges,
    highest,
    or_if_none,
    quantile,
    rate,
    total,
)
from service.telemetry import contract

SEATS: Final = typed(
    "seats",
    "Requests per replica",
    "128",
    "What one replica serves well at once: its profile's `max_num_seqs` (`gptoss profiles`), or"
    " less where a load test said so.",
)
DEMAND: Final = (contract.REPLICA_REQUESTS, contract.QUEUE_WAITING, contract.QUEUE_HELD)
"""What the chart's ScaledObject asks of Prometheus, too."""

_POOL: Final = ("namespace", "pool")
_TO_REPLICAS: Final = page_link("Its replicas", "gptoss-replicas", pool="${__field.labels.pool}")
_LINKED: Final = Look(links=(_TO_REPLICAS,))


def demand(*by: str, **given: str) -> Expr:
    """Requests that gateways have open, in line and held."""
    return total(gauges(*DEMAND, **given), *by)


def _demand(*by: str) -> Expr:
    return demand(*by, pool="$pool")


def _up() -> Expr:
    """Replicas that take requests."""
    return seen(pool="$pool", state=("up", "trial"))


def _seats() -> Expr:
    return _up().times("$seats")


def _taken(*by: str) -> Expr:
    """Without a replica there are no seats to divide by: then all of none are taken."""
    seats = total(_seats(), *by)
    return or_if_none(_demand(*by) / seats.above(0), 1, seats)


def _headroom() -> Row:
    return Row(
        "Demand against supply",
        (
            stat(
                "Headroom",
                "The part of all seats that is free now; seats are `Requests per replica` times the"
                " replicas that are up, and 0 is shown if none is. Below 0 requests wait. Below a"
                " fifth at your busiest hour: one replica's failure will be felt; add one.",
                "percentunit",
                [Query(1 - _taken())],
                Look(((0.001, YELLOW), (0.2, GREEN)), RED, least=None, most=1, decimals=0),
                wide=6,
            ),
            stat(
                "Replicas that serve",
                "Replicas that take requests, of all pools chosen, as the gateway sees it that sees"
                " most. Fewer than you run: Replicas says which is out, and why.",
                "short",
                [Query(total(_up()))],
                Look(((1, GREEN),), RED, decimals=0),
                wide=6,
            ),
            stat(
                "Requests asked for",
                "Requests that gateways have at replicas, in line, and held until there is a"
                " replica: what autoscaling follows. Above the seats, requests wait.",
                "short",
                [Query(_demand())],
                Look(low=BLUE, decimals=0),
                wide=6,
            ),
            stat(
                "Longest wait now",
                "How long the request has waited that is in line longest. More than the bound of"
                " the first token: that objective is being missed; add replicas, or limit the team"
                " that asks most (Teams).",
                "s",
                [Query(highest(gauge(contract.QUEUE_OLDEST, pool="$pool")))],
                Look(((1, YELLOW), (5, RED))),
                wide=6,
            ),
            lines(
                "Demand and seats",
                "Requests asked for, and seats of the replicas that are up, by pool. Where the"
                " first is above the second, requests wait, and autoscaling should be adding"
                " replicas.",
                "short",
                [
                    Query(_demand(*_POOL), "{{pool}}: asked for"),
                    Query(_seats(), "{{pool}}: seats"),
                ],
                _LINKED,
                wide=12,
            ),
            lines(
                "Seats taken",
                "Requests asked for by seats. The chart's autoscaling aims at three quarters."
                " Always below a third: fewer replicas would do. Above 1: requests wait. A pool"
                " without a replica that is up is at 1, also where it was scaled to none.",
                "percentunit",
                [Query(_taken(*_POOL), "{{pool}}")],
                Look(((0.75, YELLOW), (1, RED)), links=(_TO_REPLICAS,)),
                wide=12,
            ),
        ),
    )


def _queue() -> Row:
    refused = total(rate(contract.QUEUE_REFUSED, model="$model"), "model", "reason")
    return Row(
        "In line",
        (
            _of_pools(
                "Waiting in line",
                contract.QUEUE_WAITING,
                "short",
                "Requests in line for a replica, by pool. Short waves are bursts; a level that"
                " stays is demand above supply: add replicas.",
            ),
            _of_pools(
                "Work in line",
                contract.QUEUE_WORK,
                "short",
                "The same in estimated tokens. Much work of few requests: long prompts are what"
                " waits, and the line will move slowly.",
            ),
            _of_pools(
                "Held without a replica",
                contract.QUEUE_HELD,
                "short",
                "Requests that wait for a replica to come at all. It should fall to 0 within a"
                " start of an engine: otherwise look at the engine's pod and at KEDA.",
            ),
            lines(
                "Time in line",
                "What requests waited for a replica, at the gateway. The difference from the time"
                " to first token is prompt and engine; this part goes away with more replicas.",
                "s",
                [
                    Query(
                        quantile(which, contract.QUEUE_SECONDS, "model", model="$model"),
                        f"{{{{model}}}} p{round(which * 100)}",
                    )
                    for which in (0.5, 0.95, 0.99)
                ],
            ),
            lines(
                "No place in line",
                "Requests refused at the line: `full`, `late` (would have waited too long),"
                " `displaced` by more urgent ones, `expired` in it. Any for long: users get 503 for"
                " want of replicas.",
                "reqps",
                [Query(refused, "{{model}}: {{reason}}")],
            ),
            lines(
                "Waiting within engines",
                "Requests that engines have and do not run yet, by model; the second trigger of"
                " autoscaling. More than a quarter of a batch: replicas are missing.",
                "short",
                [
                    Query(
                        total(gauge(vllm.WAITING, model_name="$model"), "model_name"),
                        "{{model_name}}",
                    )
                ],
            ),
        ),
    )


def _of_pools(title: str, asked: contract.Family, unit: str, description: str) -> Panel:
    each = total(gauge(asked, pool="$pool"), "pool")
    return lines(title, description, unit, [Query(each, "{{pool}}")], _LINKED)


def _scaling() -> Row:
    needs = KUBERNETES.unseen
    return Row(
        "Autoscaling",
        (
            lines(
                "Replicas, wanted and there",
                "What each autoscaler wants and has. Wanted above there for minutes: pods are"
                " pending for want of GPUs (`kubectl get events`), or engines start slowly.",
                "short",
                [
                    Query(_hpa(external.HPA_DESIRED), "{{horizontalpodautoscaler}}: wanted"),
                    Query(_hpa(external.HPA_CURRENT), "{{horizontalpodautoscaler}}: there"),
                ],
                Look(decimals=0),
                wide=12,
                needs=needs,
            ),
            lines(
                "Room to scale",
                "Replicas that an autoscaler may still add. 0 while requests wait: raise"
                " `maxReplicas` of the pool, if there are GPUs for it.",
                "short",
                [
                    Query(
                        _hpa(external.HPA_MOST) - _hpa(external.HPA_DESIRED),
                        "{{horizontalpodautoscaler}}",
                    )
                ],
                Look(decimals=0),
                wide=12,
                needs=needs,
            ),
        ),
    )


def _hpa(asked: Metric) -> Expr:
    return highest(gauge(asked), "namespace", "horizontalpodautoscaler")


def _gpus() -> Row:
    return Row(
        "GPUs, of all that the data source has",
        (
            _gpu(
                "GPU in use",
                external.GPU_USED,
                "percent",
                "Share of time that a GPU ran anything. Near 100 with few tokens says little: see"
                " tensor cores. 0 under load: that GPU is not used, or its engine stands.",
                100,
            ),
            _gpu(
                "Tensor cores in use",
                external.GPU_TENSOR,
                "percentunit",
                "Share of cycles in which the tensor cores worked. Low while decoding is normal, as"
                " memory is what it waits for; low in long prompts: look at the profile.",
                1,
            ),
            lines(
                "GPU memory in use",
                "Engines take their share (`gpu_memory_utilization`) at their start, so this is"
                " flat. Near full: another process is on the GPU, and the next start will fail.",
                "percentunit",
                [Query(_memory(), "{{Hostname}} {{gpu}}")],
                Look(((0.97, RED),), most=1),
                needs=DCGM.unseen,
            ),
            _gpu(
                "Power",
                external.GPU_POWER,
                "watt",
                "What each GPU draws. Far below the others at the same load: its clock is"
                " throttled; see its temperature, and the power cap of the node.",
            ),
            _gpu(
                "Temperature",
                external.GPU_HOT,
                "celsius",
                "Above about 85 °C clocks are lowered and inter-token latency rises: cooling of"
                " that node.",
            ),
            _gpu(
                "XID errors",
                external.GPU_XID,
                "short",
                "The last error of the driver for a GPU; 0 is none. 48, 79, 94 and 95 are the"
                " hardware: drain the node. 13, 31 and 43 are the program's: read the engine's"
                " log.",
            ),
        ),
    )


def _gpu(
    title: str, asked: Metric, unit: str, description: str, most: float | None = None
) -> Panel:
    each = highest(everywhere(asked), "Hostname", "gpu")
    look = Look(most=most)
    queries = [Query(each, "{{Hostname}} {{gpu}}")]
    return lines(title, description, unit, queries, look, needs=DCGM.unseen)


def _memory() -> Expr:
    used = highest(everywhere(external.GPU_MEMORY), "Hostname", "gpu")
    free = highest(everywhere(external.GPU_MEMORY_FREE), "Hostname", "gpu")
    return used / (used + free)


PAGE: Final = Page(
    "gptoss-capacity",
    "Whether there are enough replicas, and whether the GPUs do what they could.",
    (_headroom(), _queue(), _scaling(), _gpus()),
    (MODEL, POOL, SEATS),
    time="now-6h",
)

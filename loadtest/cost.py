"""What tokens cost, of all that the GPUs were there for: idle time is paid too."""

from loadtest.scenario.document import Cost
from loadtest.summary import Part, Price

_MILLION = 1e6


def price(cost: Cost, part: Part) -> Price:
    """By the rates of all of a run. A price of nothing is None."""
    per_second = cost.gpus * cost.price_per_gpu_hour / 3600
    return Price(
        gpus=cost.gpus,
        currency=cost.currency,
        tokens_per_gpu_second=part.output_rate / cost.gpus,
        per_million_output=_per_million(per_second, part.output_rate),
        per_million_total=_per_million(per_second, part.output_rate + part.prompt_rate),
    )


def _per_million(per_second: float, rate: float) -> float | None:
    return per_second / rate * _MILLION if rate > 0 else None

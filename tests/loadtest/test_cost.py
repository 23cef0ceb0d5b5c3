"""What tokens cost is what the GPUs cost by what they made."""

import pytest

from loadtest.scenario.document import Cost
from loadtest.summarise import summarise
from tests.loadtest.runs import answered, data, scenario


def test_a_million_tokens_cost_what_the_gpus_cost_while_they_were_made() -> None:
    """Two GPUs at 1.80 an hour are 0.001 a second; 110 tokens of answers and 1000 of prompts come
    in that: 9.09 and 0.90 a million."""
    records = [answered(number, number / 10) for number in range(990)]
    said = scenario(cost=Cost(gpus=2, price_per_gpu_hour=1.8, currency="EUR").model_dump())
    price = summarise(said, data(records), {}).price
    assert price is not None
    assert (price.gpus, price.currency) == (2, "EUR")
    assert price.tokens_per_gpu_second == pytest.approx(0.99 * 55)
    assert price.per_million_output == pytest.approx(0.001 / (0.99 * 110) * 1e6)
    assert price.per_million_total == pytest.approx(0.001 / (0.99 * 1110) * 1e6)


def test_without_gpus_nothing_has_a_price() -> None:
    assert summarise(scenario(), data([]), {}).price is None


def test_a_price_of_nothing_is_none() -> None:
    said = scenario(cost={"gpus": 1, "price_per_gpu_hour": 1})
    price = summarise(said, data([]), {}).price
    assert price is not None
    assert price.tokens_per_gpu_second == 0
    assert price.per_million_output is price.per_million_total is None

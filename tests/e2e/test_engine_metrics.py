"""The real engine's metrics are those by which queries are written: those of its golden."""

import pytest

from tests.e2e.conftest import ENGINE_KEY, MODEL, Stack
from tests.integration.fleet import until
from tests.observability import golden
from tests.observability.golden import GROWING, Shape


@pytest.fixture(scope="module")
def found(stack: Stack) -> dict[str, Shape]:
    """The families of an engine that was asked everything that the golden's was asked."""
    golden.exercise(stack.engine_url, ENGINE_KEY, MODEL)
    until(lambda: stack.engine_metric("vllm:num_requests_running") == 0)
    return golden.shapes(golden.page_of(stack.engine_url))


def test_it_has_the_families_of_its_golden(found: dict[str, Shape]) -> None:
    assert found.keys() == golden.read().keys(), "python -m tests.observability.golden"


@pytest.mark.parametrize("name", golden.read())
def test_a_family_is_as_in_the_golden(found: dict[str, Shape], name: str) -> None:
    """Other tests ask for more than the golden's engine was asked: that may only add to it."""
    one, expected = found[name], golden.read()[name]
    values, expected_values = one.pop("values", {}), expected.pop("values", {})
    assert one == expected
    assert values.keys() == expected_values.keys()
    for label, listed in expected_values.items():
        if label in GROWING:
            assert set(values[label]) >= set(listed)
        else:
            assert values[label] == listed

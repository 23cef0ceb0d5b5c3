"""Grace periods follow from one value, and a start that contradicts it is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import UserError
from service.grace import Grace, check

seconds = st.floats(0.1, 10_000)


@given(drain=seconds, notice=st.floats(0, 100))
def test_nobody_is_killed_before_the_drain_is_over(drain: float, notice: float) -> None:
    grace = Grace(drain, notice)
    assert grace.gateway_termination > notice + drain
    assert grace.engine_termination > grace.engine_pre_stop + grace.engine_shutdown
    assert grace.engine_shutdown == drain


@given(drain=seconds, given_=seconds)
def test_a_platform_that_kills_too_early_is_refused(drain: float, given_: float) -> None:
    needed = Grace(drain).gateway_termination
    if given_ < needed:
        with pytest.raises(UserError, match="GPTOSS_TERMINATION_GRACE") as caught:
            check("gateway", needed, given_)
        assert "\n" not in str(caught.value)
    else:
        check("gateway", needed, given_)


def test_a_platform_that_says_nothing_is_not_refused() -> None:
    check("gateway", 1_000, 0)

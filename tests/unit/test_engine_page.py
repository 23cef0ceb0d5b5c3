"""What is read of vLLM's metrics page, and that nothing on it can do harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.routing.engine_page import EnginePage

PAGE = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="gpt-oss-tiny"} 3.0
vllm:num_requests_waiting{engine="0",model_name="gpt-oss-tiny"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="gpt-oss-tiny",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="gpt-oss-tiny"} 0.25
vllm:prompt_tokens_total{engine="0",model_name="gpt-oss-tiny"} 100.0
vllm:prompt_tokens_created{engine="0",model_name="gpt-oss-tiny"} 1.7e+09
vllm:generation_tokens_total{engine="0",model_name="gpt-oss-tiny"} 50.0
vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="gpt-oss-tiny"} 7.0
vllm:iteration_tokens_total_count{engine="0",model_name="gpt-oss-tiny"} 20.0
vllm:iteration_tokens_total_sum{engine="0",model_name="gpt-oss-tiny"} 150.0
"""


def test_the_lines_that_count_are_read_and_no_others() -> None:
    page = EnginePage.read(PAGE)
    assert page == EnginePage(3, 2, 0.25, 100, 50, 100 + 50 + 20 + 150)


def test_ranks_are_added_up_and_the_fullest_cache_counts() -> None:
    second = PAGE.replace(b'engine="0"', b'engine="1"').replace(b"0.25", b"0.75")
    page = EnginePage.read(PAGE + second)
    assert page is not None
    assert (page.running, page.waiting, page.kv_usage) == (6, 4, 0.75)
    assert (page.prompt_tokens, page.generation_tokens) == (200, 100)


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"many"])
def test_a_page_with_what_is_no_number_is_no_page(value: bytes) -> None:
    assert EnginePage.read(PAGE.replace(b"3.0", value)) is None


@given(st.binary(max_size=200))
def test_another_servers_page_is_none(page: bytes) -> None:
    assert EnginePage.read(page) is None

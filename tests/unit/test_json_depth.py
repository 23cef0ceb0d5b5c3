"""How deep JSON is nested."""

import json
import time

from hypothesis import given
from hypothesis import strategies as st

from service.gateway.depth import is_deeper


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


values = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\,:ab'),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(alphabet='[]{}"\\ab'), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(values, st.integers(0, 6))
def test_it_is_the_depth_of_the_value_whatever_its_texts_hold(value: object, most: int) -> None:
    body = json.dumps(value).encode()
    assert is_deeper(body, most) == (depth(value) > most)


def test_a_hostile_body_of_eight_megabytes_takes_no_longer_than_reading_it() -> None:
    size = 8 << 20
    bodies = (
        b"[" * (size // 2) + b"]" * (size // 2),
        b"[" + b"[]," * (size // 3) + b"[]]",
        b'["' + b'\\"[' * (size // 3) + b'"]',
        b"[" + b'"",' * (size // 3) + b"[" * 65,
        (b"[" * 60 + b"]" * 60 + b",") * 1600,
    )
    began = time.process_time()
    for body in bodies:
        is_deeper(body, 64)
    took = time.process_time() - began
    began = time.process_time()
    for body in bodies:
        list(body)  # a pass over all bytes that does nothing
    assert took < 3 * (time.process_time() - began)

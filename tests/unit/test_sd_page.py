"""What a page of Prometheus' HTTP service discovery says, and what one does that is none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.routing.resolver import Resolution
from service.routing.sd_page import Unusable, read

ALL = frozenset({4, 6})
# What stands on the page, and where the replica is.
GOOD = {
    "10.0.0.7:8100": "http://10.0.0.7:8100",
    "10.0.0.7:08101": "http://10.0.0.7:8101",
    "[FD00::0:7]:8100": "http://[fd00::7]:8100",
    "Engine-7.corp:1": "http://engine-7.corp:1",
    "engine_7.:65535": "http://engine_7.:65535",
    "localhost:8100": "http://localhost:8100",
}
NOBODYS = ("0.0.0.0:8100", "[::]:8100", "224.0.0.1:8100", "[ff02::1]:8100")
BAD = (
    "",
    ":8100",
    "10.0.0.7",
    "10.0.0.7:",
    "10.0.0.7:0",
    "10.0.0.7:65536",
    "10.0.0.7:81oo",
    "10.0.0.256:8100",
    "10.0.0:8100",
    "fd00::7:8100",
    "[fd00::7]",
    "[10.0.0.7]:8100",
    "http://10.0.0.7:8100",
    "10.0.0.7:8100/metrics",
    "10.0.0.7:8100?x",
    "user@10.0.0.7:8100",
    " 10.0.0.7:8100",
    "10.0.0.7:8100\n",
    "10.0.0.7:8100,10.0.0.8:8100",
    "b\u00fccher:8100",
    "a..b:8100",
    "x" * 5000,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


def page(*groups: object) -> bytes:
    return json.dumps(groups).encode()


@given(st.data())
def test_every_good_target_is_found_and_a_bad_one_lets_none_be_gone(data: st.DataObject) -> None:
    targets = data.draw(st.lists(st.sampled_from([*GOOD, *NOBODYS, *BAD])))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(targets)), max_size=4)))
    groups = [
        {"targets": targets[begin:end], **data.draw(st.dictionaries(st.just("labels"), JSON))}
        for begin, end in zip([0, *cuts], [*cuts, len(targets)], strict=True)
    ]
    found = read(page(*groups))
    assert found.origins == {GOOD[target] for target in targets if target in GOOD}
    bad = set(targets) & set(BAD)
    assert found.unsure == (ALL if bad else frozenset())
    assert bool(found.error) == bool(bad)
    if bad:
        assert found.error.startswith(f"{len(bad)} of {len(set(targets))} targets are no host:port")


@pytest.mark.parametrize("target", BAD)
def test_a_bad_target_is_shown_in_one_short_line(target: str) -> None:
    error = read(page({"targets": [target]})).error
    assert ascii(target[:20])[:-1] in error
    assert error.isprintable()
    assert len(error) < 150


@pytest.mark.parametrize(
    "body",
    [b"[]", b" [ ] ", b'[{"targets": []}]', b'[{"targets": [], "labels": {}}, {"targets": []}]']
    + [page({"targets": [target]}) for target in NOBODYS],
)
def test_a_page_without_a_target_says_that_there_is_none(body: bytes) -> None:
    assert read(body) == Resolution()


@pytest.mark.parametrize("labels", [{"a": "b"}, None, 7, ["x"], {"__scheme__": "https"}])
def test_labels_and_other_fields_are_not_looked_at(labels: object) -> None:
    body = page({"targets": ["10.0.0.7:8100"], "labels": labels, "source": "x"})
    assert read(body) == Resolution(frozenset({"http://10.0.0.7:8100"}))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"<html></html>", "not JSON"),
        (b"[", "not JSON"),
        (b"[]]", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"1" * 100_000, "not JSON"),
        (b"null", "not a list"),
        (b"{}", "not a list"),
        (b'"10.0.0.7:8100"', "not a list"),
        (page("10.0.0.7:8100"), "not a list"),
        (page({}), "not a list"),
        (page({"labels": {}}), "not a list"),
        (page({"targets": None}), "not a list"),
        (page({"targets": "10.0.0.7:8100"}), "not a list"),
        (page({"targets": {"10.0.0.7:8100": 1}}), "not a list"),
        (page({"targets": [8100]}), "not a list"),
        (page({"targets": ["10.0.0.7:8100"]}, {"target": ["10.0.0.8:8100"]}), "not a list"),
        (page([{"targets": []}]), "not a list"),
    ],
)
def test_what_is_not_of_the_format_is_not_read_in_part(body: bytes, said: str) -> None:
    with pytest.raises(Unusable) as caught:
        read(body)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=60) | JSON.map(json.dumps).map(str.encode))
def test_whatever_a_page_is_it_is_read_or_unusable(body: bytes) -> None:
    try:
        found = read(body)
    except Unusable as error:
        assert len(str(error)) < 100
    else:
        assert all(origin.startswith("http://") for origin in found.origins)

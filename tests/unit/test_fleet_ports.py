"""No two engines of a node get one port, and what is left of an engine are the ends of its logs."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import UserError
from service.fleet.replica import _LOGS_KEPT, Ports, _prune, _tail
from tests.process import free_port

HERE: Final = "127.0.0.1"
COUNT: Final = 4


@pytest.fixture(scope="module")
def first() -> int:
    """Of four in a row that nobody else uses."""
    return free_port(COUNT)


@contextmanager
def listener(address: str, port: int) -> Iterator[None]:
    """Something that is there already."""
    with socket.socket() as there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        there.bind((address, port))
        there.listen()
        yield


@contextmanager
def several(first: int, number: int) -> Iterator[list[Ports]]:
    """Of as many engines."""
    with ExitStack() as stack:
        made = [Ports(first, first + COUNT - 1) for _ in range(number)]
        for ports in made:
            stack.callback(ports.release)
        yield made


# Ports


def test_the_first_that_is_free_is_taken_before_anything_listens_there(first: int) -> None:
    with several(first, 2) as (one, other):
        assert (one.take(HERE), other.take(HERE)) == (first, first + 1)


def test_engines_that_start_at_once_never_get_the_same(first: int) -> None:
    with several(first, COUNT) as made, ThreadPoolExecutor(COUNT) as pool:
        taken = list(pool.map(lambda ports: ports.take(HERE), made))
    assert sorted(taken) == list(range(first, first + COUNT))


def test_a_port_at_which_something_listens_is_skipped(first: int) -> None:
    with listener(HERE, first), several(first, 1) as (ports,):
        assert ports.take(HERE) == first + 1


def test_what_has_a_port_everywhere_has_it_here(first: int) -> None:
    with socket.socket() as there, several(first, 1) as (ports,):
        there.bind(("0.0.0.0", first))  # noqa: S104  # it keeps others out and lets nobody in
        assert ports.take(HERE) == first + 1


def _own_address() -> str:
    """This machine's in its network; nothing is sent to ask for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
        except OSError:
            return HERE
        return str(asked.getsockname()[0])


@pytest.mark.skipif(_own_address() == HERE, reason="this machine is in no network")
def test_a_port_that_is_taken_on_loopback_alone_is_skipped(first: int) -> None:
    """An engine listens on all of the node's addresses: it could not start there."""
    with listener(HERE, first), several(first, 1) as (ports,):
        assert ports.take(_own_address()) == first + 1


def test_two_nodes_of_one_machine_are_two(first: int) -> None:
    with several(first, 2) as (one, other):
        assert one.take("127.0.0.2") == other.take("127.0.0.3") == first


def test_all_taken_is_one_line_that_says_where(first: int) -> None:
    with several(first, COUNT) as made:
        for ports in made:
            ports.take(HERE)
        with pytest.raises(UserError) as caught:
            Ports(first, first + COUNT - 1).take(HERE)
    message = str(caught.value)
    assert "\n" not in message
    assert f"on {HERE} all ports from {first} to {first + COUNT - 1} are taken" in message
    assert "`ports`" in message


def test_an_address_of_another_node_is_not_said_to_be_full_of_ports(first: int) -> None:
    """192.0.2.0/24 is nobody's."""
    with pytest.raises(UserError) as caught:
        Ports(first, first + COUNT - 1).take("203.0.113.7")
    assert "203.0.113.7" in str(caught.value)
    assert "are taken" not in str(caught.value)


def test_what_is_given_back_is_free_again(first: int) -> None:
    with several(first, 2) as (one, other):
        assert one.take(HERE) == first
        one.release()
        one.release()  # nothing to give back
        assert other.take(HERE) == first


def test_who_asks_and_gets_none_keeps_none(first: int) -> None:
    with several(first, 1) as (ports,):
        with listener(HERE, first), pytest.raises(UserError):
            Ports(first, first).take(HERE)
        assert ports.take(HERE) == first


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "release", "listen", "end"]), st.integers(0, 5)),
        max_size=25,
    )
)
def test_a_port_is_never_one_that_somebody_has(first: int, doings: list[tuple[str, int]]) -> None:
    everything = set(range(first, first + COUNT))
    with several(first, 6) as made, ExitStack() as stack:
        engines: dict[int, int] = {}
        others: dict[int, ExitStack] = {}
        for doing, number in doings:
            port = first + number % COUNT
            match doing:
                case "take" if number not in engines:
                    free = everything - set(engines.values()) - others.keys()
                    if free:
                        engines[number] = made[number].take(HERE)
                        assert engines[number] == min(free)
                    else:
                        with pytest.raises(UserError):
                            made[number].take(HERE)
                case "release":
                    made[number].release()
                    engines.pop(number, None)
                case "listen" if port not in others and port not in engines.values():
                    others[port] = stack.enter_context(ExitStack())
                    others[port].enter_context(listener(HERE, port))
                case "end" if port in others:
                    others.pop(port).close()


# Logs


def log(folder: Path, name: str, age: float, text: str = "") -> Path:
    """A log that was written to so many seconds ago."""
    path = folder / f"{name}.log"
    path.write_text(text)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


@given(st.permutations(range(_LOGS_KEPT + 7)))
def test_the_newest_logs_are_kept(
    tmp_path_factory: pytest.TempPathFactory, ages: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    for age in ages:
        log(folder, f"fleet-a-{age}", age)
    gateway = log(folder, "gateway", 1e6)
    _prune(folder, "fleet-a-*.log")
    kept = {int(path.stem.rpartition("-")[2]) for path in folder.glob("fleet-*")}
    assert kept == set(range(_LOGS_KEPT))
    assert gateway.exists(), "nobody else's"


def test_a_log_that_goes_meanwhile_is_no_reason_to_fail(tmp_path: Path) -> None:
    """Another engine of the node prunes at the same time: here it is a link to nothing."""
    for age in range(_LOGS_KEPT + 1):
        log(tmp_path, f"fleet-a-{age}", age)
    (tmp_path / "fleet-a-gone.log").symlink_to(tmp_path / "nothing")
    _prune(tmp_path, "fleet-a-*.log")
    assert (tmp_path / "fleet-a-0.log").exists()


@given(st.lists(st.text("ab é", max_size=9), max_size=30), st.integers(1, 40))
def test_the_end_of_a_log_is_its_last_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], number: int
) -> None:
    path = log(tmp_path_factory.mktemp("logs"), "one", 0, "".join(f"{line}\n" for line in lines))
    assert _tail(path, number) == "\n".join(lines[-number:])


def test_the_end_of_a_long_log_is_not_all_of_it(tmp_path: Path) -> None:
    path = log(tmp_path, "one", 0, "é" * (1 << 20) + "\nlast\n")
    assert _tail(path, 1) == "last"
    assert len(_tail(path, 10_000).encode()) <= 1 << 21


def test_a_log_that_there_is_not_yet_is_empty(tmp_path: Path) -> None:
    assert _tail(tmp_path / "none.log", 5) == ""


def test_a_log_that_is_no_text_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "one.log"
    path.write_bytes(b"\xff\xfegood\n")
    assert _tail(path, 1).endswith("good")

"""Replicas are found through a real DNS server, and kept while it fails."""

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from service.address import parse
from service.routing.discovery import MOST_ORIGINS, Discovery
from tests.integration.followed import SECONDS, Followed, followed, happens, run
from tests.servers.dns import DNS, Behaviour

NAME = "engines.serving.test"
URL = f"dns+http://{NAME}.:8000"
SRV = f"_http._tcp.{NAME}"
SRV_URL = f"srv+http://{SRV}."
ONE, TWO, THREE = (f"http://10.0.0.{number}:8000" for number in (1, 2, 3))
INTERVAL = 0.01
# For one question that nobody answers. Where all are, a pause of this process is no failure.
TIMEOUT = 0.3
ROUNDS = 3


async def rounds(server: DNS, kind: str = "AAAA", number: int = ROUNDS) -> None:
    """Wait until so many more rounds are over, begun after this moment."""
    until = server.asked(kind) + number + 2
    await happens(lambda: server.asked(kind) >= until, "rounds go by")


@contextlib.asynccontextmanager
async def following(url: str, server: DNS, **options: Any) -> AsyncIterator[Followed]:
    defaults: dict[str, Any] = {
        "interval": INTERVAL,
        "timeout": SECONDS,
        "resolv_conf": os.devnull,
    }
    options = defaults | options
    async with followed(Discovery(parse(url), nameserver=server.address, **options)) as one:
        yield one


@pytest.fixture
def server() -> Iterator[DNS]:
    with DNS() as server:
        yield server


def test_a_static_address_is_reported_once_and_asks_nobody(server: DNS) -> None:
    async def main() -> None:
        async with following("http://engine:8000", server) as followed:
            await followed.reports_are({"http://engine:8000"})
            await asyncio.sleep(5 * INTERVAL)
            await followed.reports_are({"http://engine:8000"})
        assert server.asked() == 0

    run(main())


@pytest.mark.parametrize("loop", [uvloop.run, asyncio.run])
def test_replicas_come_and_go(
    server: DNS, loop: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def main() -> None:
        server.put(NAME, "A", "10.0.0.1")
        async with following(URL, server) as followed:
            await followed.reports_are({ONE})
            server.put(NAME, "A", "10.0.0.2", "10.0.0.1", "10.0.0.3")
            await followed.reports_are({ONE}, {ONE, TWO, THREE})
            server.put(NAME, "A", "10.0.0.3")
            await followed.reports_are({ONE}, {ONE, TWO, THREE}, {THREE})
            assert followed.discovery.origins == {THREE}
            assert followed.discovery.failures == 0
            assert followed.discovery.last_error == ""

    loop(main())


def test_another_order_is_no_change(server: DNS) -> None:
    async def main() -> None:
        server.put(NAME, "A", "10.0.0.1", "10.0.0.2")
        async with following(URL, server) as followed:
            await followed.reports_are({ONE, TWO})
            server.put(NAME, "A", "10.0.0.2", "10.0.0.1")
            await rounds(server)
            await followed.reports_are({ONE, TWO})

    run(main())


def test_replicas_have_addresses_of_both_versions(server: DNS) -> None:
    async def main() -> None:
        server.put(NAME, "A", "10.0.0.1")
        server.put(NAME, "AAAA", "fd00::0:1")
        async with following(URL, server) as followed:
            await followed.reports_are({ONE, "http://[fd00::1]:8000"})

    run(main())


def test_what_is_no_address_of_a_replica_is_left_out(server: DNS) -> None:
    async def main() -> None:
        server.put(NAME, "A", "0.0.0.0", "224.0.0.1", "10.0.0.1")  # noqa: S104
        server.put(NAME, "AAAA", "::", "ff02::1")
        async with following(URL, server) as followed:
            await followed.reports_are({ONE})

    run(main())


@pytest.mark.parametrize(
    "how",
    [
        Behaviour.SERVFAIL,
        Behaviour.REFUSED,
        Behaviour.DROP,
        Behaviour.HOLD,
        Behaviour.RUBBISH,
        Behaviour.TORN,
    ],
)
@pytest.mark.parametrize("url", [URL, SRV_URL])
def test_a_failure_changes_nothing_and_is_over_when_it_is_over(
    server: DNS, url: str, how: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server.put(NAME, "A", "10.0.0.1", "10.0.0.2")
        server.put(SRV, "SRV", f"0 0 8000 {NAME}.")
        async with following(url, server, timeout=TIMEOUT) as followed:
            await followed.reports_are({ONE, TWO})
            caplog.clear()  # a pause of this process before may have been a failure
            server.behave(how)
            await followed.failed()
            assert NAME in followed.discovery.last_error
            assert "\n" not in followed.discovery.last_error
            server.put(NAME, "A", "10.0.0.3")
            await followed.failed()
            assert followed.discovery.origins == {ONE, TWO}
            server.behave(Behaviour.ANSWER)
            server.release()
            await followed.reports_are({ONE, TWO}, {THREE})
            assert followed.discovery.last_error == ""

    run(main())
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    said = [record.getMessage() for record in caplog.records]
    assert all(url in began and "stay (" in began for began in said[::2])
    assert all("are answered again" in ended for ended in said[1::2])
    assert "stay (2)" in said[0] and len(said) > 1


def test_no_server_at_all_changes_nothing(server: DNS) -> None:
    async def main() -> None:
        server.put(NAME, "A", "10.0.0.1")
        async with following(URL, server, timeout=TIMEOUT) as followed:
            await followed.reports_are({ONE})
            server.stop()
            await followed.failed()
            server.put(NAME, "A", "10.0.0.2")
            server.start()
            await followed.reports_are({ONE}, {TWO})

    run(main())


def test_a_server_that_is_away_at_first_is_waited_for(server: DNS) -> None:
    async def main() -> None:
        server.put(NAME, "A", "10.0.0.1")
        server.behave(Behaviour.SERVFAIL)
        async with following(URL, server) as followed:
            await followed.failed()
            await followed.reports_are()
            server.behave(Behaviour.ANSWER)
            await followed.reports_are({ONE})

    run(main())


def test_a_slow_answer_is_an_answer(server: DNS) -> None:
    async def main() -> None:
        server.put(NAME, "A", "10.0.0.1")
        server.behave(Behaviour.HOLD)
        async with following(URL, server) as followed:
            await happens(lambda: server.asked() == 2, "both are asked")
            await followed.reports_are()
            server.release()
            await followed.reports_are({ONE})
            assert followed.discovery.failures == 0

    run(main())


def test_what_does_not_fit_is_asked_for_again_by_tcp(server: DNS) -> None:
    async def main() -> None:
        server.put(NAME, "A", "10.0.0.1")
        server.behave(Behaviour.TRUNCATE)
        async with following(URL, server) as followed:
            await followed.reports_are({ONE})
            assert server.asked(by_tcp=True) > 0

    run(main())


def test_four_thousand_replicas_are_taken_the_same_each_time(
    server: DNS, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        addresses = [f"10.{one}.{two}.1" for one in range(12) for two in range(200)]
        server.put(NAME, "A", *addresses)
        server.put(NAME, "AAAA", *(f"fd00::{number:x}" for number in range(1, 2201)))
        async with following(URL, server) as followed:
            await happens(lambda: len(followed.reports) > 0, "replicas are reported")
            server.put(NAME, "A", *reversed(addresses))
            await rounds(server, number=1)
            assert len(followed.reports) == 1
            assert len(followed.reports[0]) == MOST_ORIGINS

    run(main())
    (record,) = caplog.records
    assert "4600 replicas, of which 4096" in record.getMessage()


@pytest.mark.parametrize("how", [Behaviour.NXDOMAIN, Behaviour.NODATA])
@pytest.mark.parametrize(("url", "kind"), [(URL, "A"), (SRV_URL, "SRV")])
def test_none_is_believed_when_it_was_said_three_times_in_a_row(
    server: DNS, url: str, kind: str, how: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server.put(NAME, "A", "10.0.0.1")
        server.put(SRV, "SRV", f"0 0 8000 {NAME}.")
        async with following(url, server) as followed:
            await followed.reports_are({ONE})
            fail = Behaviour.SERVFAIL
            for script in ([how], [how, how], [how, how, fail, how, how]):
                server.script(kind, *script)
                await happens(lambda: not server.is_scripted(kind), "the script is over")
                await rounds(server, kind)
            await followed.reports_are({ONE})
            assert followed.discovery.failures == 1
            caplog.clear()
            server.script(kind, how, how, how)
            await followed.reports_are({ONE}, set(), {ONE})
            assert followed.discovery.last_error == ""
            server.script(kind, *[how] * 20)
            await followed.reports_are({ONE}, set(), {ONE}, set())
            assert "has no address" in followed.discovery.last_error
            assert followed.discovery.failures == 1

    run(main())
    assert len([record for record in caplog.records if "no address" in record.message]) == 2


@pytest.mark.parametrize("how", [Behaviour.NXDOMAIN, Behaviour.NODATA])
def test_a_name_without_addresses_of_one_version_has_those_of_the_other(
    server: DNS, how: Behaviour
) -> None:
    async def main() -> None:
        server.put(NAME, "A", "10.0.0.1")
        server.behave(how, "AAAA")
        async with following(URL, server) as followed:
            await followed.reports_are({ONE})
            assert followed.discovery.failures == 0

    run(main())


def test_while_one_question_fails_its_addresses_stay_and_the_others_change(server: DNS) -> None:
    async def main() -> None:
        six = "http://[fd00::1]:8000"
        server.put(NAME, "A", "10.0.0.1")
        server.put(NAME, "AAAA", "fd00::1")
        async with following(URL, server) as followed:
            await followed.reports_are({ONE, six})
            server.behave(Behaviour.SERVFAIL, "AAAA")
            await followed.failed()
            server.put(NAME, "A", "10.0.0.2")
            await followed.reports_are({ONE, six}, {TWO, six})
            server.put(NAME, "A")
            await followed.failed()
            await followed.reports_are({ONE, six}, {TWO, six})
            server.behave(Behaviour.ANSWER)
            await followed.reports_are({ONE, six}, {TWO, six}, {six})

    run(main())


@pytest.mark.parametrize("glue", [True, False])
def test_srv_records_say_host_and_port(server: DNS, glue: bool) -> None:
    async def main() -> None:
        server.glue = glue
        server.put("a.test", "A", "10.0.0.1")
        server.put("b.test", "A", "10.0.0.2")
        server.put("b.test", "AAAA", "fd00::2")
        server.put(SRV, "SRV", "9 9 8000 a.test.", "0 0 8000 b.test.", "0 0 8001 b.test.")
        b = {TWO, "http://10.0.0.2:8001", "http://[fd00::2]:8000", "http://[fd00::2]:8001"}
        async with following(SRV_URL, server) as followed:
            await followed.reports_are({ONE, *b})
            assert (server.asked("A") == 0) == glue
            server.put(SRV, "SRV", "0 0 8000 a.test.", "0 0 1 .", "0 0 0 b.test.")
            await followed.reports_are({ONE, *b}, {ONE})
            assert followed.discovery.failures == 0

    run(main())


def test_a_target_that_cannot_be_looked_up_costs_nothing_that_is_known(server: DNS) -> None:
    async def main() -> None:
        server.glue = False
        server.put("a.test", "A", "10.0.0.1")
        server.put("b.test", "AAAA", "fd00::2")
        server.put(SRV, "SRV", "0 0 8000 a.test.", "0 0 8000 b.test.", "0 0 8000 gone.test.")
        both = {ONE, "http://[fd00::2]:8000"}
        async with following(SRV_URL, server, timeout=TIMEOUT) as followed:
            await followed.reports_are(both)
            server.behave(Behaviour.DROP, "A")
            await followed.failed()
            server.put("b.test", "AAAA", "fd00::3")
            await followed.reports_are(both, {ONE, "http://[fd00::3]:8000"})

    run(main())


SEARCH = "search serving.test svc.test other.test\noptions ndots:5\n"


@pytest.fixture
def resolv_conf(tmp_path: Path) -> str:
    """As in a pod: search domains, and most names are relative."""
    path = tmp_path / "resolv.conf"
    path.write_text(SEARCH)
    return str(path)


@pytest.mark.parametrize("name", ["engines", "engines.serving", "engines.serving.test"])
def test_a_short_name_is_found_by_the_search_domains(
    server: DNS, resolv_conf: str, name: str
) -> None:
    async def main() -> None:
        server.put(
            "engines.serving.svc.test" if name == "engines.serving" else NAME, "A", "10.0.0.1"
        )
        url = f"dns+http://{name}:8000"
        async with following(url, server, resolv_conf=resolv_conf) as followed:
            await followed.reports_are({ONE})
            assert followed.discovery.failures == 0

    run(main())


def test_with_enough_dots_a_name_is_asked_for_as_it_is_first(server: DNS, tmp_path: Path) -> None:
    async def main() -> None:
        server.put(NAME, "A", "10.0.0.1")
        server.put(f"{NAME}.serving.test", "A", "10.0.0.2")
        path = tmp_path / "resolv.conf"
        path.write_text(SEARCH.replace("ndots:5", "ndots:2"))
        url = f"dns+http://{NAME}:8000"
        async with following(url, server, resolv_conf=str(path)) as followed:
            await followed.reports_are({ONE})
            assert server.asked(name=f"{NAME}.serving.test") == 0

    run(main())


def test_a_name_with_a_last_dot_is_not_searched_for(server: DNS, resolv_conf: str) -> None:
    async def main() -> None:
        server.put(NAME, "A", "10.0.0.1")
        async with following("dns+http://engines.:8000", server, resolv_conf=resolv_conf) as lost:
            await happens(lambda: "has no address" in lost.discovery.last_error, "none is said")
            assert server.asked() == server.asked(name="engines")

    run(main())


def test_an_empty_service_is_not_looked_for_in_a_later_domain(
    server: DNS, resolv_conf: str
) -> None:
    """There, somebody else may have a wildcard record."""

    async def main() -> None:
        server.put("engines.other.test", "A", "10.0.0.66")
        server.put(NAME, "A", "10.0.0.1")
        url = "dns+http://engines:8000"
        async with following(url, server, resolv_conf=resolv_conf) as followed:
            await followed.reports_are({ONE})
            server.put(NAME, "A")
            await followed.reports_are({ONE}, set())
            server.put(NAME, "A", "10.0.0.2")
            await followed.reports_are({ONE}, set(), {TWO})
        assert server.asked(name="engines.other.test") == 0

    run(main())


def test_a_failure_in_a_search_domain_ends_the_search(server: DNS, resolv_conf: str) -> None:
    async def main() -> None:
        server.put("engines.other.test", "A", "10.0.0.66")
        server.behave(Behaviour.SERVFAIL)
        url = "dns+http://engines:8000"
        async with following(url, server, resolv_conf=resolv_conf) as followed:
            await followed.failed()
            await followed.reports_are()
            assert server.asked() == server.asked(name=NAME)

    run(main())


def test_a_wrong_resolv_conf_is_a_failure_until_it_is_mended(server: DNS, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "resolv.conf"
        discovery = Discovery(parse(URL), interval=INTERVAL, timeout=TIMEOUT, resolv_conf=str(path))
        async with followed(discovery) as one:
            for content in (None, "nameserver localhost\n", "nameserver\n", "search a..b\n"):
                if content is not None:
                    path.write_text(content)
                await one.failed(2)
            assert discovery.last_error

    run(main())


def test_the_settings_import_no_resolver() -> None:
    """The launcher, and every command, starts as fast as before."""
    code = "import sys, service.settings; sys.exit('dns' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

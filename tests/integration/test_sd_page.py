"""Replicas are found on a real page over HTTP, and kept while it fails."""

import asyncio
import contextlib
import json
import logging
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from service.address import parse
from service.routing.discovery import MOST_ORIGINS, Discovery
from service.routing.sd_page import MAX_BYTES
from service.tenants.team import Team
from tests.integration import fleet as lengths
from tests.integration.fleet import Fleet, Gateway, Replica, until
from tests.integration.followed import SECONDS, Followed, followed, happens, run
from tests.office import Office
from tests.process import free_port
from tests.servers.page import PATH, Behaviour, Page

ONE, TWO, THREE = (f"http://10.0.0.{number}:8100" for number in (1, 2, 3))
INTERVAL = 0.01
# For one answer that does not come. Where it does, a pause of this process is no failure.
TIMEOUT = 0.3


@pytest.fixture
def page() -> Iterator[Page]:
    with Page() as page:
        yield page


@contextlib.asynccontextmanager
async def following(page: Page, *, within: float = SECONDS) -> AsyncIterator[Followed]:
    discovery = Discovery(parse(page.url), interval=INTERVAL, timeout=within)
    async with followed(discovery) as one:
        yield one


async def rounds(page: Page) -> None:
    """Wait until three more are over, begun after this moment."""
    asked = page.asked + 5
    await happens(lambda: page.asked >= asked, "rounds go by")


def targets(*urls: str) -> list[str]:
    return [url.removeprefix("http://") for url in urls]


@pytest.mark.parametrize("loop", [uvloop.run, asyncio.run])
def test_replicas_come_and_go(
    page: Page, loop: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def main() -> None:
        page.put(*targets(ONE))
        async with following(page) as one:
            await one.reports_are({ONE})
            page.put(*targets(TWO, ONE, THREE))
            await one.reports_are({ONE}, {ONE, TWO, THREE})
            page.put(*targets(THREE, ONE, TWO))
            await rounds(page)
            page.put(*targets(THREE), "[fd00::7]:8100", "engine-7:8100", "0.0.0.0:8100")
            last = {THREE, "http://[fd00::7]:8100", "http://engine-7:8100"}
            await one.reports_are({ONE}, {ONE, TWO, THREE}, last)
            assert one.discovery.failures == 0
            assert one.discovery.last_error == ""

    loop(main())


def test_the_page_itself_is_asked_for_and_nobody_else(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a proxy of the environment, which the way to the engines does not have either."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")

    async def main() -> None:
        page.put(*targets(ONE))
        async with following(page) as one:
            await one.reports_are({ONE})

    run(main())
    first, *headers = page.seen[0].lower().splitlines()
    assert first == f"get {PATH} http/1.1"
    assert {"accept: application/json", f"host: 127.0.0.1:{page.port}"} <= set(headers)
    assert not any(header.startswith(("authorization", "cookie")) for header in headers)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (Behaviour.FAIL, "answered 500, not 200"),
        (Behaviour.REDIRECT, "answered 302, not 200"),
        (Behaviour.EMPTY, "answered 204, not 200"),
        (Behaviour.HANG, f"did not answer within {TIMEOUT} s"),
        (Behaviour.DRIP, f"did not answer within {TIMEOUT} s"),
        (Behaviour.HUGE, "larger than 1 MiB"),
        (Behaviour.TORN, "peer closed connection"),
        (Behaviour.CLOSE, "disconnected"),
        (Behaviour.GARBAGE, "illegal"),
        (Behaviour.PACKED, "not JSON"),
    ],
)
def test_a_failure_changes_nothing_and_is_over_when_it_is_over(
    page: Page, how: Behaviour, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    never = how in (Behaviour.HANG, Behaviour.DRIP)

    async def main() -> None:
        page.put(*targets(ONE, TWO))
        async with following(page, within=TIMEOUT if never else SECONDS) as one:
            await one.reports_are({ONE, TWO})
            caplog.clear()  # a pause of this process before may have been a failure
            page.behave(how)
            await one.failed()
            page.put(*targets(THREE))
            await one.failed()
            assert one.discovery.last_error.startswith(f"http://127.0.0.1:{page.port}{PATH}")
            assert said in one.discovery.last_error
            assert "\n" not in one.discovery.last_error
            assert one.discovery.origins == {ONE, TWO}
            page.behave(Behaviour.ANSWER)
            await one.reports_are({ONE, TWO}, {THREE})
            assert one.discovery.last_error == ""

    run(main())
    assert not any("/elsewhere" in head for head in page.seen)
    records = [record for record in caplog.records if record.name.startswith("service")]
    assert {record.levelno for record in records} == {logging.WARNING}
    texts = [record.getMessage() for record in records]
    assert f"{page.url} fail; the replicas known from it stay (2). See that the URL" in texts[0]
    assert all(f"{page.url} fail; " in began for began in texts[::2])
    assert all(f"{page.url} are answered again" in ended for ended in texts[1::2])
    assert len(texts) > 1


@pytest.mark.parametrize(
    "text", ["", "<html>", "{}", "null", '[["10.0.0.9:8100"]]', '[{"targets": "10.0.0.9:8100"}]']
)
def test_a_page_of_another_format_changes_nothing(page: Page, text: str) -> None:
    async def main() -> None:
        page.put(*targets(ONE))
        async with following(page) as one:
            await one.reports_are({ONE})
            page.write(text)
            await one.failed()
            page.put(*targets(TWO))
            await one.reports_are({ONE}, {TWO})

    run(main())


def test_while_a_target_is_misspelt_the_others_come_and_none_leaves(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        page.put(*targets(ONE, TWO))
        async with following(page) as one:
            await one.reports_are({ONE, TWO})
            page.put("10.0.0.1:81oo", *targets(THREE))
            await one.reports_are({ONE, TWO}, {ONE, TWO, THREE})
            await one.failed()
            error = "1 of 2 targets are no host:port: '10.0.0.1:81oo'"
            assert error in one.discovery.last_error
            page.put("10.0.0.1:81oo")
            await one.failed(5)
            await one.reports_are({ONE, TWO}, {ONE, TWO, THREE})
            page.put(*targets(ONE, THREE))
            await one.reports_are({ONE, TWO}, {ONE, TWO, THREE}, {ONE, THREE})
            assert one.discovery.last_error == ""

    run(main())
    assert "'10.0.0.1:81oo'" in caplog.text


@pytest.mark.parametrize("none", ["[]", '[{"targets": []}]', '[{"targets": ["0.0.0.0:8100"]}]'])
def test_none_is_believed_when_it_was_said_three_times_in_a_row(
    page: Page, none: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        page.put(*targets(ONE))
        async with following(page) as one:
            await one.reports_are({ONE})
            for script in ([none], [none, none], [none, none, "no page", none, none]):
                page.script(*script)
                await happens(lambda: not page.is_scripted, "the script is over")
                await rounds(page)
            await one.reports_are({ONE})
            assert one.discovery.failures == 1
            caplog.clear()
            page.script(none, none, none)
            await one.reports_are({ONE}, set(), {ONE})
            page.write(none)
            await one.reports_are({ONE}, set(), {ONE}, set())
            assert one.discovery.last_error == f"{page.url}: the page has no target"
            assert one.discovery.failures == 1

    run(main())
    said = [record for record in caplog.records if "the page has no target" in record.getMessage()]
    assert len(said) == 2


def test_a_server_that_dies_changes_nothing_and_is_found_again(page: Page) -> None:
    async def main() -> None:
        page.put(*targets(ONE))
        async with following(page) as one:
            await one.reports_are({ONE})
            page.stop()
            await one.failed(10)
            page.put(*targets(TWO))
            page.start()
            await one.reports_are({ONE}, {TWO})

    run(main())


def test_a_server_that_is_away_at_first_is_waited_for(page: Page) -> None:
    async def main() -> None:
        page.put(*targets(ONE))
        page.stop()
        async with following(page) as one:
            await one.failed()
            await one.reports_are()
            page.start()
            await one.reports_are({ONE})

    run(main())


@pytest.mark.parametrize("how", [Behaviour.HANG, Behaviour.DRIP])
def test_who_follows_no_more_holds_no_connection(page: Page, how: Behaviour) -> None:
    async def main() -> None:
        page.behave(how)
        async with following(page):
            await happens(lambda: page.asked > 0, "the page is asked for")
            assert page.open == 1
        await happens(lambda: page.open == 0, "connections are closed")

    run(main())


def test_a_page_may_have_a_mebibyte(page: Page) -> None:
    async def main() -> None:
        text = json.dumps([{"targets": targets(ONE)}])
        page.write(text.rjust(MAX_BYTES))
        async with following(page) as one:
            await one.reports_are({ONE})
            page.write(json.dumps([{"targets": targets(TWO)}]).rjust(MAX_BYTES + 1))
            await one.failed()
            await one.reports_are({ONE})

    run(main())


def test_four_thousand_replicas_are_taken_the_same_each_time(page: Page) -> None:
    async def main() -> None:
        many = [f"10.{one}.{two}.1:8100" for one in range(23) for two in range(200)]
        page.put(*many)
        async with following(page) as one:
            await happens(lambda: len(one.reports) > 0, "replicas are reported")
            page.put(*reversed(many))
            await rounds(page)
            assert [len(report) for report in one.reports] == [MOST_ORIGINS]

    run(main())


def test_a_page_by_https_must_be_whom_its_certificate_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the engines on it are asked by http."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    words = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=t"
        " -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        [*words.split(), "-out", certificate, "-keyout", key], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def main() -> None:
        async with following(secret) as stranger:
            await stranger.failed()
            assert "certificate verify failed" in stranger.discovery.last_error
            await stranger.reports_are()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with following(secret) as friend:
            await friend.reports_are({ONE})

    with Page(context) as secret:
        secret.put(*targets(ONE))
        run(main())


def test_a_gateway_follows_a_page_and_outlives_it(tmp_path: Path, page: Page) -> None:
    """Replicas come, leave and are kept while the page is dead: no request notices."""
    with contextlib.ExitStack() as stack:
        replicas = [
            stack.enter_context(Replica(tmp_path / f"replica-{number}")) for number in range(3)
        ]
        for replica in replicas:
            replica.wait()
        first, second, third = replicas
        office = Office.at(tmp_path / "gateway" / "state")
        office.add_team(Team("tests"))
        _, key = office.add_key("tests")
        settings = {
            "GPTOSS_GATEWAY__UPSTREAMS": json.dumps([{"model": lengths.MODEL, "url": page.url}]),
            "GPTOSS_ROUTING__INTERVAL": str(lengths.RESOLVED_EVERY),
        }
        page.put(first.address)
        gateway = stack.enter_context(Gateway(tmp_path / "gateway", settings))
        gateway.wait()
        fleet = Fleet(replicas, [gateway], office, key)
        assert set(gateway.states()) == {first.url}
        with fleet.load() as load:
            load.more(20)
            page.put(first.address, second.address)
            fleet.until_back(second)
            until(lambda: second.requests > 0)
            page.put(second.address, third.address)
            until(lambda: set(gateway.states()) == {second.url, third.url})
            until(lambda: first.open == 0)  # what it had it finished
            seen = first.requests
            load.more(20)
            assert first.requests == seen and third.requests > 0
            page.stop()
            until(lambda: bool(gateway.pool()["discovery_errors"]))
            load.more(40)
            assert set(gateway.states()) == {second.url, third.url}
            page.put(first.address)
            page.start()
            until(lambda: set(gateway.states()) == {first.url})
            assert gateway.pool()["discovery_errors"] == []
            load.more(20)
        assert load.outcomes and not load.failed
        fleet.until_idle()
        text = gateway.log.read_text()
        assert "Traceback" not in text
        assert "See that the URL is right" in text

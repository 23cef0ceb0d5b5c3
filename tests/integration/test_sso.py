"""Single sign-on against an issuer over HTTP: discovery, rotation, and everything it does wrong."""

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from service.settings import SSOSettings
from service.tenants import issuer as issuer_module
from service.tenants.sso import SingleSignOn
from service.tenants.team import Team
from tests.process import free_port

TEAMS = {"search": Team("search")}
DISCOVERY = "/.well-known/openid-configuration"


class Issuer:
    """An OpenID Connect issuer on loopback, which can be stopped and started at one address."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.asked: list[str] = []
        self.discovery: dict[str, Any] = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        self.body: bytes | None = None
        """Sent in place of the keys."""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.answers = threading.Event()
        """While it is not set, an answer does not come."""
        self.answers.set()
        self.add("one")

    def add(self, kid: str) -> None:
        """Publish a new key."""
        self.keys[kid] = ec.generate_private_key(ec.SECP256R1())

    def token(self, kid: str = "one", **changes: Any) -> str:
        """A token of this issuer."""
        claims = {"iss": self.url, "aud": "gptoss", "sub": "ann", "exp": time.time() + 600}
        claims |= {"gptoss_team": "search"} | changes
        return jwt.encode(claims, self.keys[kid], "ES256", {"kid": kid})

    def fetches(self) -> int:
        """How often the keys were asked for."""
        return self.asked.count("/jwks")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Answer until the block ends."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                issuer.answers.wait(20)
                with contextlib.suppress(OSError):  # whoever asked may have gone
                    self._answer()

            def _answer(self) -> None:
                status, body = issuer.answer(self.path)
                self.send_response(status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        with ThreadingHTTPServer(("127.0.0.1", self.port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                yield
            finally:
                self.answers.set()
                server.shutdown()
                thread.join(5)

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body at a path."""
        if path == DISCOVERY:
            return 200, json.dumps(self.discovery).encode()
        jwks = [
            ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
            | {"kid": kid, "key_ops": ["verify"], "use": "sig"}
            for kid, key in dict(self.keys).items()  # a copy: tests add keys meanwhile
        ]
        return self.status, json.dumps({"keys": jwks}).encode() if self.body is None else self.body


class Clock:
    """A monotonic clock that a test moves."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Door:
    """Single sign-on of an issuer, its clock, and what opens."""

    def __init__(self, issuer: Issuer, **changes: Any) -> None:
        self.clock = Clock()
        settings = SSOSettings(issuer=issuer.url, audience="gptoss", **changes)
        self.sso = SingleSignOn(settings, clock=self.clock)

    async def opens(self, token: str) -> bool:
        return await self.sso.authenticate(token, TEAMS) is not None


@asynccontextmanager
async def door(issuer: Issuer, **changes: Any) -> AsyncIterator[Door]:
    made = Door(issuer, **changes)
    try:
        yield made
    finally:
        await made.sso.close()


@asynccontextmanager
async def kept_fresh(made: Door, **pauses: float) -> AsyncIterator[list[None]]:
    """The background task; yields a list that grows with every failure."""
    failures: list[None] = []
    task = asyncio.create_task(made.sso.keep_fresh(lambda: failures.append(None), **pauses))
    try:
        yield failures
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.01)


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    with made.listening():
        yield made


def test_the_keys_are_found_through_discovery(issuer: Issuer) -> None:
    async def test() -> None:
        async with door(issuer) as made:
            assert await made.opens(issuer.token())
            assert not await made.opens(issuer.token(aud="other"))
        assert issuer.asked == [DISCOVERY, "/jwks"]

    run(test())


def test_a_configured_address_of_the_keys_needs_no_discovery(issuer: Issuer) -> None:
    async def test() -> None:
        async with door(issuer, jwks_url=f"{issuer.url}/jwks") as made:
            assert await made.opens(issuer.token())
        assert issuer.asked == ["/jwks"]

    run(test())


def test_a_rotated_key_is_picked_up_by_the_first_token_that_names_it(issuer: Issuer) -> None:
    async def test() -> None:
        async with door(issuer) as made:
            old = issuer.token()
            assert await made.opens(old)
            del issuer.keys["one"]
            issuer.add("two")
            made.clock.seconds += 31
            assert await made.opens(issuer.token("two"))
            assert not await made.opens(old)

    run(test())


def test_a_rotated_key_is_picked_up_in_the_background(issuer: Issuer) -> None:
    async def test() -> None:
        async with door(issuer) as made, kept_fresh(made, every=0.02):
            assert await made.opens(issuer.token())
            issuer.add("two")
            seen = issuer.fetches()
            await until(lambda: issuer.fetches() >= seen + 2)
            issuer.answers.clear()  # so that no request can fetch it by itself
            assert await made.opens(issuer.token("two"))

    run(test())


def test_a_key_that_is_withdrawn_ends_the_tokens_that_were_remembered(issuer: Issuer) -> None:
    async def test() -> None:
        async with door(issuer) as made, kept_fresh(made, every=0.02):
            token = issuer.token()
            assert await made.opens(token)
            issuer.add("two")
            del issuer.keys["one"]
            seen = issuer.fetches()
            await until(lambda: issuer.fetches() >= seen + 2)
            assert not await made.opens(token)

    run(test())


def test_a_fetch_in_the_background_holds_no_request(issuer: Issuer) -> None:
    async def test() -> None:
        async with door(issuer) as made, kept_fresh(made, every=0.02):
            assert await made.opens(issuer.token())
            issuer.answers.clear()
            seen = len(issuer.asked)
            await until(lambda: len(issuer.asked) > seen)
            assert await made.opens(issuer.token(sub="ben"))  # would wait 2 s, and then fail

    run(test())


def test_an_issuer_that_is_down_leaves_the_last_keys_in_force(
    caplog: pytest.LogCaptureFixture,
) -> None:
    issuer = Issuer()

    async def test() -> None:
        async with door(issuer) as made:
            with issuer.listening():
                assert await made.opens(issuer.token())
            async with kept_fresh(made, retry=0.02) as failures:
                await until(lambda: len(failures) >= 3)
                made.clock.seconds += 3600
                assert await made.opens(issuer.token(sub="ben"))
                issuer.add("two")
                with issuer.listening():
                    await until(lambda: issuer.fetches() >= 2)
                    assert await made.opens(issuer.token("two"))

    run(test())
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1, "said once, not at every attempt"


def test_an_issuer_that_is_down_from_the_start_refuses_and_recovers_without_a_restart() -> None:
    issuer = Issuer()

    async def test() -> None:
        async with door(issuer) as made:
            token = issuer.token()
            assert not await made.opens(token)
            with issuer.listening():
                assert not await made.opens(token)
                made.clock.seconds += 30
                assert await made.opens(token)

    run(test())


def test_a_storm_of_unknown_key_ids_is_one_fetch(issuer: Issuer) -> None:
    async def test() -> None:
        async with door(issuer) as made:
            tokens = []
            for number in range(40):
                issuer.keys[f"gone-{number}"] = issuer.keys["one"]
                tokens.append(issuer.token(f"gone-{number}"))
                del issuer.keys[f"gone-{number}"]
            for _ in range(3):
                assert not any(await asyncio.gather(*map(made.opens, tokens)))
            assert issuer.fetches() == 1
            assert await made.opens(issuer.token())

    run(test())


def test_an_issuer_that_hangs_holds_a_request_for_two_seconds_at_most(issuer: Issuer) -> None:
    async def test() -> None:
        issuer.answers.clear()
        async with door(issuer) as made:
            began = time.monotonic()
            opened = await asyncio.gather(*(made.opens(issuer.token(sub=f"{n}")) for n in range(9)))
            waited = time.monotonic() - began
            assert not any(opened)
            assert issuer_module.WAIT_SECONDS - 0.1 <= waited < issuer_module.FETCH_SECONDS
            assert len(issuer.asked) == 1
            issuer.answers.set()  # the fetch outlived those who waited for it
            await until(lambda: issuer.fetches() == 1)
            assert await made.opens(issuer.token())

    run(test())


def test_a_request_that_is_given_up_does_not_end_the_fetch(issuer: Issuer) -> None:
    async def test() -> None:
        issuer.answers.clear()
        async with door(issuer) as made:
            first = asyncio.create_task(made.opens(issuer.token()))
            await until(lambda: len(issuer.asked) == 1)
            first.cancel()
            second = asyncio.create_task(made.opens(issuer.token()))
            await asyncio.sleep(0)
            issuer.answers.set()
            assert await second
        assert issuer.fetches() == 1

    run(test())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"body": b'{"keys": [' + b" " * (256 << 10) + b"]}"}, "is larger than 256 KiB"),
        ({"body": b"<html>"}, "is not JSON"),
        ({"body": b"[" * 100_000}, "is not JSON"),
        ({"body": b'{"keys": []}'}, "no key there verifies"),
        ({"body": b"[]"}, "no key there verifies"),
        ({"status": 500}, "/jwks answered 500"),
        ({"status": 302, "headers": {"Location": "http://localhost:9/jwks"}}, "answered 302"),
        ({"discovery": {}}, "describes another issuer"),
        ({"discovery": {"issuer": "https://other.example"}}, "describes another issuer"),
        ({"uri": None}, "gives no jwks_uri"),
        ({"uri": "http://issuer.example/jwks"}, "gives a jwks_uri that is plain http"),
        ({"uri": "file:///etc/passwd"}, "gives a jwks_uri that must be https"),
    ],
)
def test_what_an_issuer_must_not_send_is_refused_and_named(
    issuer: Issuer, wrong: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with door(issuer) as made:
            assert await made.opens(issuer.token())
            for name, value in wrong.items():
                if name == "uri":
                    issuer.discovery["jwks_uri"] = value
                else:
                    setattr(issuer, name, value)
            issuer.add("two")
            made.clock.seconds += 31
            assert not await made.opens(issuer.token("two"))
            assert await made.opens(issuer.token(sub="ben")), "the last keys stay in force"

    run(test())
    assert said in caplog.text


def test_compressed_keys_are_not_unpacked(issuer: Issuer) -> None:
    """A few KiB could unpack to gigabytes."""

    async def test() -> None:
        issuer.headers = {"Content-Encoding": "gzip"}
        async with door(issuer, jwks_url=f"{issuer.url}/jwks") as made:
            assert await made.opens(issuer.token())  # what is said of the body is not believed

    run(test())


def test_no_part_of_a_token_is_logged(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test() -> list[str]:
        async with door(issuer) as made:
            tokens = [issuer.token(), issuer.token(aud="x"), issuer.token(exp=1)]
            issuer.add("two")
            issuer.status = 500
            made.clock.seconds += 31
            tokens.append(issuer.token("two"))
            for token in tokens:
                await made.opens(token)
            return tokens

    tokens = asyncio.run(test())
    assert "answered 500" in caplog.text
    assert not any(part in caplog.text for token in tokens for part in token.split("."))

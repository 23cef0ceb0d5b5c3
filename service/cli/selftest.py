"""`gptoss selftest`: whether gpt-oss answers through a gateway, as its clients ask."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import httpx
import typer

from service import settings
from service.address import reached_at
from service.cli.directory import ask, key_for
from service.database.connect import Unavailable
from service.engine.selftest import SelfTest
from service.errors import UserError

INTERRUPTED = 130
_ACTOR = "gptoss selftest"
_TEAM = "selftest"
_KEY = "GPTOSS_KEY"
_LIFETIME = timedelta(minutes=15)
_KNOWN_SECONDS = 15.0  # until every gateway knows a new key, at most
_PAUSE = 0.5
_TIMEOUT = 10.0
_SHOWN = 200


def selftest(
    url: Annotated[
        str | None,
        typer.Option(help="the gateway's API, with /v1; default: that of the settings"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="default: each that the gateway lists")] = None,
    key_file: Annotated[Path | None, typer.Option(help=f"holds the key; else {_KEY} does")] = None,
) -> None:
    """Ask each model for a completion, a stream and a tool call, through a gateway.

    Without a key it makes one, of the team `selftest` in the configured database, and revokes it at
    the end; by itself it would expire after 15 minutes.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the key is revoked all the same
    gateway = settings.load().gateway
    base = (url or f"{reached_at(gateway.host, gateway.port)}/v1").rstrip("/")
    try:
        with _key(key_file) as key:
            passed = _test(base, key, model)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if passed else 1)


class _Patient(httpx.HTTPTransport):
    """Tries again until a moment of the monotonic clock, s, while the gateway knows no such key."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self._until = until

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        while True:
            response = super().handle_request(request)
            left = self._until - time.monotonic()
            if response.status_code != httpx.codes.UNAUTHORIZED or left <= 0:
                return response
            response.close()
            time.sleep(min(_PAUSE, left))


def _test(base: str, key: str, model: str | None) -> bool:
    """Test all there is to test, whatever of it fails. Returns whether all of it is well."""
    until = time.monotonic() + _KNOWN_SECONDS
    served = _served(base, key, _Patient(until))
    if model and model not in served:
        raise UserError(f"{base} serves no {model}: choose one of {', '.join(served) or 'none'}")
    if not served:
        raise UserError(f"{base} serves no model: set GPTOSS_GATEWAY__UPSTREAMS, or the key's team")
    passed = True
    for name in [model] if model else served:
        try:
            SelfTest(base, key, name, _Patient(until)).run(_teller(name))
        except UserError as error:
            typer.echo(f"{name}: {error}", err=True)
            passed = False
    return passed


def _teller(model: str) -> Callable[[str, float], None]:
    return lambda request, seconds: typer.echo(f"{model}: {request}: well-formed, {seconds:.1f} s")


def _served(base: str, key: str, transport: httpx.BaseTransport) -> list[str]:
    """The models that the gateway lists."""
    headers = {"authorization": f"Bearer {key}"}
    try:
        with httpx.Client(transport=transport, timeout=_TIMEOUT, trust_env=False) as client:
            answer = client.get(f"{base}/models", headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(
            f"no gateway answers at {base} ({type(error).__name__}): start one, or give its API"
            " with --url, such as http://127.0.0.1:8000/v1"
        ) from None
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise UserError(
            f"the gateway at {base} knows no such key: check {_KEY}, or, without it, that"
            " GPTOSS_DATABASE__URL is the gateway's"
        )
    try:
        if answer.status_code != httpx.codes.OK:
            raise ValueError
        return [str(each["id"]) for each in answer.json()["data"]]
    except (ValueError, LookupError, TypeError):
        said = " ".join(answer.text.split())[:_SHOWN]
        raise UserError(
            f"{base}/models answers {answer.status_code} ({said}): give a gateway's API with --url"
        ) from None


@contextlib.contextmanager
def _key(file: Path | None) -> Iterator[str]:
    """The key that was given, or one that exists for as long as this lasts."""
    given = _read(file) if file else os.environ.get(_KEY, "")
    if given:
        if not (given.isascii() and given.isprintable()):
            raise UserError(f"what {file or _KEY} holds is no key: see `gptoss key create`")
        yield given
        return
    try:
        key, token = ask(
            lambda directory: key_for(directory, _ACTOR, _TEAM, datetime.now(UTC) + _LIFETIME)
        )
    except Unavailable as error:
        raise UserError(f"{error}; or give a key in {_KEY}") from None
    try:
        yield token
    finally:
        _revoke(key.id)


def _revoke(id: str) -> None:
    try:
        ask(lambda directory: directory.revoke_key(_ACTOR, id))
    except UserError as error:
        typer.echo(f"gptoss: key {id} is not revoked, and expires soon: {error}", err=True)


def _read(file: Path) -> str:
    try:
        key = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"cannot read {file}: {reason}: give the file of a key") from None
    if not key:
        raise UserError(f"{file} is empty: give the file of a key")
    return key

"""The keys of an issuer: fetched, kept fresh, and found for a token.

An issuer that is down leaves the last keys in force.
"""

import asyncio
import contextlib
import ipaddress
import json
import logging
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

from service.settings import SSOSettings
from service.tenants.jwks import SigningKey, signing_keys

FRESH_SECONDS = 600.0
REST_SECONDS = 30.0
WAIT_SECONDS = 2.0
FETCH_SECONDS = 5.0
MAX_BYTES = 256 << 10

log = logging.getLogger(__name__)


class Unusable(Exception):
    """What the issuer answered cannot be used. The text names the address and the reason."""


class IssuerKeys:
    """The keys of one issuer. `revision` grows whenever they change."""

    def __init__(
        self, settings: SSOSettings, client: httpx.AsyncClient, clock: Callable[[], float]
    ) -> None:
        self.revision = 0
        self._settings = settings
        self._client = client
        self._clock = clock
        self._keys: tuple[SigningKey, ...] = ()
        self._refresh: asyncio.Task[bool] | None = None
        self._begun = -math.inf
        self._said = ""

    async def find(self, kid: str | None, algorithm: str) -> SigningKey | None:
        """The one key that verifies such a token, or None.

        For an unknown key the issuer is asked, once for all who wait and at most every 30 s:
        invented key ids must not become load on it. Nobody waits longer than 2 s.
        """
        key = self._fitting(kid, algorithm)
        if key is None and (refresh := self._allowed_refresh()):
            await asyncio.wait({refresh}, timeout=WAIT_SECONDS)
            key = self._fitting(kid, algorithm)
        return key

    async def keep_fresh(
        self,
        failed: Callable[[], None],
        *,
        every: float = FRESH_SECONDS,
        retry: float = REST_SECONDS,
    ) -> None:
        """Fetch now and then every `every` seconds until cancelled; after a failure, in `retry`."""
        while True:
            fetched = await asyncio.shield(self._current_refresh())
            if not fetched:
                failed()
            await asyncio.sleep(every if fetched else retry)

    async def close(self) -> None:
        """Give up a fetch that is under way, and the connections."""
        if self._refresh is not None:
            self._refresh.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refresh
        await self._client.aclose()

    def _fitting(self, kid: str | None, algorithm: str) -> SigningKey | None:
        keys = [key for key in self._keys if algorithm in key.algorithms]
        if kid is not None:
            # A key without an id may be the one that is meant, where none has that id.
            keys = [key for key in keys if key.kid == kid] or [k for k in keys if k.kid is None]
        return keys[0] if len(keys) == 1 else None

    def _allowed_refresh(self) -> asyncio.Task[bool] | None:
        rested = self._clock() - self._begun >= REST_SECONDS
        running = self._refresh is not None and not self._refresh.done()
        return self._current_refresh() if rested or running else None

    def _current_refresh(self) -> asyncio.Task[bool]:
        """The fetch that is under way, or a new one. It outlives whoever began it."""
        if self._refresh is None or self._refresh.done():
            self._begun = self._clock()
            self._refresh = asyncio.create_task(self._fetch())
        return self._refresh

    async def _fetch(self) -> bool:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                document = await self._get(self._settings.jwks_url or await self._discover())
            keys = signing_keys(document, self._settings.algorithms)
            if not keys:
                raise Unusable(f"no key there verifies {', '.join(self._settings.algorithms)}")
        except TimeoutError:
            self._warn(f"{self._settings.issuer} did not answer within {FETCH_SECONDS:g} s")
            return False
        except Exception as error:  # whatever an issuer does, the keys we have stay good
            self._warn(str(error) or type(error).__name__)
            return False
        if keys != self._keys:
            self._keys = keys
            self.revision += 1
        self._said = ""
        return True

    async def _discover(self) -> str:
        """Where the issuer says that its keys are (OpenID Connect Discovery 1.0, section 4)."""
        issuer = self._settings.issuer
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        found = await self._get(url)
        if not isinstance(found, dict) or found.get("issuer") != issuer:
            raise Unusable(f"{url} describes another issuer than {issuer}")
        keys = found.get("jwks_uri")
        if not isinstance(keys, str):
            raise Unusable(f"{url} gives no jwks_uri")
        if fault := url_fault(keys):
            raise Unusable(f"{url} gives a jwks_uri that {fault}")
        if urlsplit(issuer).scheme == "https" != urlsplit(keys).scheme:
            raise Unusable(f"{url} gives a jwks_uri that is not https")
        return keys

    async def _get(self, url: str) -> Any:
        """A small JSON document. Redirects are refused, so that no other host can answer."""
        # Not compressed: the limit then holds for what is read into memory.
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        body = bytearray()
        try:
            async with self._client.stream(
                "GET", url, headers=headers, timeout=FETCH_SECONDS, follow_redirects=False
            ) as response:
                if response.status_code != httpx.codes.OK:
                    raise Unusable(f"{url} answered {response.status_code}")
                async for block in response.aiter_raw():
                    body += block
                    if len(body) > MAX_BYTES:
                        raise Unusable(f"{url} is larger than {MAX_BYTES >> 10} KiB")
            return json.loads(body)
        except httpx.HTTPError as error:
            raise Unusable(f"{url}: {str(error) or type(error).__name__}") from None
        except (ValueError, RecursionError):
            raise Unusable(f"{url} is not JSON") from None

    def _warn(self, text: str) -> None:
        if text != self._said:  # once, not at every attempt
            self._said = text
            log.warning("keys of single sign-on not fetched, the last ones stay in force: %s", text)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url_fault(url: str) -> str | None:
    """Why keys must not be fetched from `url`, as the end of a sentence; None where they may be."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is no port
    except ValueError:
        return "is no URL: give https://host/path"
    if not parts.hostname or parts.username is not None or parts.scheme not in ("http", "https"):
        return "must be https://host/path, without user or password"
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        return (
            "is plain http, so that anyone on the way could sign tokens: give https://…"
            " (plain http is for 127.0.0.1, ::1 and localhost)"
        )
    return None

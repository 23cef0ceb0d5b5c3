"""Asks a page which replicas there are, once each time it is called.

The page is what Prometheus calls HTTP service discovery: a JSON list of groups, each
`{"targets": ["10.0.0.7:8100", …], "labels": {…}}`. Labels are not looked at, nor are other fields.

The outcomes are those of the resolver. Targets; *none*, which is a list without a target; and a
failure, with which nothing is known: no answer, another status than 200, not that format. Between
them is a page of which some targets are no host:port. The good ones are taken, since a new replica
is capacity, and none of those known is taken to be gone, since each may be the one that is
misspelt: one that is kept wrongly costs a health check.
"""

import asyncio
import json
import ssl
from typing import Any

import httpx

from service.address import can_be_reached, parse
from service.routing.resolver import QUESTION_SECONDS, Resolution, failure, one_line

MAX_BYTES = 1 << 20
_FORMAT = 'not a list of {"targets": ["host:port", …]}'
# Of a target in a message.
_SHOWN = 60


class Unusable(Exception):
    """What is wrong with a page, as the end of a line that begins with its URL."""


class SDPage:
    """Finds the replicas on the page at `url`. `timeout` is for the whole answer, in seconds."""

    check = "See that the URL is right, and that it answers with 200 and Prometheus' JSON"
    none = "the page has no target"

    def __init__(self, url: str, *, timeout: float = QUESTION_SECONDS) -> None:
        self._url = url
        self._timeout = timeout
        # With the system's certificates, or those of SSL_CERT_FILE: as for engines by https.
        self._tls = ssl.create_default_context()

    async def resolve(self) -> Resolution:
        """Ask. Raises nothing: a failure is a `Resolution` as well."""
        try:
            async with asyncio.timeout(self._timeout):
                body = await self._fetch()
            # Thousands of targets take longer to read than a stream may be held up.
            return await asyncio.to_thread(read, body)
        except TimeoutError:
            return failure(f"{self._url} did not answer within {self._timeout:g} s")
        except Exception as error:  # whatever a page does, the replicas known from it stay
            return failure(f"{self._url}: {one_line(error)}")

    async def _fetch(self) -> bytes:
        # Not compressed: the limit then holds for what is read into memory.
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        body = bytearray()
        # A client, and so a connection, for each round: one that was kept may have been closed
        # meanwhile, and leads to where the name was seconds ago.
        async with (
            httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=None) as client,  # noqa: S113  # resolve() has one
            client.stream("GET", self._url, headers=headers, follow_redirects=False) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise Unusable(f"answered {response.status_code}, not 200")
            async for block in response.aiter_raw():
                body += block
                if len(body) > MAX_BYTES:
                    raise Unusable(f"larger than {MAX_BYTES >> 20} MiB")
        return bytes(body)


def read(body: bytes) -> Resolution:
    """What a page says. Raises `Unusable` for one that is not of the format."""
    targets = _targets(body)
    origins = {target: _origin(target) for target in targets}
    found = frozenset(origin for origin in origins.values() if origin)
    bad = [target for target, origin in origins.items() if origin is None]
    if bad:
        shown = bad[0] if len(bad[0]) <= _SHOWN else f"{bad[0][:_SHOWN]}…"
        return failure(f"{len(bad)} of {len(origins)} targets are no host:port: {shown!a}", found)
    return Resolution(found)


def _targets(body: bytes) -> list[str]:
    try:
        groups: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise Unusable("not JSON") from None
    # A list of another shape is not read in part: who wrote it means something else by it.
    if not isinstance(groups, list):
        raise Unusable(_FORMAT)
    targets: list[str] = []
    for group in groups:
        listed = group.get("targets") if isinstance(group, dict) else None
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise Unusable(_FORMAT)
        targets += listed
    return targets


def _origin(target: str) -> str | None:
    """The URL of a replica; empty for an address that is nobody's; None if it is no host:port."""
    try:
        found = parse(f"http://{target}")
    except ValueError:
        return None
    if found.port is None:
        return None
    return found.url if can_be_reached(found.host) else ""

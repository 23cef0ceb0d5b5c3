"""Single sign-on: a JSON Web Token of the configured issuer works as a key does."""

import base64
import hashlib
import json
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt

from service.errors import UserError
from service.quota.limits import UNLIMITED
from service.settings import SSOSettings
from service.tenants.issuer import FRESH_SECONDS, REST_SECONDS, IssuerKeys, is_loopback, url_fault
from service.tenants.jwks import SigningKey
from service.tenants.principal import Principal
from service.tenants.recent import Recent
from service.tenants.team import Team

MAX_TOKEN_BYTES = 8 << 10
LEEWAY_SECONDS = 30.0
REMEMBERED_SECONDS = 60.0
REFUSED_SECONDS = 10.0
REMEMBERED_TOKENS = 10_000

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

log = logging.getLogger(__name__)


class NotAMember(Exception):
    """The token is good, but leads to no team or to several. `id` names its holder, as in logs."""

    def __init__(self, id: str) -> None:
        super().__init__(f"{id} is in no team of this service")
        self.id = id


@dataclass(frozen=True, slots=True)
class _Holder:
    """What a verified token says. `until` is when it ends, in seconds since 1970."""

    id: str
    teams: tuple[str, ...]
    until: float


class SingleSignOn:
    """Decides tokens of one issuer.

    Raises UserError where the settings would let in tokens that are not meant for this service.
    `clock` is monotonic, in seconds; it ages what is remembered, while the times that a token
    names are compared with the time of day.
    """

    def __init__(
        self,
        settings: SSOSettings,
        *,
        client: Callable[[], httpx.AsyncClient] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(settings)
        self._settings = settings
        self._keys = IssuerKeys(settings, client() if client else _client(settings), clock)
        self._revision = self._keys.revision
        # Apart, so that a flood of bad tokens does not push out the good ones.
        self._known = Recent[_Holder](REMEMBERED_SECONDS, REMEMBERED_TOKENS, clock)
        self._refused = Recent[bool](REFUSED_SECONDS, REMEMBERED_TOKENS, clock)

    async def authenticate(
        self, token: str, teams: Mapping[str, Team], now: datetime | None = None
    ) -> Principal | None:
        """Who holds `token`, or None. Raises NotAMember for a good token without a team."""
        if not looks_like_jwt(token):
            return None
        self._forget_if_keys_changed()
        moment = (now or datetime.now(UTC)).timestamp()
        # The whole token: its beginning is a header that all tokens of an issuer share.
        digest = hashlib.sha256(token.encode()).digest()
        holder = self._known.get(digest)
        if holder is None or moment >= holder.until:
            holder = await self._verify(token, digest, moment)
        return None if holder is None else _principal(holder, teams)

    async def keep_fresh(
        self,
        failed: Callable[[], None],
        *,
        every: float = FRESH_SECONDS,
        retry: float = REST_SECONDS,
    ) -> None:
        """Keep the issuer's keys fresh until cancelled; `failed` is called when that fails."""
        await self._keys.keep_fresh(failed, every=every, retry=retry)

    async def close(self) -> None:
        """Give back the connections."""
        await self._keys.close()

    async def _verify(self, token: str, digest: bytes, now: float) -> _Holder | None:
        if self._refused.get(digest):
            return None
        kid, algorithm = _header(token)
        if algorithm not in self._settings.algorithms:
            return None
        key = await self._keys.find(kid, algorithm)
        self._forget_if_keys_changed()
        if key is None:  # nothing is known against the token, so it is not remembered as bad
            return None
        try:
            holder = self._holder(self._claims(token, key, now))
        except jwt.PyJWTError as error:
            log.debug("a token is refused: %s", type(error).__name__)
            self._refused.put(digest, True)
            return None
        self._known.put(digest, holder)
        return holder

    def _forget_if_keys_changed(self) -> None:
        """A key that was withdrawn vouches for nothing any more, a new one may for what was bad."""
        if self._revision != self._keys.revision:
            self._revision = self._keys.revision
            self._known.clear()
            self._refused.clear()

    def _claims(self, token: str, key: SigningKey, now: float) -> dict[str, Any]:
        """What the token says, once its signature and all of its conditions hold."""
        claims = jwt.decode(
            token,
            key.public,
            algorithms=sorted(key.algorithms),
            issuer=self._settings.issuer,
            audience=self._settings.audience,
            # Times are compared below, with the caller's `now`.
            options={
                "require": ["exp", "iss", "aud", "sub"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        if not claims["sub"]:
            raise jwt.MissingRequiredClaimError("sub")
        if now >= _seconds(claims, "exp") + LEEWAY_SECONDS:
            raise jwt.ExpiredSignatureError("over")
        if "nbf" in claims and now < _seconds(claims, "nbf") - LEEWAY_SECONDS:
            raise jwt.ImmatureSignatureError("early")
        return claims

    def _holder(self, claims: Mapping[str, Any]) -> _Holder:
        digest = hashlib.sha256(
            f"{claims['iss']}|{claims['sub']}".encode(errors="surrogatepass")
        ).hexdigest()
        claim = claims.get(self._settings.team_claim)
        values = {v for v in (claim if isinstance(claim, list) else [claim]) if isinstance(v, str)}
        if mapped := self._settings.teams:
            values = {mapped[value] for value in values if value in mapped}
            if len(values) > 1:
                values = set()
        return _Holder(
            f"sso:{digest[:12]}", tuple(values), _seconds(claims, "exp") + LEEWAY_SECONDS
        )


def looks_like_jwt(token: str) -> bool:
    """Whether `token` has the shape of a signed JSON Web Token; says nothing of its worth."""
    return len(token) <= MAX_TOKEN_BYTES and _TOKEN.fullmatch(token) is not None


def _principal(holder: _Holder, teams: Mapping[str, Team]) -> Principal:
    member = [teams[name] for name in holder.teams if name in teams]
    if len(member) != 1:
        raise NotAMember(holder.id)
    return Principal(id=holder.id, team=member[0], limits=UNLIMITED)


def _header(token: str) -> tuple[str | None, str]:
    """The key's id and the algorithm that a token names; ("", "") where it names none.

    Nothing here is verified yet. It only chooses among keys that the issuer published.
    """
    part = token.split(".", 1)[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(header, dict):
        return "", ""
    kid, algorithm = header.get("kid"), header.get("alg")
    if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)):
        return "", ""
    return kid, algorithm


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    """A NumericDate of RFC 7519: seconds since 1970."""
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise jwt.DecodeError(f"{name} is no number")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise jwt.DecodeError(f"{name} is no time")
    return seconds


def _check(settings: SSOSettings) -> None:
    if not settings.audience:
        raise UserError(
            "setting sso.audience is empty: give the `aud` that the issuer puts into tokens for"
            " this service, since without it tokens for other services would open this one"
        )
    for name, url in (("issuer", settings.issuer), ("jwks_url", settings.jwks_url)):
        if (url or name == "issuer") and (fault := url_fault(url)):
            raise UserError(f"setting sso.{name} {fault}")


def _client(settings: SSOSettings) -> httpx.AsyncClient:
    # Proxies and extra certificate authorities come from the environment, as for curl; but
    # nobody means a proxy for an address of this machine.
    host = urlsplit(settings.jwks_url or settings.issuer).hostname or ""
    return httpx.AsyncClient(trust_env=not is_loopback(host))

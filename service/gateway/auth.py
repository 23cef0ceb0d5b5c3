"""Who asks: the key in a request's headers, or the token of a single sign-on."""

from collections.abc import Iterable

from service.gateway import errors
from service.tenants.principal import Principal
from service.tenants.snapshot import Snapshot
from service.tenants.sso import NotAMember, SingleSignOn, looks_like_jwt

Headers = Iterable[tuple[bytes, bytes]]


class Authenticator:
    """Decides by the snapshot of keys and, where it is configured, the issuer's own keys."""

    def __init__(self, snapshot: Snapshot, sso: SingleSignOn | None = None) -> None:
        self._snapshot = snapshot
        self._sso = sso

    async def authenticate(self, headers: Headers) -> Principal:
        """Whom the request is from. Raises `APIError`: 401, or 403 for who belongs to no team."""
        token = _token(headers)
        if not token:
            raise errors.no_key()
        if self._sso and looks_like_jwt(token):
            principal = await self._signed_in(self._sso, token)
        else:
            principal = self._snapshot.authenticate(token)
        if principal is None:
            raise errors.wrong_key()
        if principal.team.disabled:
            raise errors.team_disabled(principal.team.name)
        return principal

    async def _signed_in(self, sso: SingleSignOn, token: str) -> Principal | None:
        try:
            return await sso.authenticate(token, self._snapshot.teams)
        except NotAMember:
            raise errors.not_a_member() from None


def _token(headers: Headers) -> str | None:
    """`Authorization: Bearer …` as OpenAI's SDKs send it, else `x-api-key` as Anthropic's do."""
    api_key = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return token.strip().decode("latin-1")
        elif name == b"x-api-key":
            api_key = value.strip().decode("latin-1")
    return api_key

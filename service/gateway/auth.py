"""Who asks: the key in a request's headers."""

from collections.abc import Iterable

from service.gateway import errors
from service.tenants.keys import Key
from service.tenants.snapshot import Snapshot

Headers = Iterable[tuple[bytes, bytes]]


def authenticate(headers: Headers, keys: Snapshot) -> Key:
    """The key that the request opens with. Raises `APIError` (401) where there is none."""
    token = _token(headers)
    if not token:
        raise errors.no_key()
    key = keys.authenticate(token)
    if key is None:
        raise errors.wrong_key()
    return key


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

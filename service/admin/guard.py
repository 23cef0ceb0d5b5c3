"""What stands before every route of the admin API: the credential and the size of a body."""

import hashlib
import hmac

from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.admin.problems import problem
from service.errors import UserError
from service.settings import MIN_SECRET_LENGTH

MAX_BODY_BYTES = 64 << 10


class Guard:
    """Nothing behind it is reached without the token: no path is looked at, so none is left out.

    An answer is kept by no cache: some hold a new key.
    """

    def __init__(self, app: ASGIApp, *, token: SecretStr, max_body_bytes: int) -> None:
        self._app = app
        self._digest = _digest(token.get_secret_value().encode())
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no route speaks WebSocket; closing unaccepted is a refusal
            await send({"type": "websocket.close", "code": 1008})
            return
        if not self._is_authorized(scope):
            refusal = problem(
                401,
                "Send the admin token: Authorization: Bearer … (GPTOSS_ADMIN__TOKEN)",
                {"www-authenticate": "Bearer"},
            )
            await refusal(scope, receive, _uncached(send))
            return
        await self._app(scope, self._limited(receive), _uncached(send))

    def _is_authorized(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:  # two may be read differently by two readers
            return False
        scheme, _, token = given[0].partition(b" ")
        matches = hmac.compare_digest(_digest(token.strip()), self._digest)
        return matches and scheme.lower() == b"bearer"

    def _limited(self, receive: Receive) -> Receive:
        left = self._max_body_bytes

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(
                    413,
                    f"the body is larger than {self._max_body_bytes} bytes",
                    {"connection": "close"},
                )
            return message

        return limited


def refuse_weak(token: SecretStr) -> None:
    """UserError for a token that is empty or easily guessed."""
    length = len(token.get_secret_value())
    if length < MIN_SECRET_LENGTH:
        raise UserError(
            f"GPTOSS_ADMIN__TOKEN has {length} characters: use {MIN_SECRET_LENGTH} random ones"
        )


def _uncached(send: Send) -> Send:
    async def uncached(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"cache-control", b"no-store")]
        await send(message)

    return uncached


def _digest(token: bytes) -> bytes:
    """Of equal length, whatever the token's: a comparison says nothing about it."""
    return hashlib.sha256(token).digest()

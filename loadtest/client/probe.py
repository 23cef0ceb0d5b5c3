"""A look at the target before a run, so that a wrong address or key is one line and no report."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from loadtest.client.data import Endpoint
from loadtest.client.request import broken_code, session
from loadtest.client.stream import Chunk, chunk
from loadtest.errors import UserError

_PATIENCE = 10.0
# The first answer of a server that has just begun may take a while.
_FIRST_ANSWER = 120.0
_LONGEST = 4 * 1024 * 1024


class Probed(msgspec.Struct, frozen=True):
    """What was found."""

    model: str
    """The one that was asked for; where none was, the only one there is."""
    models: list[str]
    overhead_tokens: int | None
    """What the server puts around a prompt, in tokens; None if it does not count, or refused."""


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


async def probe(endpoint: Endpoint) -> Probed:
    """Ask for the models with each key, and with the first one for a token.

    Raises `UserError` for a target that cannot be reached, refuses a key, answers something
    else than an OpenAI-compatible server, or has no such model.
    """
    # By key: teams may share one.
    teams: dict[str, str] = {}
    for team, key in endpoint.keys.items():
        teams.setdefault(key, team)
    first, *others = teams.items() or [("", "")]
    async with session(endpoint) as line:
        models = await _models(line, endpoint, *first)
        for key, team in others:
            await _models(line, endpoint, key, team)
        model = _chosen(endpoint, models)
        return Probed(model, models, await _overhead(line, endpoint, _headers(first[0]), model))


def _headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


async def _models(
    line: aiohttp.ClientSession, endpoint: Endpoint, key: str, team: str
) -> list[str]:
    url = endpoint.url.rstrip("/") + "/v1/models"
    status, kind, body = await _asked(line, url, _headers(key), None, _PATIENCE)
    if status in (401, 403):
        given = f"the key of team {team}" if key else "a request without a key"
        raise UserError(f"{url} refused {given} ({status}): {_advice(endpoint, key, team)}")
    if "html" in kind:
        raise UserError(
            f"{url} answers HTML ({status}): target.url is to be the API, like http://host:8000/v1"
        )
    if status != 200:
        raise UserError(f"{url} answers {status}: is this an OpenAI-compatible server?")
    try:
        return [model.id for model in msgspec.json.decode(body, type=_Models).data]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise UserError(f"{url} does not list models: is it an OpenAI-compatible server?") from None


def _advice(endpoint: Endpoint, key: str, team: str) -> str:
    """Where to put a key that the server knows."""
    names = endpoint.variables
    variable = names.get(team) or next(iter(names.values()), "the variable that key_env names")
    return f"is what {variable} holds a key of this server?" if key else f"set {variable} to a key"


def _chosen(endpoint: Endpoint, models: list[str]) -> str:
    names = ", ".join(models) or "none"
    if endpoint.model and endpoint.model not in models:
        raise UserError(f"{endpoint.url} has no model {endpoint.model!r}: it has {names}")
    if not endpoint.model and len(models) != 1:
        raise UserError(f"{endpoint.url} has these models: {names}. Choose with target.model")
    return endpoint.model or models[0]


async def _overhead(
    line: aiohttp.ClientSession, endpoint: Endpoint, headers: Mapping[str, str], model: str
) -> int | None:
    """One word is one token: what is beyond it is the server's."""
    url = endpoint.url.rstrip("/") + "/v1/chat/completions"
    message = {"role": "user", "content": "hello"}
    body = json.dumps({"model": model, "messages": [message], "max_tokens": 1}).encode()
    status, _, answer = await _asked(line, url, headers, body, _FIRST_ANSWER)
    if status in (401, 403):
        raise UserError(f"{url} refused the key ({status}): it may list models, and ask nothing")
    if status == 404:
        raise UserError(f"{url} answers 404: is this an OpenAI-compatible server?")
    try:
        found: Chunk | None = chunk(answer) if status == 200 else None
    except ValueError:
        found = None
    if found is None or found.usage is None or found.usage.prompt_tokens < 1:
        return None
    return found.usage.prompt_tokens - 1


async def _asked(
    line: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    patience: float,
) -> tuple[int, str, bytes]:
    """Status, content type and body of an answer. Raises `UserError` if there is none."""
    more: dict[str, Any] = {} if body is None else {"data": body}
    kind = {"content-type": "application/json"} if body is not None else {}
    method = "GET" if body is None else "POST"
    try:
        async with (
            asyncio.timeout(patience),
            line.request(
                method, url, headers={**headers, **kind}, allow_redirects=False, **more
            ) as answer,
        ):
            return answer.status, answer.content_type, await answer.content.read(_LONGEST)
    except TimeoutError:
        asked = ", and does it speak https" if url.startswith("https:") else ""
        raise UserError(f"{url} did not answer within {patience:.0f} s: is it up{asked}?") from None
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise UserError(f"{url} is no address: target.url must be like http://host:8000") from None
    except ValueError:
        # Of the library: a header with a line end in it, as keys out of files have.
        raise UserError("the key or a header has characters that none may have") from None
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            reason = "its certificate is not trusted (verify_tls: false takes it all the same)"
        elif isinstance(error, aiohttp.ClientSSLError):
            reason = "it does not speak TLS as it should: is it http:// instead?"
        else:
            reason = broken_code(error)
        raise UserError(f"{url} cannot be reached: {reason}") from None

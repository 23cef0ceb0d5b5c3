"""The routes that exist. What is not listed here is answered 404 and reaches no engine.

vLLM has many more, and several of them run inference or change the engine without asking for a key
(`/invocations`, `/scale_elastic_ep`, ...), so this is a list of what is allowed, compared with
`scope["path"]` as a whole: never a prefix, never anything derived from the `Host` header.
"""

from dataclasses import dataclass
from enum import Enum

from service.gateway.fields import (
    ANTHROPIC_COUNT,
    ANTHROPIC_MESSAGES,
    CHAT,
    COMPLETIONS,
    RESPONSES,
    Fields,
)


class Dialect(Enum):
    """How answers look: which error body a client parses, and how its streams end."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class Route:
    """One route to the engine. `name` is its label in metrics."""

    name: str
    path: str
    dialect: Dialect
    fields: Fields


INFERENCE = {
    route.path: route
    for route in (
        Route("chat", "/v1/chat/completions", Dialect.OPENAI, CHAT),
        Route("completions", "/v1/completions", Dialect.OPENAI, COMPLETIONS),
        Route("responses", "/v1/responses", Dialect.RESPONSES, RESPONSES),
        Route("messages", "/v1/messages", Dialect.ANTHROPIC, ANTHROPIC_MESSAGES),
        Route("count_tokens", "/v1/messages/count_tokens", Dialect.ANTHROPIC, ANTHROPIC_COUNT),
    )
}
MODELS = "/v1/models"


def dialect_of(path: str) -> Dialect:
    """The dialect in which to refuse a request for `path`."""
    route = INFERENCE.get(path)
    return route.dialect if route else Dialect.OPENAI

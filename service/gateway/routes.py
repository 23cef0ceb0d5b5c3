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
    """One route to the engine. `name` is its label in metrics.

    `output` are the fields that bound the answer, the one that the engine obeys first;
    `default_output` is the engine's own bound without them, tokens. `effort` is where the reasoning
    effort is said. `salted` routes take a `cache_salt`; `counts_only` is one that generates
    nothing.
    """

    name: str
    path: str
    dialect: Dialect
    fields: Fields
    output: tuple[str, ...] = ()
    default_output: int | None = None
    effort: tuple[str, ...] = ()
    salted: bool = True
    counts_only: bool = False


INFERENCE = {
    route.path: route
    for route in (
        Route(
            "chat",
            "/v1/chat/completions",
            Dialect.OPENAI,
            CHAT,
            output=("max_completion_tokens", "max_tokens"),
            effort=("reasoning_effort",),
        ),
        Route(
            "completions",
            "/v1/completions",
            Dialect.OPENAI,
            COMPLETIONS,
            output=("max_tokens",),
            default_output=16,
        ),
        Route(
            "responses",
            "/v1/responses",
            Dialect.RESPONSES,
            RESPONSES,
            output=("max_output_tokens",),
            effort=("reasoning", "effort"),
        ),
        Route(
            "messages",
            "/v1/messages",
            Dialect.ANTHROPIC,
            ANTHROPIC_MESSAGES,
            output=("max_tokens",),
            effort=("output_config", "effort"),
        ),
        Route(
            "count_tokens",
            "/v1/messages/count_tokens",
            Dialect.ANTHROPIC,
            ANTHROPIC_COUNT,
            default_output=0,
            salted=False,
            counts_only=True,
        ),
    )
}
MODELS = "/v1/models"
QUOTA = "/v1/quota"


def dialect_of(path: str) -> Dialect:
    """The dialect in which to refuse a request for `path`."""
    route = INFERENCE.get(path)
    return route.dialect if route else Dialect.OPENAI

"""`gptoss fields`: what a client may send, by route."""

import typer

from service.gateway.routes import INFERENCE

_HEAD = """\
# Body fields by route

What a client may send; printed by `gptoss fields`. A **passed** field reaches the engine as it
came, unless it is named below; an **accepted** one is part of the vendor's API, means nothing here
and goes no further; every other field is refused by name with 400.

Decided by the gateway: `stream_options` (usage is always asked for, and shown as the client asked),
`n` and lists of prompts (bounded), the fields that bound an answer and those that say the reasoning
effort (within the team's limits; other words for an effort are said in the engine's). Added by it:
`cache_salt` (the team's, unless it shares its cache) and the header `X-Vllm-Priority` (the tier's).
"""


def fields() -> None:
    """Print the body fields that clients may send, by route, as Markdown."""
    typer.echo(table(), nl=False)


def table() -> str:
    """The document."""
    routes = list(INFERENCE.values())
    known = sorted(set().union(*(route.fields.passed | route.fields.accepted for route in routes)))
    lines = [
        _HEAD,
        "| field | " + " | ".join(f"`{route.path}`" for route in routes) + " |",
        "|---" * (len(routes) + 1) + "|",
    ]
    for name in known:
        cells = [_word(name, route.fields.passed, route.fields.accepted) for route in routes]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _word(name: str, passed: frozenset[str], accepted: frozenset[str]) -> str:
    return "passed" if name in passed else "accepted" if name in accepted else ""

"""Functions that a model may call, and a schema that an answer is to fit: of plausible shape.

They depend on nothing but their number: an agent has the same tools in each request.
"""

from typing import Any, Final

_VERBS: Final = (
    "search read list create update delete move copy compare summarize validate export import "
    "schedule assign archive"
).split()
_NOUNS: Final = "documents file issues calendar customers orders database_rows messages".split()
_TEXT: Final = {"type": "string"}
_PARAMETERS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("query", _TEXT | {"description": "What to look for, in plain words or as a pattern."}),
    ("path", _TEXT | {"description": "Where it is, from the root of the workspace."}),
    ("limit", {"type": "integer", "minimum": 1, "description": "The most that is returned."}),
    ("recursive", {"type": "boolean", "description": "Whether what is below counts too."}),
    ("order", _TEXT | {"enum": ["newest", "oldest", "relevance"]}),
    ("labels", {"type": "array", "items": _TEXT, "description": "All of them must be there."}),
    ("due", _TEXT | {"description": "A date and a time, as 2026-03-01T09:30:00Z."}),
)

MOST: Final = len(_VERBS) * len(_NOUNS)
"""Different functions that there are."""


def functions(count: int) -> list[dict[str, Any]]:
    """So many, as `tools` of a request."""
    return [{"type": "function", "function": _function(number)} for number in range(count)]


def _function(number: int) -> dict[str, Any]:
    noun, verb = divmod(number, len(_VERBS))
    name = f"{_VERBS[verb]}_{_NOUNS[noun]}"
    taken = [_PARAMETERS[(number + offset) % len(_PARAMETERS)] for offset in range(2 + number % 3)]
    return {
        "name": name,
        "description": f"{name.replace('_', ' ').capitalize()} of the workspace. "
        "Returns what was found or done, or says why it could not be.",
        "parameters": {
            "type": "object",
            "properties": dict(taken),
            "required": [taken[0][0]],
            "additionalProperties": False,
        },
    }


def answer_format() -> dict[str, Any]:
    """The `response_format` of a request for structured output."""
    person = {
        "type": "object",
        "properties": {"name": _TEXT, "role": _TEXT | {"enum": ["author", "reviewer", "other"]}},
        "required": ["name", "role"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {
            "title": _TEXT,
            "urgent": {"type": "boolean"},
            "amount": {"type": "number"},
            "people": {"type": "array", "items": person, "maxItems": 5},
        },
        "required": ["title", "urgent", "amount", "people"],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "record", "strict": True, "schema": schema},
    }


def tokens(count: int) -> int:
    """About what so many functions add to a prompt of gpt-oss: within a tenth."""
    return 18 + 78 * count if count else 0

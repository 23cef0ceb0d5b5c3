"""What a conversation is known by: its team, and how it begins.

All turns of a conversation begin with the same messages, so the engine that has answered one has
the beginning of the next in its prefix cache.
"""

import re
from collections.abc import Mapping

import msgspec

from service.routing.ring import hashed

# Of a long beginning: enough to tell conversations apart.
_BYTES = 4096


class _Message(msgspec.Struct):
    role: str = ""


_messages = msgspec.json.Decoder(list[msgspec.Raw]).decode
_message = msgspec.json.Decoder(_Message).decode

# Where a client says it itself: OpenAI's field for requests that share a prefix.
_KEY = "prompt_cache_key"
_HAS_MESSAGES = re.compile(rb"\[\s*\{")
_BEFORE = ("instructions", "system")
_TURNS = ("messages", "input", "prompt")


def conversation(team: str, fields: Mapping[str, msgspec.Raw]) -> int | None:
    """A request's place on the ring of replicas; None where there is nothing to go by."""
    said = beginning(fields)
    return hashed(team.encode() + b"\0" + said) if said else None


def beginning(fields: Mapping[str, msgspec.Raw]) -> bytes:
    """The bytes by which a conversation is told from others: its first message of a user, and
    what is before it. Empty where there is nothing of that."""
    if key := bytes(fields.get(_KEY, b"")).strip(b'"'):
        return b"key " + key[:_BYTES]
    parts = [bytes(fields.get(name, b""))[:_BYTES] for name in _BEFORE]
    parts += [_first_turn(bytes(fields.get(name, b""))) for name in _TURNS]
    return b"\0".join(parts).strip(b"\0")


def _first_turn(raw: bytes) -> bytes:
    if not _HAS_MESSAGES.match(raw):
        return raw[:_BYTES]  # a text, or tokens, that are continued begin with the same bytes
    try:
        messages = _messages(raw)
        found: list[bytes] = []
        for message in messages:
            found.append(bytes(message))
            if _message(message).role == "user":
                break
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return b""  # whatever is wrong with it, the engine says so
    return b"".join(found)[:_BYTES]

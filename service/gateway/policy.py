"""What of a request reaches the engine.

The body is split into its top-level fields, whose values stay raw bytes: nothing of a long prompt
is built as Python objects. It is always put together again from what was seen here, so that the
engine cannot read it differently (a name given twice, an escaped `priority`).
"""

from dataclasses import dataclass

import msgspec

from service.gateway import errors
from service.gateway.routes import Route

# vLLM 0.32 knows low, medium and high only; OpenAI's SDKs offer more words for the same scale.
_EFFORTS = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}

_split = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it goes to the engine. `body` is JSON."""

    route: Route
    model: str
    stream: bool
    body: bytes


def decide(route: Route, body: bytes) -> Request:
    """Check a body against what the route allows.

    Raises `APIError` (400) for what is not a JSON object, a field that is not allowed, or a `model`
    or `stream` of the wrong type.
    """
    fields = _fields_of(body)
    unknown = fields.keys() - route.fields.passed - route.fields.accepted
    if unknown:
        raise errors.unknown_fields(sorted(unknown))
    model, stream = _model(fields), _stream(fields)
    _translate_effort(fields)
    passed = {name: raw for name, raw in fields.items() if name in route.fields.passed}
    return Request(route, model, stream, _encode(passed))


def _fields_of(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        body.decode()  # the splitter skips over values without looking at their encoding
        return _split.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.not_json() from None


def _decode(raw: msgspec.Raw) -> object:
    try:
        return _value.decode(raw)
    except (msgspec.DecodeError, RecursionError):  # a number out of range, for one
        raise errors.not_json() from None


def _model(fields: dict[str, msgspec.Raw]) -> str:
    if "model" not in fields:
        raise errors.missing("model")
    model = _decode(fields["model"])
    if not isinstance(model, str):
        raise errors.wrong_type("model", "a string")
    return model


def _stream(fields: dict[str, msgspec.Raw]) -> bool:
    stream = _decode(fields["stream"]) if "stream" in fields else False
    if stream is not None and not isinstance(stream, bool):
        raise errors.wrong_type("stream", "a boolean")
    return bool(stream)


def _translate_effort(fields: dict[str, msgspec.Raw]) -> None:
    """Say OpenAI's other words for reasoning effort in the engine's."""
    if "reasoning_effort" in fields:
        effort = _decode(fields["reasoning_effort"])
        if isinstance(effort, str) and effort in _EFFORTS:
            fields["reasoning_effort"] = msgspec.Raw(_encode(_EFFORTS[effort]))
    if "reasoning" in fields:
        reasoning = _decode(fields["reasoning"])
        if isinstance(reasoning, dict):
            effort = reasoning.get("effort")
            if isinstance(effort, str) and effort in _EFFORTS:
                said = reasoning | {"effort": _EFFORTS[effort]}
                fields["reasoning"] = msgspec.Raw(_encode(said))

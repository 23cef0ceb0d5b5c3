"""What of a request reaches the engine.

The body is split into its top-level fields, whose values stay raw bytes: nothing of a long prompt
is built as Python objects. It is always put together again from what was seen here, so that the
engine cannot read it differently (a name given twice, an escaped `priority`).

`read` takes a body apart, before anything is known of who asks; `compose` makes the engine's body
of it, within the caps of the team. What is known of a request while it is answered is without its
fields: they are all of a prompt that may be long.
"""

from dataclasses import dataclass

import msgspec

from service.gateway import errors
from service.gateway.caps import Caps
from service.gateway.depth import is_deeper
from service.gateway.routes import Dialect, Route
from service.gateway.usage import Shown
from service.quota.limits import Effort

# vLLM 0.32 knows low, medium and high only; the vendors' SDKs offer more words for the same scale.
_EFFORTS = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}
_DEFAULT_EFFORT = Effort.MEDIUM
# Far above any model's context, and small enough to count with.
_MOST_OUTPUT = 10_000_000
Fields = dict[str, msgspec.Raw]
"""Names and values of a body's fields, as the client wrote them."""

_USAGE_OPTIONS = ("include_usage", "continuous_usage_stats")

_split = msgspec.json.Decoder(Fields)
_value = msgspec.json.Decoder()
_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the client made it.

    `output` is the bound it set for each of its `choices`, tokens; `prompts` is more than one where
    several are completed at once; `token_ids` how many a prompt has that is given as such.
    """

    route: Route
    model: str
    stream: bool
    prompts: int
    token_ids: int | None
    choices: int
    output: int | None
    shown: Shown
    size: int
    """Bytes of the whole body."""

    def work(self, prompt: int, usual: int) -> int:
        """What it is to an engine, tokens: an answer is rarely as long as it may become.

        `prompt` is the estimate of its prompt, `usual` the length of the team's answers.
        """
        output = usual if self.output is None else min(self.output, usual)
        return prompt + output * self.choices * self.prompts


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it goes to the engine. `body` is JSON; lower `priority` is served earlier.

    `may_be_empty` is one that can be answered without generating a token.
    """

    route: Route
    model: str
    stream: bool
    body: bytes
    priority: int = 0
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """What no request may exceed, whoever asks."""

    choices: int
    depth: int


def read(route: Route, body: bytes, bounds: Bounds) -> tuple[Asked, Fields]:
    """Check a body against what the route allows, and take it apart.

    Raises `APIError` (400) for what is not a JSON object or too deep, a field that is not allowed,
    or one that decides something here and is of the wrong type.
    """
    fields = _fields_of(body)
    if is_deeper(body, bounds.depth):
        raise errors.too_deep(bounds.depth)
    unknown = fields.keys() - route.fields.passed - route.fields.accepted
    if unknown:
        raise errors.unknown_fields(sorted(unknown))
    if "model" not in fields:
        raise errors.missing("model")
    model = _decode(fields["model"])
    if not isinstance(model, str):
        raise errors.wrong_type("model", "a string")
    asked = Asked(
        route,
        model,
        _boolean(fields, "stream"),
        *_prompts(fields, bounds.choices),
        _choices(fields, bounds.choices),
        _output(fields, route),
        _shown(fields),
        len(body),
    )
    return asked, fields


def compose(asked: Asked, given: Fields, caps: Caps, prompt: int, engine_model: str) -> Request:
    """The engine's request, of the fields that were given.

    `prompt` is the estimate of its prompt, tokens; `engine_model` is what the engine calls the
    model.

    Raises `APIError` (400) for more context, output or effort than the team may ask for.
    """
    route = asked.route
    fields = {name: raw for name, raw in given.items() if name in route.fields.passed}
    _bound_output(fields, asked, caps, prompt)
    if route.effort:
        _set_effort(fields, route.effort, caps)
    elif caps.efforts and not route.counts_only:
        raise errors.effort_not_controllable(route.path)  # a raw prompt says its effort itself
    if asked.stream and route.dialect is Dialect.OPENAI:
        _ask_for_usage(fields)
    if caps.cache_salt and route.salted:
        fields["cache_salt"] = msgspec.Raw(_encode(caps.cache_salt))
    if engine_model != asked.model:
        fields["model"] = msgspec.Raw(_encode(engine_model))
    may_be_empty = route.counts_only or asked.output == 0
    body = _encode(fields)
    return Request(route, asked.model, asked.stream, body, caps.priority, may_be_empty)


def _fields_of(body: bytes) -> Fields:
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


def _boolean(fields: Fields, name: str) -> bool:
    value = _decode(fields[name]) if name in fields else None
    if value is not None and not isinstance(value, bool):
        raise errors.wrong_type(name, "a boolean")
    return bool(value)


def _integer(fields: Fields, name: str) -> int | None:
    """Strictly: the engine would also take "5", which must not get around a cap."""
    value = _decode(fields[name]) if name in fields else None
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise errors.wrong_type(name, "an integer")
    return value


def _choices(fields: Fields, most: int) -> int:
    choices = _integer(fields, "n")
    if choices is None:
        return 1
    if not 1 <= choices <= most:
        raise errors.out_of_range("n", 1, most)
    return choices


def _prompts(fields: Fields, most: int) -> tuple[int, int | None]:
    """How many prompts there are and, where one is given as token ids, how many ids.

    Without building the ids: there may be millions, and this is before any limit.
    """
    text = bytes(fields.get("prompt", b""))
    if not text.startswith(b"["):
        return 1, None
    first = text[1:].lstrip()[:1]
    if first not in (b'"', b"["):
        return 1, text.count(b",") + 1
    try:
        prompts = len(_raw_list(text))
    except (msgspec.DecodeError, RecursionError):
        raise errors.not_json() from None
    if prompts > most:
        raise errors.out_of_range("prompt", 1, most)
    return prompts, None


def _output(fields: Fields, route: Route) -> int | None:
    """The bound on the answer: where a route has two names for it, the engine obeys the first."""
    given = [_integer(fields, name) for name in route.output]
    for name, value in zip(route.output, given, strict=True):
        if value is not None and not 0 <= value <= _MOST_OUTPUT:
            raise errors.out_of_range(name, 0, _MOST_OUTPUT)
    return next((value for value in given if value is not None), route.default_output)


def _bound_output(fields: Fields, asked: Asked, caps: Caps, prompt: int) -> None:
    if not asked.route.output:
        return
    most = caps.max_output
    if caps.max_context is not None:
        room = caps.max_context - prompt
        if room < max(asked.output or 1, 1):
            raise errors.context_too_long(caps.max_context, prompt, asked.output)
        most = room if most is None else min(most, room)
    if most is None:
        return
    if asked.output is None:
        fields[asked.route.output[0]] = msgspec.Raw(_encode(most))
    elif asked.output > most:
        name = next((n for n in asked.route.output if n in fields), asked.route.output[0])
        raise errors.too_much_output(name, asked.output, most)


def _set_effort(fields: Fields, path: tuple[str, ...], caps: Caps) -> None:
    """Say other words for reasoning effort in the engine's, and keep to what is allowed."""
    name, inner = path[0], path[1:]
    value = _decode(fields[name]) if name in fields else None
    if inner and value is not None and not isinstance(value, dict):
        return  # the engine says what is wrong with it
    holder: dict[str, object] = value if isinstance(value, dict) else {}
    effort = holder.get(inner[0]) if inner else value
    wanted = _EFFORTS.get(effort, effort) if isinstance(effort, str) else effort
    if caps.efforts is not None:
        if wanted is None:
            wanted = caps.default_effort(_DEFAULT_EFFORT)
        elif wanted not in caps.efforts:
            raise errors.effort_not_allowed(".".join(path), str(effort), caps.efforts)
    if wanted != effort:
        fields[name] = msgspec.Raw(_encode(holder | {inner[0]: wanted} if inner else wanted))


def _shown(fields: Fields) -> Shown:
    """How much usage the client wants to see in a stream."""
    options = _stream_options(fields)
    final, continuous = (_flag(options, name) for name in _USAGE_OPTIONS)
    if not final:
        return Shown.NONE
    return Shown.CONTINUOUS if continuous else Shown.FINAL


def _ask_for_usage(fields: Fields) -> None:
    """Have the engine report use in every chunk, whatever the client wants to see of it."""
    options = _stream_options(fields) | dict.fromkeys(_USAGE_OPTIONS, True)
    fields["stream_options"] = msgspec.Raw(_encode(options))


def _stream_options(fields: Fields) -> dict[str, object]:
    given = _decode(fields["stream_options"]) if "stream_options" in fields else None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise errors.wrong_type("stream_options", "an object")
    return given


def _flag(options: dict[str, object], name: str) -> bool:
    value = options.get(name)
    if value is not None and not isinstance(value, bool):
        raise errors.wrong_type(f"stream_options.{name}", "a boolean")
    return bool(value)

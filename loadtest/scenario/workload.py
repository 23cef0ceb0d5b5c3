"""What is asked: one kind of request, or of conversation."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from loadtest.scenario.lengths import Fixed, Length
from loadtest.scenario.model import Model, Seconds


class Prefix(Model):
    """The beginning of each prompt, alike within a group, as system prompts and documents are."""

    tokens: PositiveInt
    groups: PositiveInt = 1
    """So many different ones; each conversation has one of them."""


class Workload(Model):
    """One kind of request, or of conversation."""

    name: str = "default"
    weight: PositiveFloat = 1.0
    """How often, against the others of its team."""
    prompt: Length = Fixed(tokens=256)
    """Tokens of the message in each turn, counted exactly; what the server puts around them comes
    on top, and is measured."""
    output: Length = Fixed(tokens=128)
    """The most tokens of an answer (`max_tokens`)."""
    exact_output: bool = False
    """Ask for exactly so many (`ignore_eos`): vLLM by itself takes that, gateways may refuse it."""
    prefix: Prefix | None = None
    turns: Length = Fixed(tokens=1)
    """Turns of a conversation. Each has all before it in its prompt, with the real answers."""
    think: Seconds = 0.0
    """Between an answer and the next turn: a mean, exponentially distributed."""
    stream: bool = True
    reasoning_effort: Literal["low", "medium", "high"] | None = None
    tools: Annotated[int, Field(ge=0, le=128)] = 0
    """Functions that the model may call. A call is answered, as a turn of its own."""
    schema_: Annotated[bool, Field(alias="schema")] = False
    """Ask for an answer that fits a JSON schema."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    cancel_percent: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Of requests that the client gives up after `cancel_after`."""
    cancel_after: Seconds = 1.0
    extra: dict[str, Any] = Field(default_factory=dict)
    """More fields of the request's body, as they are."""


class Retry(Model):
    """What a client does about a refusal or an error before the first token. That is load too."""

    policy: Literal["none", "naive", "backoff", "retry_after"] = "none"
    """`naive` at once; `backoff` doubles from `base`, with full jitter; `retry_after` as the server
    advises, else as `backoff`."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """Sendings in all."""
    base: Seconds = 0.5
    cap: Seconds = 30.0
    """The longest wait that is chosen by itself."""

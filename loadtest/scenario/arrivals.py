"""When requests come: by themselves (open loop), or each after an answer (closed loop)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from loadtest.scenario.model import Model, Rate, Seconds


class Poisson(Model):
    """Independent users: exponential gaps."""

    kind: Literal["poisson"]
    rate: Rate


class Constant(Model):
    """One each 1/rate seconds, exactly."""

    kind: Literal["constant"]
    rate: Rate


class Gamma(Model):
    """Bursts: gaps of a gamma distribution with shape `burstiness`, as `vllm bench` has it. 1 is
    Poisson, less comes in bursts, more is more even."""

    kind: Literal["gamma"]
    rate: Rate
    burstiness: PositiveFloat


class Ramp(Model):
    """Poisson whose rate goes linearly from `start` to `end` over the scenario's duration."""

    kind: Literal["ramp"]
    start: Annotated[float, Field(ge=0)]
    end: Rate


class Steps(Model):
    """Poisson at each of these rates in turn, for equal parts of the duration."""

    kind: Literal["steps"]
    rates: Annotated[list[Rate], Field(min_length=1)]


class Trace(Model):
    """Arrivals, and where the trace has them lengths and shared prefixes, of a file.

    `mooncake` and `timed_trace` are JSONL, `azure` and `burstgpt` CSV; `speed` 2 plays it twice as
    fast. What comes after the scenario's duration is left out.
    """

    kind: Literal["trace"]
    file: Path
    format: Literal["mooncake", "timed_trace", "azure", "burstgpt"]
    speed: PositiveFloat = 1.0


class Closed(Model):
    """A number of clients that each send the next request when they have the last answer, after
    `think`. Offered load falls when the server is slow: it finds capacity, and no user's wait."""

    kind: Literal["closed"]
    clients: PositiveInt
    think: Seconds = 0.0


Arrivals = Annotated[
    Poisson | Constant | Gamma | Ramp | Steps | Trace | Closed, Field(discriminator="kind")
]

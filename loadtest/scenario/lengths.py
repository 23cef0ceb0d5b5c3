"""How many tokens something has: a number, or a distribution."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from loadtest.scenario.model import Model


class Fixed(Model):
    """Always so many tokens."""

    kind: Literal["fixed"] = "fixed"
    tokens: PositiveInt


class Uniform(Model):
    """Any number of tokens from `low` to `high`, equally likely."""

    kind: Literal["uniform"]
    low: PositiveInt
    high: PositiveInt

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        return self


class LogNormal(Model):
    """As lengths of texts are distributed: half are below `median`; `sigma` is how far they go
    (1.0: one in six is above 2.7 times the median). Cut off at `low` and `high`."""

    kind: Literal["lognormal"]
    median: PositiveFloat
    sigma: PositiveFloat
    low: PositiveInt = 1
    high: PositiveInt = 131_072


class Empirical(Model):
    """One of these numbers of tokens, equally likely unless `weights` says otherwise."""

    kind: Literal["empirical"]
    tokens: Annotated[list[PositiveInt], Field(min_length=1)]
    weights: list[PositiveFloat] | None = None

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.tokens):
            raise ValueError(f"{len(self.weights)} weights for {len(self.tokens)} lengths")
        return self


def _length(value: Any) -> Any:
    return {"kind": "fixed", "tokens": value} if isinstance(value, int) else value


Length = Annotated[
    Annotated[Fixed | Uniform | LogNormal | Empirical, Field(discriminator="kind")],
    BeforeValidator(_length, json_schema_input_type=int | Fixed | Uniform | LogNormal | Empirical),
]
"""How many tokens: a number, or a distribution."""

"""What all parts of a scenario are: strict, read once, and with durations in words."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value.strip())
    if not found:
        raise ValueError("a duration is a number of seconds, or has ms, s, m or h: 90, 90s, 1.5m")
    return float(found[1]) * _UNITS[found[2]]


Seconds = Annotated[
    float,
    BeforeValidator(_seconds, json_schema_input_type=float | str),
    Field(ge=0, allow_inf_nan=False),
]
"""A duration: `90`, `90s`, `1.5m`."""
Percent = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(ge=0, le=100)]
"""In percent, and there may be none of it."""
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Model(BaseModel):
    """All parts of a scenario: unknown keys are refused, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

"""What tickets of lost redundancy do: see `alert_cases`."""

from typing import Final

from tests.observability.rule_tests import (
    Case,
    engine,
    engine_target,
    gateway,
    info,
    pool,
    series,
    ticket,
)


def _up(values: str, number: int) -> dict[str, str]:
    """Whether Prometheus gets metrics of an engine."""
    return dict(series("up", values, **engine_target(number)))


def _first_up() -> dict[str, str]:
    return _up("1x40", 0) | engine("cache_config_info", "1x40")


CASES: Final = (
    Case("ReplicaOut", "as one gateway sees it",
         {**pool(up="1x30"),
          **gateway("replicas", "1x30", ["gateway-1"], pool="h100", state="ejected")},
         "20m", (ticket(pool="h100"),)),
    Case("ReplicaOut", "for a moment", pool(up="1x30", down="0x5 1x5 0x30"), "20m"),
    Case("TargetDown", "an engine", _first_up() | _up("0x30", 1), "20m",
         (ticket(**engine_target(1)),)),
    Case("TargetDown", "somebody else's", _up("0x30", 1), "20m"),
    Case("TargetDown", "a restart", _first_up() | _up("1x5 0x5 1x30", 1), "20m"),
    Case("OneGatewayLeft", "of two",
         {**info("1x10", ["gateway-0"]),
          **info("1x60", ["gateway-1"])}, "40m", (ticket(),)),
    Case("OneGatewayLeft", "there never were more", info("1x60", ["gateway-0"]),
         "40m"),
)  # fmt: skip

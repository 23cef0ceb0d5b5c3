"""A peer that runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Running:
    """Where it listens, on 127.0.0.1, and what a client has to show."""

    pid: int
    port: int
    key: str = "none"
    settles: float = 0.0
    """After its last answer it works on for so long at most, s."""

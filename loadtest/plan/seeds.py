"""Where random numbers begin: derived from names, and equal on every machine.

Each thing that is random has a sequence of its own. So a change to one team, or to one length,
leaves everything else as it was, and two runs can be compared request by request.
"""

from hashlib import blake2b


def of(*parts: int | str) -> int:
    """A number of 63 bits for these names and numbers. Python's `hash` differs by process."""
    digest = blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def team(scenario: int, name: str) -> int:
    """A team's own seed, from the scenario's."""
    return of("team", scenario, name)

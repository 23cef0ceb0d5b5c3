"""One request, or the first of a conversation, before it is sent."""

import msgspec


# gc=False: it holds nothing that could hold it, and a plan has a million of them.
class Arrival(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """When it is due and what it is made of. The same arrival always makes the same request."""

    index: int
    """Its number within its team, from 0."""
    at: float
    """When it is due, s since the run's start. In a closed loop: when its client begins, for the
    client's first; what comes after is due when the client is free."""
    workload: int
    """Which of its team's workloads."""
    seed: int
    """Of its own random numbers: lengths, words, think times."""
    prompt: int = 0
    """Tokens of the prompt, where a trace has them; 0: as the workload draws them."""
    output: int = 0
    """Tokens of the answer, likewise."""
    prefix: tuple[int, ...] = ()
    """Which blocks the prompt begins with, where a trace has that: equal numbers are equal text."""
    block: int = 512
    """Tokens of each of these."""

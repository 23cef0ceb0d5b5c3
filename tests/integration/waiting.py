"""For what comes soon: by what happens, not by how long it takes."""

import time
from collections.abc import Callable


def wait_for(
    condition: Callable[[], bool], seconds: float = 5, seen: Callable[[], object] | None = None
) -> None:
    """`seen` is what there is instead, for whoever reads of the failure."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            there = f": there is {seen()}" if seen else ""
            raise AssertionError(f"what the test waits for did not happen{there}")
        time.sleep(0.01)

"""The bounds of histograms of latency, s: the same for gateways and engines, and for objectives.

MLPerf's bounds of gpt-oss-120b are among them: 2 and 3 s to the first token, 15 and 80 ms for each
one after it.
"""

from typing import Final

TTFT_BUCKETS: Final = (
    *(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0),
    *(60.0, 120.0),
)
"""Of times to the first token."""

TOKEN_BUCKETS: Final = (
    *(0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05),
    *(0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Of times between tokens, and for each of them."""

"""An engine's metrics page: the few lines of it that decide where requests go.

The page has some hundred kilobytes; it is searched as bytes, and not parsed.
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Self

_LINE = re.compile(
    rb"^vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc|prompt_tokens_total"
    rb"|generation_tokens_total|iteration_tokens_total_sum|iteration_tokens_total_count)"
    rb"(?:\{[^}\n]*\})? (\S+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class EnginePage:
    """What vLLM says of itself. Ranks of one engine are added up, but for the fullest KV cache.

    `progress` grows with every step, also within a long prefill that has not counted a token yet.
    """

    running: int
    waiting: int
    kv_usage: float
    prompt_tokens: int
    generation_tokens: int
    progress: float

    @classmethod
    def read(cls, page: bytes) -> Self | None:
        """What a page says; None for one that is not vLLM's."""
        sums: Counter[bytes] = Counter()
        usage = 0.0
        try:
            for name, text in _LINE.findall(page):
                value = float(text)
                sums[name] += value  # type: ignore[assignment]  # a Counter of floats
                if name == b"kv_cache_usage_perc":
                    usage = max(usage, value)
            if not sums:
                return None
            return cls(
                int(sums[b"num_requests_running"]),
                int(sums[b"num_requests_waiting"]),
                usage,
                int(sums[b"prompt_tokens_total"]),
                int(sums[b"generation_tokens_total"]),
                float(
                    sums[b"prompt_tokens_total"]
                    + sums[b"generation_tokens_total"]
                    + sums[b"iteration_tokens_total_sum"]
                    + sums[b"iteration_tokens_total_count"]
                ),
            )
        except (ValueError, OverflowError):  # no number, or none that can be counted with
            return None

"""The metrics' page, made in small steps: streams go on between them.

All at once it would take the event loop for 90 ms with a hundred teams: more than a token may take.
"""

import asyncio
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

# Of samples that are written in one step: about 2 ms.
_STEP = 150
_END = b"# EOF\n"


class _Part:
    """A piece of a family, where a registry is expected."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


async def page(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The page in the format that `accept`, the header, prefers; and its content type."""
    encode, content_type = choose_encoder(accept)
    written: list[bytes] = []
    for metric in registry.collect():
        for number, part in enumerate(_parts(metric)):
            text: bytes = encode(_Part(part)).removesuffix(_END)
            written.append(_without_head(text) if number else text)
            await asyncio.sleep(0)
    if content_type.startswith("application/openmetrics-text"):
        written.append(_END)
    return b"".join(written), content_type


def _parts(metric: Metric) -> Iterator[Metric]:
    samples = metric.samples
    for start in range(0, max(len(samples), 1), _STEP):
        part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
        part.samples = samples[start : start + _STEP]
        yield part


def _without_head(text: bytes) -> bytes:
    """Without the lines that say what family it is: these are there once."""
    return b"".join(line for line in text.splitlines(keepends=True) if line[:1] != b"#")

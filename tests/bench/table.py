"""A run as a table for the README."""

from pathlib import Path
from typing import Final

from tests.bench.results import BUSY, Latency, PeerResult, Results, Spread

_BEGIN: Final = "<!-- made by `make bench-record` -->\n"
_END: Final = "<!-- end of what is made -->\n"
_HEAD: Final = (
    "| | µs CPU per chunk | µs CPU per request | streams at 60 % of a core"
    " | added TTFT p50 / p99, ms | added ITL p99, ms | kB per idle stream |\n"
    "|---|---|---|---|---|---|---|\n"
)


def table(results: Results) -> str:
    """In Markdown, with what it was measured on, and who is missing and why."""
    rows = "".join(map(_row, results.peers))
    rounds = max((len(peer.rounds) for peer in results.peers), default=0)
    versions = "; ".join(f"{peer.name}: {peer.version}" for peer in results.peers)
    late = max((peer.merged for peer in results.peers), default=0.0)
    busy = (
        f"**Of a busy machine, to be made anew on a quiet one:** up to {late:.0%} of chunks came"
        " late, with another of their stream, which makes them cheaper than they are. "
        if late > BUSY
        else ""
    )
    absent = "".join(f" Not measured: {name} ({why})." for name, why in results.absent.items())
    return (
        f"{_HEAD}{rows}\n{busy}One run on {results.machine}. Medians of {rounds} rounds, and in"
        f" brackets how far the rounds were apart. {versions}.{absent}\n"
    )


def put_into(page: Path, results: Results) -> None:
    """Replace the table on a page. Raises `ValueError` for a page without a place for it."""
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(
            f"{page} has no place for the table: put {_BEGIN.strip()} and"
            f" {_END.strip()} where it belongs"
        )
    page.write_text(before + begin + table(results) + end + after)


def _row(peer: PeerResult) -> str:
    idle = "" if peer.idle_bytes is None else f"{peer.idle_bytes / 1000:.0f}"
    return (
        f"| {peer.name}: {peer.what} | {_figure(peer.chunk)} | {_figure(peer.request)}"
        f" | {_latency(peer.latency)} | {idle} |\n"
    )


def _figure(spread: Spread) -> str:
    digits = 1 if spread.median < 100 else 0
    return f"{spread.median:,.{digits}f} ({spread.percent:.0f} %)"


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return " | | "
    return (
        f"{latency.streams} | {latency.ttft_p50:.1f} / {latency.ttft_p99:.1f}"
        f" | {latency.itl_p99:.1f}"
    )

"""Figures as people read them: three or four digits, and the unit that fits."""

import math

NOTHING = "\N{EN DASH}"
"""Where there is no figure."""
NEVER = "∞"
"""A percentile that falls among failed requests."""


def seconds(value: float) -> str:
    """`87.3 ms`, `1.23 s`, `12.5 min`."""
    size = abs(value)
    if size < 0.9995:
        return f"{_digits(value * 1000)} ms"
    return f"{_digits(value)} s" if size < 600 else f"{_digits(value / 60)} min"


def count(value: float) -> str:
    """`12,345`: all of it."""
    return f"{value:,.0f}"


def number(value: float) -> str:
    """`0.0312`, `12.35`, `12,345`."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def percent(value: float) -> str:
    """`99.13%`. What is not quite all or nothing never reads as if it were."""
    if value == int(value):
        return f"{value:.0f}%"
    for places in range(2, 9):
        text = f"{value:.{places}f}"
        if float(text) not in (0.0, 100.0):
            break
    return f"{text}%"


def share(value: float) -> str:
    """As a percentage."""
    return percent(100 * value)


def _digits(value: float) -> str:
    """Three significant digits, never as a power of ten."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 6)}f}"

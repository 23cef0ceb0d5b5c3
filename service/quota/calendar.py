"""Days and months as teams see them: in their own time zone."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Window:
    """A calendar day (`2026-08-22`) or month (`2026-08`) of a budget. `end` is in epoch seconds."""

    label: str
    end: int


@dataclass(frozen=True, slots=True)
class Windows:
    """The day and the month that a request belongs to."""

    day: Window
    month: Window


def windows_at(now: datetime, timezone: str) -> Windows:
    """The day and the month in `timezone` in which `now` lies."""
    zone = ZoneInfo(timezone)
    local = now.astimezone(zone)
    # Wall clock arithmetic: a day with a change of clocks has 23 or 25 hours.
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    first = midnight.replace(day=1)
    return Windows(
        Window(f"{local:%Y-%m-%d}", _epoch(midnight + timedelta(days=1))),
        Window(f"{local:%Y-%m}", _epoch((first + timedelta(days=32)).replace(day=1))),
    )


def _epoch(local: datetime) -> int:
    return int(local.astimezone(UTC).timestamp())


class Calendar:
    """The current windows by time zone; found anew only when a day is over."""

    def __init__(self) -> None:
        self._current: dict[str, Windows] = {}

    def at(self, now: float, timezone: str) -> Windows:
        """The windows of `now`, epoch seconds."""
        known = self._current.get(timezone)
        # The clock may also have been set back over midnight.
        if known is None or not known.day.end - 82_800 <= now < known.day.end:
            known = windows_at(datetime.fromtimestamp(now, UTC), timezone)
            self._current[timezone] = known
        return known

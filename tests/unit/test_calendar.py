"""Days and months end when the team's wall clock says so."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from service.quota.calendar import Calendar, windows_at

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Asia/Beirut")
zones = st.sampled_from(ZONES)
moments = st.integers(1_200_000_000, 2_000_000_000)


def _utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def test_a_day_is_that_of_the_time_zone() -> None:
    windows = windows_at(_utc(2026, 8, 22, 22, 30), "Europe/Berlin")
    assert windows.day.label == "2026-08-23"
    assert windows.day.end == _utc(2026, 8, 23, 22).timestamp()


def test_a_day_on_which_the_clocks_change_has_23_or_25_hours() -> None:
    for now, hours in ((_utc(2026, 3, 29, 12), 23), (_utc(2026, 10, 25, 12), 25)):
        begin = windows_at(now - timedelta(days=1), "Europe/Berlin").day.end
        assert windows_at(now, "Europe/Berlin").day.end - begin == hours * 3600


def test_a_month_ends_with_its_last_day_and_a_year_with_december() -> None:
    windows = windows_at(_utc(2026, 12, 31, 23, 59), "UTC")
    assert (windows.month.label, windows.month.end) == ("2026-12", windows.day.end)
    assert windows.month.end == _utc(2027, 1, 1).timestamp()


@given(moments, zones)
def test_every_moment_lies_in_its_day_and_month(moment: int, zone: str) -> None:
    windows = windows_at(datetime.fromtimestamp(moment, UTC), zone)
    local = datetime.fromtimestamp(moment, ZoneInfo(zone))
    assert windows.day.label == f"{local:%Y-%m-%d}"
    assert windows.month.label == f"{local:%Y-%m}"
    assert moment < windows.day.end <= windows.month.end
    after = datetime.fromtimestamp(windows.day.end, ZoneInfo(zone))
    assert f"{after:%Y-%m-%d}" > windows.day.label
    before = datetime.fromtimestamp(windows.day.end - 1, ZoneInfo(zone))
    assert f"{before:%Y-%m-%d}" == windows.day.label


@given(st.lists(st.tuples(moments, zones), max_size=8), st.lists(st.integers(-90_000, 90_000)))
def test_what_is_remembered_is_what_would_be_found_anew(
    starts: list[tuple[int, str]], steps: list[int]
) -> None:
    calendar = Calendar()
    for start, zone in starts:
        now = start
        for step in (0, *steps):
            now += step
            expected = windows_at(datetime.fromtimestamp(now, UTC), zone)
            assert calendar.at(now, zone) == expected

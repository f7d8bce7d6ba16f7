"""Days and hours by the clock on the wall."""

import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.timetable import DAY_MINUTES, Timetable, local_minute

MON, FRI, SAT, SUN = 0, 4, 5, 6


def at(hour: int, minute: int = 0) -> int:
    return hour * 60 + minute


def test_hours_hold_on_their_days_from_the_first_minute_to_the_last() -> None:
    office = Timetable.parse("mon-fri 08:00-18:00")
    assert office.holds(MON, at(8)) and office.holds(FRI, at(17, 59))
    assert not office.holds(MON, at(7, 59)) and not office.holds(FRI, at(18))
    assert not office.holds(SAT, at(12))


def test_hours_over_midnight_belong_to_the_day_on_which_they_begin() -> None:
    night = Timetable.parse("fri 22:00-06:00")
    assert night.holds(FRI, at(22)) and night.holds(SAT, at(5, 59))
    assert not night.holds(SAT, at(6)) and not night.holds(FRI, at(3)) and not night.holds(SAT, at(22))
    sunday = Timetable.parse("sun 23:00-01:00")
    assert sunday.holds(MON, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sat,sun", "sat,sun"),
        ("SAT-mon 9:00-24:00", "mon,sat,sun 09:00-24:00"),
        ("22:00-06:00", "22:00-06:00"),
        ("mon-sun", "00:00-24:00"),
        ("mon-wed,fri", "mon-wed,fri"),
    ],
)
def test_a_time_is_said_as_it_is_taken(text: str, says: str) -> None:
    assert str(Timetable.parse(text)) == says
    assert Timetable.parse(says) == Timetable.parse(text)


@given(
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, DAY_MINUTES - 1),
    st.integers(1, DAY_MINUTES),
)
def test_whatever_is_said_is_taken_back(days: frozenset[int], begin: int, end: int) -> None:
    if begin == end:
        return
    made = Timetable(days, begin, end)
    assert Timetable.parse(str(made)) == made


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no time"),
        ("mon-fry 08:00-18:00", "'fry' is no day of the week"),
        ("mon 8-18", "are no hours"),
        ("mon 08:00-25:00", "from 00:00 to 24:00"),
        ("mon 08:60-09:00", "are no hours"),
        ("mon 08:00-08:00", "no time at all"),
        ("mon tue 08:00-09:00", "is no time"),
        ("08:00-09:00 mon", "are no hours"),
        ("x" * 5000, "is no time"),
    ],
)
def test_what_is_no_time_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(FormatError, match=complaint):
        Timetable.parse(text)


@pytest.mark.parametrize(("zone", "hours"), [("Europe/Berlin", 9), ("UTC", 10)])
def test_the_hours_of_a_wall_are_as_long_as_summer_time_makes_them(
    monkeypatch: pytest.MonkeyPatch, zone: str, hours: int
) -> None:
    monkeypatch.setenv("TZ", zone)
    night = Timetable.parse("sat 22:00-08:00")  # in which the clocks go forward in Berlin
    begin = datetime(2026, 3, 28, 20, tzinfo=ZoneInfo(zone)).timestamp()
    try:
        held = sum(night.holds(*local_minute(int(begin + 60 * k) * 10**9)) for k in range(16 * 60))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert held == hours * 60


@pytest.mark.parametrize("text", ["mon-", "-mon", "mon-,sat- 08:00-09:00"])
def test_days_that_are_not_said_to_their_end_are_refused(text: str) -> None:
    with pytest.raises(FormatError, match="'' is no day of the week"):
        Timetable.parse(text)

"""When something holds: days of the week and hours of the day, by the clock on the wall. Pure.

`mon-fri 08:00-18:00`, `sat,sun`, `22:00-06:00`. Hours that end before they begin go on into the next day, and
belong to the day on which they begin. Local time is looked at anew each time, so that the hour which summer
time takes away or gives twice is as long as it was.
"""

import re
import time
from dataclasses import dataclass
from typing import Final

from dittofs.errors import FormatError

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES: Final = 24 * 60
TEXT_MAX: Final = 100
EXAMPLE: Final = '"mon-fri 08:00-18:00", "sat,sun" or "22:00-06:00"'

_HOURS: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")


@dataclass(frozen=True, slots=True)
class Timetable:
    """Some days of the week, and some hours of each. `str()` gives what `parse` takes."""

    days: frozenset[int] = frozenset(range(7))
    """0 is Monday."""
    begin: int = 0
    """Minute of the day."""
    end: int = DAY_MINUTES
    """The first minute that is not meant any more; not after `begin`: on the next day."""

    @classmethod
    def parse(cls, text: str) -> "Timetable":
        """`[DAYS] [FROM-TO]`, at least one of them. FormatError says what is wrong."""
        words = text.lower().split()
        if not 1 <= len(words) <= 2 or len(text) > TEXT_MAX:
            raise FormatError(f"{text[:TEXT_MAX]!r} is no time: say it like {EXAMPLE}")
        is_hours = words[-1][0].isdecimal()
        if len(words) == 2 and not is_hours:
            raise FormatError(f"{words[-1]!r} are no hours: say them like 08:00-18:00")
        begin, end = _hours(words[-1]) if is_hours else (0, DAY_MINUTES)
        return cls(_days(words[0]) if len(words) == 2 or not is_hours else cls().days, begin, end)

    def holds(self, day: int, minute: int) -> bool:
        """Whether that minute of that day of the week is meant."""
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        return (day in self.days and minute >= self.begin) or (
            (day - 1) % 7 in self.days and minute < self.end
        )

    def __str__(self) -> str:
        words = [_spelled(self.days)] if len(self.days) < 7 else []
        if (self.begin, self.end) != (0, DAY_MINUTES) or not words:
            words.append(f"{_clock(self.begin)}-{_clock(self.end)}")
        return " ".join(words)


def local_minute(now_ns: int) -> tuple[int, int]:
    """The day of the week and the minute of the day on this machine's wall."""
    time.tzset()  # the zone may be another one than when the process began
    local = time.localtime(now_ns // 1_000_000_000)
    return local.tm_wday, local.tm_hour * 60 + local.tm_min


def _hours(word: str) -> tuple[int, int]:
    found = _HOURS.fullmatch(word)
    numbers = [int(one) for one in found.groups()] if found else []
    if not numbers or max(numbers[1], numbers[3]) > 59:
        raise FormatError(f"{word!r} are no hours: say them like 08:00-18:00")
    begin, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
    if begin >= DAY_MINUTES or end > DAY_MINUTES:
        raise FormatError(f"{word!r} are no hours: a day goes from 00:00 to 24:00")
    if begin == end:
        raise FormatError(f"{word!r} is no time at all: a whole day is 00:00-24:00")
    return begin, end


def _days(word: str) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        for name in (first, last):
            if name not in DAYS:
                raise FormatError(f"{name!r} is no day of the week: those are {', '.join(DAYS)}")
        begin, end = DAYS.index(first), DAYS.index(last)
        found |= {day % 7 for day in range(begin, end + (1 if end >= begin else 8))}
    return frozenset(found)


def _spelled(days: frozenset[int]) -> str:
    """Runs of days by their ends, the rest by name."""
    parts: list[str] = []
    for day in sorted(days):
        if day - 1 in days and day - 2 in days:
            parts[-1] = f"{parts[-1].partition('-')[0]}-{DAYS[day]}"
        elif day - 1 in days and day + 1 in days:
            parts[-1] = f"{parts[-1]}-{DAYS[day]}"
        else:
            parts.append(DAYS[day])
    return ",".join(parts)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"

"""How fast this device may send and receive, as rules: read, written, and which of them holds. Pure.

Each rule is about one direction, and about one device or all of them together; of those that hold now the
last one counts. A rule of no time takes the place of all before it that are about the same.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dittofs.errors import FormatError
from dittofs.timetable import Timetable

RATE_MIN: Final = 32_000
"""Below it the largest chunks would not come within the time that somebody waits for one."""
RATE_MAX: Final = 1_000_000_000_000
RULES_MAX: Final = 200
LINE_MAX: Final = 300
OFF: Final = "off"

_RATE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([a-zA-Z]*)(?:/s)?")
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_SIZES: Final = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("B", 1))
_LINE: Final = re.compile(
    r"(?P<direction>\S+)\s+(?P<rate>\S+)(?:\s+device\s+(?P<device>\S+))?(?:\s+at\s+(?P<at>\S.*?))?\s*"
)


class Direction(StrEnum):
    """Seen from this device."""

    UP = "up"
    DOWN = "down"


About = tuple[Direction, str | None]
"""A direction, and the id of a device or None for all together."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One rule. `str()` gives the line that `parse` takes."""

    direction: Direction
    rate: int | None
    """Bytes a second; None: as fast as it goes."""
    device: str | None = None
    """Its id in hexadecimal; None: all devices together."""
    at: Timetable | None = None
    """None: always."""

    @classmethod
    def parse(cls, line: str) -> "RateLimit":
        """FormatError says what is wrong."""
        found = _LINE.fullmatch(line.strip())
        if found is None or len(line) > LINE_MAX:
            raise FormatError("it is no rule: those are like  up 2MB/s at mon-fri 08:00-18:00")
        if found["direction"] not in tuple(Direction):
            raise FormatError(f"{found['direction']!r} is neither up nor down")
        return cls(
            Direction(found["direction"]),
            parse_rate(found["rate"]),
            None if found["device"] is None else _device(found["device"]),
            None if found["at"] is None else Timetable.parse(found["at"]),
        )

    def __str__(self) -> str:
        device = f" device {self.device}" if self.device is not None else ""
        at = f" at {self.at}" if self.at is not None else ""
        return f"{self.direction} {rate_text(self.rate)}{device}{at}"

    @property
    def about(self) -> About:
        return self.direction, self.device


def parse_rate(text: str) -> int | None:
    """`2MB/s`, `500kB`, `20Mbit/s`, bytes without a unit; None for `off`. FormatError otherwise."""
    if text.lower() == OFF:
        return None
    found = _RATE.fullmatch(text)
    factor = _factor(found[2]) if found else None
    if found is None or factor is None:
        raise FormatError(f"{text[:40]!r} is no rate: say it like 2MB/s, 500kB/s, 20Mbit/s or off")
    rate = round(float(found[1]) * factor)
    if rate < RATE_MIN:
        raise FormatError(f"{text} is too little: the least is {rate_text(RATE_MIN)}, and off is no limit")
    if rate > RATE_MAX:
        raise FormatError(f"{text} is more than anything can carry: off is no limit")
    return rate


def rate_text(rate: int | None) -> str:
    """A rate as `parse_rate` takes it, exactly."""
    if rate is None:
        return OFF
    for unit, factor in _SIZES:
        if rate >= factor and (rate * 1000) % factor == 0:
            return f"{rate / factor:.3f}".rstrip("0").rstrip(".") + f"{unit}/s"
    return f"{rate}B/s"


def with_rule(rules: Sequence[RateLimit], rule: RateLimit) -> tuple[RateLimit, ...]:
    """The rules with one more at the end. One about the same and the same time goes; of no time, all do."""
    kept = [one for one in rules if one.about != rule.about or (rule.at is not None and one.at != rule.at)]
    if rule.rate is None and all(one.about != rule.about for one in kept):
        return tuple(kept)  # nothing is left that it would be an exception of
    if len(kept) >= RULES_MAX:
        raise FormatError(f"there are {RULES_MAX} limits, and no more fit")
    return (*kept, rule)


def in_force(rules: Iterable[RateLimit], day: int, minute: int) -> dict[About, RateLimit]:
    """Of each direction and device the rule that counts at that minute, those that are `off` too."""
    return {rule.about: rule for rule in rules if rule.at is None or rule.at.holds(day, minute)}


def read_rules(text: str, origin: str) -> tuple[tuple[RateLimit, ...], dict[int, str]]:
    """The rules in a file's text, one a line, and by its number a sentence for each line that is none."""
    rules: list[RateLimit] = []
    problems: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            if len(rules) >= RULES_MAX:
                raise FormatError(f"there are more than {RULES_MAX} limits")
            rules.append(RateLimit.parse(line))
        except FormatError as error:
            problems[number] = f"{origin}:{number} is passed over: {error}"
    return tuple(rules), problems


def _factor(unit: str) -> float | None:
    """Of a unit of bytes or, in whole words, of bits. `Mb` might be either, and is none."""
    if unit.lower().endswith("bit") and unit.lower()[:-3] in _UNITS:
        return _UNITS[unit.lower()[:-3]] / 8
    number = unit.removesuffix("iB")
    if number != unit and number.lower() in ("k", "m", "g"):
        return float(1024 ** " kmg".index(number.lower()))
    return _UNITS.get(unit.removesuffix("B").lower())


def _device(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise FormatError(f"{text[:80]!r} is no device: it is written by its id, 64 hexadecimal digits")
    return text

"""Times as people write them, in UTC."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from dittofs.clock import DAY_NS, SECOND_NS

_UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_AGO: Final = re.compile(r"(\d{1,9})\s*(s|min|m|h|d|w|y)(?:\s+ago)?")
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d)[:.](\d\d)(?:[:.](\d\d)(?:\.(\d{1,9}))?)?)?\s*(?:Z|UTC)?"
)


def parse_time(text: str, now_ns: int) -> int | None:
    """Nanoseconds since 1970; None if it is no time, or before 1970.

    `2026-11-21` and `2026-11-21T14:02` are their first moment; `2026-11-21T14:02:07` and its fractions the
    last one, so that what happened in that second has happened. `3h` is three hours ago; `now`, `today` (its
    first moment) and `yesterday` (one day ago) are understood.
    """
    text = text.strip()
    match text.lower():
        case "now":
            return now_ns
        case "yesterday":
            return now_ns - DAY_NS
        case "today":
            return now_ns - now_ns % DAY_NS
    if ago := _AGO.fullmatch(text.lower()):
        at = now_ns - int(ago[1]) * _UNITS[ago[2]] * SECOND_NS
        return at if at >= 0 else None
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction = found.groups()
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
    except ValueError:
        return None
    whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    if whole < 0:
        return None
    rest = int((fraction or "").ljust(9, "9")) if second else 0
    return whole * SECOND_NS + rest


def time_name(at_ns: int, digits: int = 0) -> str:
    """`2026-11-21T14:02:07Z`, with some digits of the fraction: what `parse_time` reads back."""
    whole, rest = divmod(at_ns, SECOND_NS)
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=whole)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}"[: len(text) + 1 + digits] + "Z" if digits else f"{text}Z"

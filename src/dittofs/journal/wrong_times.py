"""History rows that were applied while the clock was ahead: they come back to the present, in their order.

Until then views of the present would not show what was done since the clock is right again.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dittofs.clock import DAY_NS, SECOND_NS
from dittofs.errors import FormatError
from dittofs.journal.answered import answered_at, put_answered_at
from dittofs.journal.history import END, HistoryRow
from dittofs.journal.journal import Journal

OBSERVED: Final = "history/observed"
AHEAD_NS: Final = 60 * SECOND_NS
"""Rows less far ahead of the clock stay: time will be there soon."""
BEHIND_NS: Final = 2 * DAY_NS
"""A clock this far behind the time that was seen is wrong itself."""
ROWS_AT_ONCE: Final = 256
"""Some milliseconds."""


def observed(journal: Journal) -> int | None:
    """The time that this device has seen (volume/observed_time.py); None: it has not looked yet."""
    raw = journal.get_meta(OBSERVED)
    if raw is not None and len(raw) != 8:
        raise FormatError("the time that was seen is not readable")
    return None if raw is None else int.from_bytes(raw, "big", signed=True)


def put_observed(journal: Journal, at: int) -> None:
    """Within a transaction."""
    journal.put_meta(OBSERVED, at.to_bytes(8, "big", signed=True))


def set_right(journal: Journal, now: int) -> bool:
    """Within a transaction: move some rows that lie in the future to now. False: there are none."""
    if journal.history.last_at <= now + AHEAD_NS:
        return False
    seen = observed(journal)
    if seen is None or now < seen - BEHIND_NS:
        return False
    rows = journal.history.some_since((now, END), END, ROWS_AT_ONCE)
    is_all = len(rows) < ROWS_AT_ONCE
    if not is_all and rows[0].at != rows[-1].at:
        rows = [row for row in rows if row.at != rows[-1].at]  # a step stays one
    _move(journal, rows, now, is_all=is_all)
    return True


def _move(journal: Journal, rows: Sequence[HistoryRow], now: int, *, is_all: bool) -> None:
    times = sorted({row.at for row in rows})
    before = max(journal.history.last_before(now + 1), now - len(times))
    fresh = {at: before + number for number, at in enumerate(times, 1)}
    for row in rows:
        journal.history.remove(row)
    for row in rows:
        journal.history.replace(replace(row, at=fresh[row.at]))
    journal.history.forget()
    answered = answered_at(journal)
    if answered > now and (is_all or answered < times[-1]):
        put_answered_at(journal, max((fresh[at] for at in times if at <= answered), default=before))

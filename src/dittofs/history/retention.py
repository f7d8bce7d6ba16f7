"""How much of the past is kept: all of a day, then less and less; the only version of anything stays.

Thinning merges neighbouring rows of one kind and one writer about one inode, within an hour, a day or a week:
what was before the first, what was after the last. So the end of each such time is kept exactly; a time
within shows its beginning, or what another writer made of it. After a year rows go altogether, and with them
what was removed a year ago. Each device does so for itself, by the time that it has seen pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Self

import msgspec
import structlog
import trio

from dittofs.clock import SECOND_NS
from dittofs.config import HistorySettings
from dittofs.errors import DittoError, FormatError
from dittofs.history.observed_time import ObservedTime
from dittofs.ids import InodeId
from dittofs.journal.answered import answered_at
from dittofs.journal.history import HistoryRow
from dittofs.journal.wrong_times import set_right
from dittofs.volume.events import author_of, key_of
from dittofs.volume.replica import Replica

log = structlog.get_logger()

HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S
WEEK_S: Final = 7 * DAY_S
INTERVAL_S: Final = float(HOUR_S)
ROWS_IN_A_ROW: Final = 256
"""Looked at in one transaction: some milliseconds."""
ROWS_HELD_MAX: Final = 50_000
"""Of one hour, day or week; of a busier one less is merged."""
CURSOR: Final = "history/thinned"


@dataclass(frozen=True, slots=True)
class Keep:
    """How long, in seconds, changes are kept one by one, by the hour, by the day and by the week."""

    all_s: int = DAY_S
    hourly_s: int = 7 * DAY_S
    daily_s: int = 30 * DAY_S
    weekly_s: int = 365 * DAY_S

    @classmethod
    def chosen(cls, settings: HistorySettings) -> Self:
        """As the user of this device chose."""
        days = (settings.hourly_days, settings.daily_days, settings.weekly_days)
        return cls(settings.all_hours * HOUR_S, *(count * DAY_S for count in days))


class Retention:
    """Of one replica."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._time = ObservedTime(replica.journal, replica.clock)
        self.keep = Keep()
        """May be set at any time; what is gone stays gone."""

    async def run(self) -> None:
        """Thin for ever."""
        if self._replica.read_only is None:
            with self._replica.change():
                self._time.begin()
        while True:
            await trio.sleep(INTERVAL_S)
            try:
                await self.thin()
            except DittoError as error:
                log.error("the history could not be thinned", reason=str(error))

    async def thin(self) -> int:
        """Merge and remove what has become old enough; the number of rows that went."""
        if self._replica.read_only is not None:
            return 0
        await self._set_right()
        with self._replica.change():
            now = self._time.now()
        gone = 0
        done = self._cursor()
        levels = ((HOUR_S, self.keep.all_s), (DAY_S, self.keep.hourly_s), (WEEK_S, self.keep.daily_s))
        for length_s, age_s in levels:
            length = length_s * SECOND_NS
            end = (now - age_s * SECOND_NS) // length * length
            name = str(length_s)
            known = done.get(name, 0)
            if known > end:  # it was thinned by a clock that was ahead
                known = 0
            start = max(known, (self._replica.journal.history.first_at() or end) // length * length)
            while start < end and self._replica.read_only is None:
                first = next(self._replica.journal.history.since(start), None)
                if first is None or first.at >= end:
                    break
                start = first.at // length * length
                gone += await self._merge(start, start + length)
                start += length
            if end != done.get(name, 0):
                done[name] = end
                self._save(done)
        return gone + await self._expire(now - self.keep.weekly_s * SECOND_NS)

    async def _set_right(self) -> None:
        """Rows of a time when the clock was ahead, if it is right again."""
        is_more = True
        while is_more:
            with self._replica.change():
                is_more = set_right(self._replica.journal, self._replica.clock.now_ns())
            await trio.lowlevel.checkpoint()

    async def _merge(self, start: int, end: int) -> int:
        """The rows of one time, each with the one before it of its kind."""
        last: dict[InodeId, dict[str, HistoryRow]] = {}
        gone = held = 0
        for rows in self._slices(start, end):
            with self._replica.change():
                answered = answered_at(self._replica.journal)
                for row in rows:
                    key = key_of(row)
                    if key is None:  # it comes or goes: nothing is merged across that
                        last.pop(row.inode, None)
                        continue
                    known = last.setdefault(row.inode, {})
                    before = known.get(key)
                    is_cut = before is None or before.at <= answered < row.at or _by_others(before, row)
                    if key == "mtime" and is_cut and before is not None:
                        known.pop("content", None)
                    if key == "content":
                        # It says what the time was, too: one that was set between two of them says nothing.
                        time = known.pop("mtime", None)
                        is_cut = is_cut or (time is not None and _by_others(time, row))
                        if time is not None and not is_cut:
                            self._replica.journal.history.remove(time)
                            gone += 1
                    if before is None or is_cut:
                        known[key] = row
                        held += 1
                        continue
                    gone += 1
                    self._replica.journal.history.remove(before)
                    merged = replace(row, before=before.before, source=before.source)
                    if merged.before == merged.after:
                        self._replica.journal.history.remove(row)
                        gone += 1
                        del known[key]
                    else:
                        self._replica.journal.history.replace(merged)
                        known[key] = merged
            if held > ROWS_HELD_MAX:
                last, held = {}, 0
            await trio.lowlevel.checkpoint()
        return gone

    async def _expire(self, before: int) -> int:
        """Rows of more than the longest time go: of what lives there is what it is now."""
        gone = 0
        for rows in self._slices(0, before):
            with self._replica.change():
                for row in rows:
                    self._replica.journal.history.remove(row)
                    gone += 1
            await trio.lowlevel.checkpoint()
        return gone

    def _slices(self, start: int, end: int) -> Iterator[list[HistoryRow]]:
        """The rows of a time, some at once, whatever is done to them meanwhile."""
        history = self._replica.journal.history
        key = (start, 0)
        while rows := history.some_since(key, end, ROWS_IN_A_ROW):
            key = rows[-1].key
            yield rows

    def _cursor(self) -> dict[str, int]:
        raw = self._replica.journal.get_meta(CURSOR)
        try:
            return {} if raw is None else msgspec.msgpack.decode(raw, type=dict[str, int])
        except msgspec.DecodeError as error:
            raise FormatError(f"how far the history is thinned is not readable: {error}") from error

    def _save(self, done: dict[str, int]) -> None:
        with self._replica.change():
            self._replica.journal.put_meta(CURSOR, msgspec.msgpack.encode(done))


def _by_others(one: HistoryRow, other: HistoryRow) -> bool:
    """Whether two rows tell of changes of two writers: undo takes back those of one."""
    return author_of(one)[0] != author_of(other)[0]

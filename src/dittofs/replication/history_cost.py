"""What the past costs here: chunks that only the history and snapshots name, counted in the background."""

from typing import Final

import trio

from dittofs.journal.history import History
from dittofs.replication.collector import Collector
from dittofs.replication.marking import Incomplete

FIRST_S: Final = 60.0
INTERVAL_S: Final = 3600.0
SHARE: Final = 50
"""Counting takes at most one part in so many of the time."""


class HistoryCost:
    """Of one volume."""

    def __init__(self, collector: Collector, history: History) -> None:
        self._collector = collector
        self._history = history
        self.bytes: int | None = None
        """As of the last time it was counted; None: not yet, or it cannot be known here."""

    async def run(self) -> None:
        """Count for ever, when something has happened since."""
        counted_at = -1
        await trio.sleep(FIRST_S)
        while True:
            took = 0.0
            if self._history.last_at != counted_at:
                counted_at, begun = self._history.last_at, trio.current_time()
                await self.count()
                took = trio.current_time() - begun
            await trio.sleep(max(INTERVAL_S, took * SHARE))

    async def count(self) -> None:
        """Go through all that is named."""
        try:
            self.bytes = (await self._collector.measure()).past.bytes
        except Incomplete:
            self.bytes = None

"""How a mount waits for requests: what pyfuse3 takes from trio, made for many requests in a row.

pyfuse3 passes the scheduler for each request, for the lock between its readers and for the descriptor. It
looks `trio` up in its own module, so that another library can stand in; here that is trio with a lock that
is taken at once when it is free, and a descriptor that is asked before anybody sleeps on it.
"""

import select
import time
from collections.abc import Callable
from types import SimpleNamespace, TracebackType
from typing import Any, Final

import trio

TURN_S: Final = 0.001
"""After so long with requests in a row the scheduler is passed: others wait for two turns at most."""


class ReadLock:
    """Admits one reader. Whoever frees it may take it again first; those who wait look again then."""

    def __init__(self) -> None:
        self._is_held = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        while self._is_held:
            await self._waiting.park()
        self._is_held = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_held = False
        # The next reader runs as soon as this one sleeps, be it in a handler.
        self._waiting.unpark()


class Readiness:
    """Waits until a descriptor can be read; without a pass of the scheduler while a turn lasts."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._poll: dict[int, select.poll] = {}
        self._turn_ends = 0.0

    async def wait_readable(self, descriptor: int) -> None:
        """Return when a read would not block. ClosedResourceError as trio's."""
        poll = self._poll.get(descriptor)
        if poll is None:
            poll = self._poll[descriptor] = select.poll()
            poll.register(descriptor, select.POLLIN)
        if self._monotonic() < self._turn_ends and poll.poll(0):
            return
        await trio.lowlevel.wait_readable(descriptor)
        self._turn_ends = self._monotonic() + TURN_S


def waiting() -> Any:
    """All that one pyfuse3 looks up in its `trio`."""
    lowlevel = SimpleNamespace(
        wait_readable=Readiness().wait_readable,
        current_task=trio.lowlevel.current_task,
        current_trio_token=trio.lowlevel.current_trio_token,
        notify_closing=trio.lowlevel.notify_closing,
    )
    return SimpleNamespace(
        Lock=ReadLock,
        lowlevel=lowlevel,
        open_nursery=trio.open_nursery,
        from_thread=trio.from_thread,
        ClosedResourceError=trio.ClosedResourceError,
    )

"""Events to any number of listeners; a slow one loses events and is told how many, nobody waits for it."""

from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

import trio

from dittofs.control.protocol import Event, LaggedEvent, StoppingEvent

LISTENER_EVENTS_MAX: Final = 256


class _Listener:
    def __init__(self) -> None:
        self.waiting: deque[Event] = deque()
        self.missed = 0
        self.wakeup = trio.Event()


class EventFeed:
    """One per daemon. `publish` from the event loop only."""

    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()

    def publish(self, event: Event) -> None:
        """Hand `event` to everybody who listens. Never waits; order is kept."""
        for listener in self._listeners:
            if len(listener.waiting) >= LISTENER_EVENTS_MAX and not isinstance(event, StoppingEvent):
                listener.missed += 1
            else:
                listener.waiting.append(event)
            listener.wakeup.set()

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    async def listen(self) -> AsyncGenerator[Event, None]:
        """Events from the first step on, up to and with `StoppingEvent`. Close it (`aclosing`)."""
        listener = _Listener()
        self._listeners.add(listener)
        try:
            while True:
                await listener.wakeup.wait()
                listener.wakeup = trio.Event()
                while listener.waiting:
                    event = listener.waiting.popleft()
                    yield event
                    if isinstance(event, StoppingEvent):
                        return
                if listener.missed:
                    missed, listener.missed = listener.missed, 0
                    yield LaggedEvent(missed=missed)
        finally:
            self._listeners.discard(listener)

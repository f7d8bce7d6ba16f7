"""Where devices that have nothing in common yet find each other: by the number of an open invitation.

The number is told and asked for on local networks, by multicast DNS and by a beacon. Who says to have it
proves nothing by that: the words of the code do (`replication.finding`).
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from dittofs.address import Address
from dittofs.clock import Entropy
from dittofs.discovery import beacon
from dittofs.discovery.beacon import Heard, Offer, State

SIGHTINGS_MAX: Final = 256

Hear = Callable[[Heard], None]


class Meeting:
    """What this device offers by number, and where others do. One per daemon."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self.state: Callable[[int], State | None] = lambda _slot: None
        """What has become of this device's invitation of that number; None: there is none."""
        self.slots: Callable[[], frozenset[int]] = frozenset
        """Numbers of this device's invitations that somebody may use."""
        self._sightings: dict[str, tuple[frozenset[int], tuple[Address, ...]]] = {}
        self._wanted: list[int] = []
        """Numbers that this device looks for; it does not answer itself."""
        self._listeners: list[Callable[[frozenset[int], tuple[Address, ...]], None]] = []

    def sighted(self, instance: str, slots: frozenset[int], addresses: tuple[Address, ...]) -> None:
        """Somebody on this network says so by multicast DNS; no addresses: it is gone."""
        if not (slots and addresses):
            self._sightings.pop(instance, None)
        elif instance in self._sightings or len(self._sightings) < SIGHTINGS_MAX:
            self._sightings[instance] = slots, addresses
            for listener in list(self._listeners):
                listener(slots, addresses)

    async def answer(self, port: Callable[[], int], bind: str | None) -> None:
        """Tell who asks for a number what this device has, for ever; `port` is where it accepts links."""
        await beacon.answering(partial(self._offer, port), bind=bind)

    def _offer(self, port: Callable[[], int], slot: int) -> Offer | None:
        state = self.state(slot)
        return None if state is None or not port() or slot in self._wanted else Offer(state, port())

    async def look_for(self, slot: int, hear: Hear) -> None:
        """Call `hear` for each address where somebody says to have that number, until cancelled."""

        def sighted(slots: frozenset[int], addresses: tuple[Address, ...]) -> None:
            if slot in slots:
                for address in addresses:
                    hear(Heard(address, State.OPEN))

        for slots, addresses in list(self._sightings.values()):
            sighted(slots, addresses)
        self._listeners.append(sighted)
        self._wanted.append(slot)
        try:
            await beacon.ask(slot, hear, self._entropy)
        finally:
            self._listeners.remove(sighted)
            self._wanted.remove(slot)

    async def is_taken(self, slot: int, patience_s: float) -> bool:
        """Whether another device on this network has given that number out."""
        taken = trio.Event()
        with trio.move_on_after(patience_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.look_for, slot, lambda _heard: taken.set())
                await taken.wait()
                nursery.cancel_scope.cancel()
        return taken.is_set()

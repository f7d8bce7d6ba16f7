"""Joining by a code: whoever says to have its invitation is dialled and shown nothing but half an exchange.

Liars can answer too. Each of them has one guess of the words, and at most CANDIDATES_MAX are asked.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
import trio

from dittofs.address import Address
from dittofs.clock import Entropy
from dittofs.discovery.beacon import Heard, State
from dittofs.errors import DittoError, FormatError
from dittofs.identity.codes import Code
from dittofs.identity.invitations import PairingRefused, Reason
from dittofs.identity.keys import Device, DeviceId
from dittofs.identity.pairing import Joined
from dittofs.links.link import HandshakeRefused, Link, LinkBroken
from dittofs.replication.meeting import Hear
from dittofs.replication.pairing import close, dial_inviter, join_over

log = structlog.get_logger()

CANDIDATES_MAX: Final = 3
SETTLE_S: Final = 2.0
"""So long others may answer too, when the first was not the right one."""
HEARD_MAX: Final = 32
"""Addresses that are dialled for one code."""
DIALS_MAX: Final = 8

LookFor = Callable[[int, Hear], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Another way to the device, beside addresses that are heard."""

    place: str
    dial: Callable[[], Awaitable[Link]]
    """A link to whoever is there, waited for."""


Roam = Callable[[Callable[[Caller], None]], Awaitable[None]]
"""Tells of devices that may show the code and have no address; until cancelled."""


class NobodyFound(DittoError):
    """No device that can be heard has an invitation of that number."""


class SeveralFound(DittoError):
    """More than one device says to have the invitation, and none knows the words."""


@dataclass(slots=True)
class _Search:
    """What became of the addresses that were heard."""

    device: Device
    code: Code
    name: str
    entropy: Entropy
    links: trio.MemorySendChannel[tuple[str, Link]]
    over: list[Heard] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)
    refused: dict[DeviceId, tuple[str, DittoError]] = field(default_factory=dict)
    known: set[DeviceId] = field(default_factory=set)
    dials: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(DIALS_MAX))

    async def dial(self, address: Address) -> None:
        """Hand over a link to whoever is there, unless another address of it was faster."""
        async with self.dials:
            await self.reach(
                Caller(str(address), partial(dial_inviter, address, self.device, lambda _who: True))
            )

    async def reach(self, caller: Caller) -> None:
        """As `dial`."""
        link: Link | None = None
        try:
            link = await caller.dial()
            if link.peer not in self.known:
                self.known.add(link.peer)
                await self.links.send((caller.place, link))
                link = None
        except DittoError as error:
            self.unreached.append(str(error))
        finally:
            if link is not None:
                await close(link)

    async def try_at(self, place: str, link: Link) -> Joined | None:
        """Pair over `link`; None if that is not to be, and why is noted."""
        try:
            return await join_over(link, self.device, self.code, self.name, self.entropy)
        except HandshakeRefused:
            self.closed.append(place)  # nothing was shown to it, so it had no guess
        except (PairingRefused, FormatError, LinkBroken) as error:
            self.refused[link.peer] = place, error
        finally:
            await close(link)
        return None

    def failure(self) -> DittoError:
        """Why nobody let this device in."""
        slot = self.code.slot
        others = {who: one for who, one in self.refused.items() if who != self.device.id}
        if len(others) > 1:
            places = ", ".join(place for place, _ in others.values())
            return SeveralFound(f"several devices say to have shown code {slot}, and none knows it: {places}")
        for _, error in (*others.values(), *self.refused.values()):
            return error
        if self.over:
            return PairingRefused(Reason(int(self.over[0].state)))
        if self.closed:
            places = ", ".join(self.closed)
            return HandshakeRefused(f"the device at {places} has no open invitation")
        if self.unreached:
            return LinkBroken("the inviting device was found and not reached: " + "; ".join(self.unreached))
        return NobodyFound(f"no device on this network shows a code that begins with {slot}")


async def join_by_code(
    device: Device,
    code: Code,
    name: str,
    *,
    look_for: LookFor,
    caller: Caller | None = None,
    roam: Roam | None = None,
    patience_s: float,
    entropy: Entropy,
) -> Joined:
    """Pair with the device that shows `code`, looked for during `patience_s`, also by `caller` and `roam`.

    NobodyFound; SeveralFound; PairingRefused, FormatError, HandshakeRefused: what became of the one that
    answered; LinkBroken: it was not reached. After a wrong code the invitation is void.
    Cancelled, this device may have been let in: the same code gives it the volume again, within ten minutes.
    """
    sending, receiving = trio.open_memory_channel[tuple[str, Link]](HEARD_MAX)
    search = _Search(device, code, name, entropy, sending)
    until = _Until(trio.current_time() + patience_s)
    heard: set[Address] = set()

    joined: Joined | None = None
    try:
        async with trio.open_nursery() as nursery:

            def hear(one: Heard) -> None:
                if one.state is not State.OPEN:
                    search.over.append(one)
                    until.settle()
                elif one.address not in heard and len(heard) < HEARD_MAX:
                    heard.add(one.address)
                    nursery.start_soon(search.dial, one.address)

            nursery.start_soon(look_for, code.slot, hear)
            if caller is not None:
                nursery.start_soon(search.reach, caller)
            if roam is not None:
                nursery.start_soon(roam, lambda one: nursery.start_soon(search.reach, one))
            while joined is None and len(search.refused) < CANDIDATES_MAX:
                found = await _next(receiving, until)
                if found is None:
                    break
                joined = await search.try_at(*found)
                if search.refused:
                    until.settle()
            nursery.cancel_scope.cancel()
    finally:
        await _close_all(receiving)
    if joined is None:
        raise search.failure()
    return joined


async def _close_all(links: trio.MemoryReceiveChannel[tuple[str, Link]]) -> None:
    """Within a second, also when cancelled: nobody was shown anything over these."""
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            while links.statistics().current_buffer_used:
                nursery.start_soon(close, links.receive_nowait()[1])


class _Until:
    """A time that may come nearer while somebody waits for it."""

    def __init__(self, time: float) -> None:
        self._time = time
        self._waiting: trio.CancelScope | None = None

    def settle(self) -> None:
        """In SETTLE_S, if not before."""
        self._time = min(self._time, trio.current_time() + SETTLE_S)
        if self._waiting is not None:
            self._waiting.deadline = self._time

    def scope(self) -> trio.CancelScope:
        """Ends at that time."""
        self._waiting = trio.CancelScope(deadline=self._time)
        return self._waiting


async def _next(
    receiving: trio.MemoryReceiveChannel[tuple[str, Link]], until: _Until
) -> tuple[str, Link] | None:
    """The next candidate. None: the time is up, and nobody is left who answered meanwhile."""
    try:
        return receiving.receive_nowait()
    except trio.WouldBlock:
        with until.scope():
            return await receiving.receive()
    return None

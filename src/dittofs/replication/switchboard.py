"""The signalling servers that this device uses: that of the settings, and those of single volumes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from dittofs.clock import Clock, Entropy
from dittofs.identity.keys import Device
from dittofs.ids import VolumeId
from dittofs.links.link import Link
from dittofs.replication.calls import Calls
from dittofs.replication.connector import Connector
from dittofs.replication.peers import Peers
from dittofs.replication.upkeep import kept_up
from dittofs.server_urls import IceServer, SignalUrl

if TYPE_CHECKING:
    from dittofs.replication.line import Line

HOSTING_S: Final = 10.0
"""So long a server is waited for before a code is shown without it."""


class Switchboard:
    """See the module. `run` must be running; it does nothing while no server is to be used."""

    def __init__(
        self,
        device: Device,
        connector: Connector,
        *,
        server: SignalUrl | None,
        ice: Sequence[IceServer],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.server = server
        """The one of the settings."""
        self._device = device
        self._connector = connector
        self._ice = tuple(ice)
        self._clock = clock
        self._entropy = entropy
        self.slots: Callable[[SignalUrl], frozenset[int]] = lambda _url: frozenset()
        """Numbers of this device's invitations that somebody may use by way of a server."""
        self._of_volumes: dict[VolumeId, SignalUrl] = {}
        self._lines: dict[SignalUrl, tuple[Line, trio.CancelScope]] = {}
        self._changed = trio.Event()
        self._began = trio.Event()

    def use(self, volume: VolumeId, server: SignalUrl | None) -> None:
        """Meet a volume's devices there, beside where the settings say; None: nowhere else."""
        if server is None:
            self._of_volumes.pop(volume, None)
        else:
            self._of_volumes[volume] = server
        self._changed.set()

    def of(self, volume: VolumeId) -> SignalUrl | None:
        """Where codes for a volume are shown: its own server, else that of the settings."""
        return self._of_volumes.get(volume, self.server)

    def problems(self) -> list[tuple[SignalUrl, str]]:
        """Each server in use, and why it is not reached, or empty."""
        tried = [(url, line.problem) for url, (line, _) in self._lines.items()]
        return [(url, "not tried yet" if problem is None else problem) for url, problem in tried]

    async def hosting(self, server: SignalUrl, slot: int) -> bool | None:
        """Whether the number of a code is this device's at a server; None: that is not reached in time."""
        with trio.move_on_after(HOSTING_S):
            while server not in self._lines:
                await self._began.wait()
            return await self._lines[server][0].hosting(slot)
        return None

    async def dial_host(self, server: SignalUrl, nursery: trio.Nursery, slot: int) -> Link:
        """A link for pairing to whoever shows a code with that number there, waited for.

        `nursery` holds its process. ServerLost, LinkBroken.
        """
        # Loaded when first needed: a device that uses no server has no use for WebSockets.
        from dittofs.replication.asking import dial_host

        return await dial_host(server, slot, Calls(self._device, nursery), self._ice, self._entropy)

    async def run(self) -> None:
        """For ever: a line to each server."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                wanted = {*self._of_volumes.values(), *([self.server] if self.server else [])}
                for url in self._lines.keys() - wanted:
                    self._lines.pop(url)[1].cancel()
                for url in wanted - self._lines.keys():
                    self._begin(url, nursery)
                self._connector.look()
                await self._changed.wait()

    def _begin(self, url: SignalUrl, nursery: trio.Nursery) -> None:
        from dittofs.replication.line import Line

        line = Line(
            url,
            self._connector,
            Calls(self._device, nursery),
            volumes=partial(self._volumes, url),
            slots=lambda: self.slots(url),
            ice=self._ice,
            clock=self._clock,
            entropy=self._entropy,
        )
        scope = trio.CancelScope()
        self._lines[url] = line, scope
        self._began.set()
        self._began = trio.Event()
        nursery.start_soon(_run, line, scope)

    def _volumes(self, url: SignalUrl) -> list[tuple[Peers, bytes]]:
        """Whose devices are met at a server."""
        every = self._connector.volumes()
        return [one for one in every if url in (self.server, self._of_volumes.get(one[0].volume))]


async def _run(line: "Line", scope: trio.CancelScope) -> None:
    with scope:
        await kept_up(line.run)

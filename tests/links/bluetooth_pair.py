"""Two machines with Bluetooth, each with a bus and a BlueZ of its own."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from dittofs.links.bluetooth import Bluetooth
from dittofs.links.rfcomm import RfcommStream
from tests.links.bus_program import message_bus_daemon
from tests.links.fake_bluez import Air, FakeBluez

HERE = "00:AA:01:00:00:00"
THERE = "00:AA:01:01:00:01"
PATIENCE_S = 60.0


class Machine:
    """One machine: its BlueZ, what DittoFS makes of it, and the connections that were accepted."""

    def __init__(self, air: Air, address: str, bus: str) -> None:
        self.bluez = FakeBluez(air, address, bus)
        self.bluetooth = Bluetooth(bus=bus)
        self.bluetooth.accept = self._accept
        self._sending, self._arrived = trio.open_memory_channel[tuple[RfcommStream, str]](16)

        self.streams: list[RfcommStream] = []

    def _accept(self, stream: RfcommStream, address: str) -> bool:
        self.streams.append(stream)
        self._sending.send_nowait((stream, address))
        return True

    async def accepted(self) -> tuple[RfcommStream, str]:
        """The next connection that another machine began, and its address."""
        with trio.fail_after(PATIENCE_S):
            return await self._arrived.receive()

    async def usable(self) -> None:
        """Return when Bluetooth can be used."""
        await self.until(lambda: self.bluetooth.problem == "")

    async def until(self, holds: object) -> None:
        """Return when something holds of what is known."""
        assert callable(holds)
        with trio.fail_after(PATIENCE_S):
            while not holds():
                await self.bluetooth.changed.wait()


@asynccontextmanager
async def machine(air: Air, address: str, *, with_bluez: bool = False) -> AsyncIterator[Machine]:
    """One machine; its BlueZ may be run later."""
    with tempfile.TemporaryDirectory() as place:
        async with message_bus_daemon(Path(place)) as bus, trio.open_nursery() as nursery:
            one = Machine(air, address, bus)
            if with_bluez:
                await nursery.start(one.bluez.run)
            nursery.start_soon(one.bluetooth.run)
            yield one
            for stream in one.streams:
                stream.drop()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def two_machines() -> AsyncIterator[tuple[Machine, Machine]]:
    """Both can be used; neither has heard of the other."""
    air = Air()
    async with machine(air, HERE, with_bluez=True) as here, machine(air, THERE, with_bluez=True) as there:
        await here.usable()
        await there.usable()
        yield here, there


@asynccontextmanager
async def bluetooth_streams() -> AsyncIterator[tuple[RfcommStream, RfcommStream]]:
    """The dialler's stream and the other's."""
    async with two_machines() as (here, there):
        here.bluez.known.add(THERE)
        one = await here.bluetooth.dial(THERE)
        other, _ = await there.accepted()
        async with one, other:
            yield one, other

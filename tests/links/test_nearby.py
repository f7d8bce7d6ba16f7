"""Whole nodes that only Bluetooth joins: invited, met, found again; and what becomes of worse luck."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from dittofs.blocking import run_in_thread
from dittofs.clock import SystemClock, system_entropy
from dittofs.config import Paths, Settings
from dittofs.errors import ConfigError
from dittofs.identity.records import Role
from dittofs.links.bluetooth import Bluetooth
from dittofs.node import Node
from dittofs.replication import nearby
from dittofs.replication.nearby import Nearby
from dittofs.replication.network import Network
from dittofs.replication.outbox import Outbox
from dittofs.replication.session import Session
from dittofs.shared_volume import SharedVolume
from dittofs.sync import messages as wire
from tests.links.bluetooth_pair import HERE, THERE
from tests.links.bus_program import message_bus_daemon
from tests.links.fake_bluez import Air, FakeBluez

PATIENCE_S = 90.0


class Place:
    """A node without a network, with Bluetooth."""

    def __init__(self, node: Node, bluez: FakeBluez) -> None:
        self.node = node
        self.bluez = bluez

    @property
    def network(self) -> Network:
        assert self.node.network is not None
        return self.node.network

    async def session(self, volume: SharedVolume) -> Session:
        """The one with the other device, once there is one."""
        with trio.fail_after(PATIENCE_S):
            while not volume.peers.open_sessions:
                await volume.peers.changed.wait()
        return volume.peers.open_sessions[0]


@asynccontextmanager
async def place(air: Air, address: str, directory: Path, label: str) -> AsyncIterator[Place]:
    (directory / "bus").mkdir(parents=True)
    async with message_bus_daemon(directory / "bus") as bus, trio.open_nursery() as nursery:
        bluez = FakeBluez(air, address, bus)
        await nursery.start(bluez.run)
        node = Node(
            Paths.find({"DITTOFS_HOME": str(directory / "home")}),
            Settings(label, bind="127.0.0.1", port=0, uses_mdns=False, bluetooth=""),
            clock=SystemClock(),
            entropy=system_entropy,
            run_blocking=run_in_thread,
            nursery=nursery,
        )
        node.start()
        one = Place(node, bluez)
        one.network.nearby = Nearby(node._home.device, one.network.connector, Bluetooth(bus=bus))
        one.network.addresses = list  # type: ignore[method-assign]  # as on a machine without a network
        yield one
        await node.close()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def joined(tmp_path: Path) -> AsyncIterator[tuple[Place, SharedVolume, Place, SharedVolume]]:
    """A node that invited, and one that joined by the code."""
    air = Air()
    async with (
        place(air, HERE, tmp_path / "alder", "alder") as alder,
        place(air, THERE, tmp_path / "birch", "birch") as birch,
    ):
        one = await alder.node.open("Shared", trusts_root=False)
        share = await alder.node.require_desk().share(one, Role.WRITER)
        assert share.ticket.addresses == ()
        done = await birch.node.require_desk().join_by_code(share.code, PATIENCE_S)
        other = await birch.node.join(done, "Shared")
        yield alder, one, birch, other


async def test_without_a_network_a_device_joins_by_code_and_both_meet_by_bluetooth(tmp_path: Path) -> None:
    async with joined(tmp_path) as (alder, one, birch, other):
        session = await birch.session(other)
        assert session.link.description == f"bluetooth {HERE}"
        assert (await alder.session(one)).link.description == f"bluetooth {THERE}"
        with trio.fail_after(PATIENCE_S):
            await other.peers.in_step()


async def test_a_link_that_was_lost_is_made_again(tmp_path: Path) -> None:
    async with joined(tmp_path) as (_, _, birch, other):
        first = await birch.session(other)
        first.link._stream.end()  # type: ignore[attr-defined]  # as when the radio fails
        with trio.fail_after(PATIENCE_S):
            while birch.network.connector.peers(other.id) is None or other.peers.open_sessions in (
                [],
                [first],
            ):
                await other.peers.changed.wait()
        assert (await birch.session(other)).link.description == f"bluetooth {HERE}"


async def test_nobody_is_called_or_shown_while_every_member_is_met(tmp_path: Path) -> None:
    async with joined(tmp_path) as (alder, one, birch, other):
        await birch.session(other)
        await alder.session(one)
        found = birch.network.nearby
        assert found is not None
        assert not found._overdue(trio.current_time() + nearby.OTHERS_FIRST_S)


@pytest.mark.parametrize("is_on", [True, False])
async def test_a_machine_that_nothing_reaches_cannot_invite(tmp_path: Path, is_on: bool) -> None:
    async with place(Air(), HERE, tmp_path, "alder") as alder:
        alder.bluez.is_powered = False
        if not is_on:
            alder.network.nearby = None
        volume = await alder.node.open("Shared", trusts_root=False)
        with pytest.raises(ConfigError, match="no other device could reach this one"):
            await alder.node.require_desk().share(volume, Role.WRITER)


async def test_frames_on_bluetooth_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    batch: Callable[[Outbox], list[bytes | memoryview]] = Outbox._batch

    def watched(self: Outbox) -> list[bytes | memoryview]:
        found = batch(self)
        sizes.extend(map(len, found))
        return found

    monkeypatch.setattr(Outbox, "_batch", watched)
    async with joined(tmp_path) as (_, _, birch, other):
        session = await birch.session(other)
        session.outbox.put(wire.Refuse("over", "the test is over"), bytes(100_000), is_bulk=True)
        with trio.fail_after(PATIENCE_S):
            await session.outbox.flushed()
    assert max(sizes) == 16 << 10

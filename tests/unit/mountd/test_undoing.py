"""Whose changes are undone, shown or refused: a device is itself, whatever others are called."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from dittofs.control.faults import Refusal
from dittofs.control.history import LogRequest
from dittofs.control.sharing import RemoveRequest
from dittofs.control.undoing import BrakeDone, BrakeRequest, UndoDone, UndoRequest, UndoStep
from dittofs.identity.records import Role
from dittofs.node import Node
from dittofs.tree.brake import Limits
from dittofs.volume.browsing import Browsing
from dittofs.volume.state import Caller
from mountd.authors import Authors
from mountd.history import HistoryDesk
from mountd.members import MemberDesk
from mountd.mounting import Mounting
from mountd.undoing import UndoDesk
from tests.simulation.rig import settled
from tests.unit.mountd.test_members import NAME, node_in

FILES = 12


@dataclass
class Laptops:
    """A desktop; a laptop that was removed there, and another one that then joined under the same name."""

    desktop: Node
    first: str
    second: str
    """Their ids."""

    @property
    def desk(self) -> UndoDesk:
        return UndoDesk(self.desktop)

    def shown(self) -> set[str]:
        volume = self.desktop.require_open(NAME).volume
        return {entry.name.decode() for entry in volume.replica.tree.listing(volume.root.id)}

    async def undo(self, device: str) -> list[str]:
        """The paths that undoing what a device did is about."""
        items = [item async for item in self.desk.undo(UndoRequest(NAME, device, since_ns=0))]
        assert isinstance(items[-1], UndoDone)
        return sorted(one.path for one in items if isinstance(one, UndoStep))

    async def brake(self, device: str, action: str = "list") -> BrakeDone:
        request = BrakeRequest(NAME, action, device)  # type: ignore[arg-type] # of three words
        items = [item async for item in self.desk.brake(request)]
        assert isinstance(items[-1], BrakeDone)
        return items[-1]

    async def log(self, device: str) -> set[str]:
        """The paths of which the log tells."""
        return {one.path async for one in HistoryDesk(self.desktop).log(LogRequest(NAME, device=device))}


async def _write(node: Node, name: str) -> None:
    volume = node.require_open(NAME).volume
    caller = Caller(volume.state.uid, volume.state.gid, 1)

    async def parts() -> AsyncIterator[bytes]:
        yield os.urandom(4096)

    await Browsing(volume).add(
        [name.encode()], parts(), caller=caller, mode=0o600, mtime=None, parents=False, replace=True
    )
    await volume.publisher.drain_all()


async def _remove(node: Node, name: str) -> None:
    volume = node.require_open(NAME).volume
    await settled(volume.names.unlink(volume.root, name.encode()))


async def _in_step(node: Node) -> None:
    opened = node.require_open(NAME)
    while not opened.peers.open_sessions:
        await opened.peers.changed.wait()
    await opened.volume.publisher.drain_all()
    await opened.peers.in_step()


async def _join(desktop: Node, guest: Node) -> str:
    """The guest joins and is in step; its id."""
    share = await desktop.require_desk().share(desktop.require_open(NAME), Role.WRITER)
    joined = await guest.require_desk().join(share.ticket)
    await guest.join(joined, NAME, is_ephemeral=True)
    await _in_step(guest)
    return guest.device_id.hex()


@asynccontextmanager
async def two_laptops(directory: Path, *, is_held: bool = False) -> AsyncIterator[Laptops]:
    """Each of the laptops wrote a file; or each removed half of the files, which is held on the desktop."""
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            desktop = node_in(directory / "desktop", nursery)
            desktop.start()
            opened = await desktop.open(NAME, trusts_root=False)
            if is_held:
                opened.volume.replica.tree.brake.limits = Limits(files_min=FILES // 2, share=0.01)
            for number in range(FILES if is_held else 0):
                await _write(desktop, f"file {number}")
            ids = []
            for number in (1, 2):
                laptop = node_in(directory / str(number) / "laptop", nursery)
                laptop.start()
                ids.append(await _join(desktop, laptop))
                if is_held:
                    half = FILES // 2
                    for one in range(half * (number - 1), half * number):
                        await _remove(laptop, f"file {one}")
                else:
                    await _write(laptop, f"of laptop {number}")
                await _in_step(laptop)
                if number == 1:
                    await MemberDesk(desktop, Mounting(desktop, nursery)).remove(
                        RemoveRequest(NAME, "laptop")
                    )
                await laptop.close()
            yield Laptops(desktop, *ids)
            await desktop.close()
            nursery.cancel_scope.cancel()


async def test_undoing_what_one_of_two_devices_of_one_name_did_leaves_the_other_alone(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as there:
        with pytest.raises(Refusal) as refused:
            await there.undo("laptop")
        assert refused.value.code == "usage"
        assert there.first[:8] in str(refused.value)
        assert there.second[:8] in str(refused.value)
        assert there.shown() == {"of laptop 1", "of laptop 2"}
        assert await there.undo(there.first[:8]) == ["of laptop 1"]
        assert there.shown() == {"of laptop 2"}


async def test_a_log_of_one_of_two_devices_of_one_name_tells_of_that_one(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as there:
        with pytest.raises(Refusal, match="several devices"):
            await there.log("laptop")
        assert await there.log(there.first) == {"of laptop 1"}
        assert await there.log(there.second[:8]) == {"of laptop 2"}
        with pytest.raises(Refusal, match="no device has written here"):
            await there.log("tablet")
        events = HistoryDesk(there.desktop).log(LogRequest(NAME, path="of laptop 1"))
        told = [(one.device, one.known_as) async for one in events]
        assert told == [("laptop", there.first[:8])]


async def test_deciding_about_one_of_two_devices_of_one_name_leaves_what_is_held_of_the_other(
    tmp_path: Path,
) -> None:
    async with two_laptops(tmp_path, is_held=True) as there:
        listed = await there.brake("")
        assert {one.known_as: one.removed for one in listed.batches} == {
            there.first[:8]: FILES // 2,
            there.second[:8]: FILES // 2,
        }
        with pytest.raises(Refusal, match="several devices"):
            await there.brake("laptop", "accept")
        assert len(there.shown()) == FILES
        await there.brake(there.first[:8], "accept")
        assert len(there.shown()) == FILES // 2
        (left,) = (await there.brake("laptop")).batches  # of that name nothing else is held any more
        assert left.known_as == there.second[:8]
        await there.brake("laptop", "reject")
        assert (await there.brake("")).batches == ()
        assert len(there.shown()) == FILES // 2


A, B = "a" * 64, "b" * 8 + "a" * 56


def test_an_id_is_exact_whatever_others_call_themselves() -> None:
    authors = Authors({A: "laptop", B: "phone", A[:8]: A[:8], "laptop": "laptop"})
    assert authors.find(A) == A
    assert authors.find("phone") == authors.find("bbbb") == B
    for text in ("laptop", "aaaaaaaa"):  # a writer that no device signed for calls itself so, too
        with pytest.raises(Refusal, match="several"):
            authors.find(text)
    assert authors.find("unsigned:laptop") == "laptop"
    assert (authors.known_as(A), authors.known_as(B)) == ("a" * 12, "phone")
    assert authors.find(authors.known_as(A)) == A
    assert authors.known_as("laptop") == "unsigned:laptop"
    with pytest.raises(Refusal, match="several"):  # who calls itself so, and whose id begins so
        authors.find("aaaaaaaa", named={A[:8]})
    assert authors.find("laptop", named={A}) == A
    assert authors.find("bb") == authors.find("") == authors.find("tablet") == ""

"""Leaving a volume: nothing that only this device has is given up, and nothing is named by nobody."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio

from dittofs.blocking import run_in_thread
from dittofs.clock import SystemClock, system_entropy
from dittofs.config import Paths, Settings
from dittofs.control.faults import Refusal
from dittofs.control.people import GrantRequest, UserRequest
from dittofs.control.sharing import RemoveRequest
from dittofs.home import GONE, VOLUMES
from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.node import Node
from dittofs.replication.custody import HOLD
from dittofs.replication.lonely import Tally
from dittofs.replication.parting import Alone, alone_on
from dittofs.replication.policy import Policy
from dittofs.shared_volume import SharedVolume
from dittofs.volume.browsing import Browsing
from dittofs.volume.state import Caller
from mountd import syncing
from mountd.members import MemberDesk
from mountd.mounting import Mounting
from mountd.people import PeopleDesk
from mountd.reports import Reports
from mountd.unmounting import not_sent
from tests.simulation.rig import settled
from tests.unit.replication.pair import until

NAME = "Shared"
THESIS = os.urandom(400 << 10)


def node_in(home: Path, nursery: trio.Nursery) -> Node:
    return Node(
        Paths.find({"DITTOFS_HOME": str(home)}),
        Settings(home.name, bind="127.0.0.1", port=0, uses_mdns=False),
        clock=SystemClock(),
        entropy=system_entropy,
        run_blocking=run_in_thread,
        nursery=nursery,
    )


@dataclass
class Guest:
    """Joined the host's volume for one mount, and is connected."""

    node: Node
    host: Node
    desk: MemberDesk
    home: Path
    reports: Reports
    mounting: Mounting

    @property
    def of_host(self) -> Reports:
        return Reports(self.host, self.mounting)

    @property
    def opened(self) -> SharedVolume:
        return self.node.require_open(NAME)

    async def write(self, name: str, data: bytes = THESIS) -> None:
        volume = self.opened.volume
        caller = Caller(volume.state.uid, volume.state.gid, 1)

        async def parts() -> AsyncIterator[bytes]:
            yield data

        adding = Browsing(volume).add
        await adding(
            [name.encode()], parts(), caller=caller, mode=0o600, mtime=None, parents=False, replace=True
        )

    async def remove(self, name: str) -> None:
        volume = self.opened.volume
        await volume.publisher.drain_all()
        await settled(volume.names.unlink(volume.root, name.encode()))

    async def read(self, name: str) -> bytes:
        _, parts = Browsing(self.opened.volume).read([name.encode()], 0, -1)
        return b"".join([part async for part in parts])

    def kept(self) -> list[str]:
        return sorted(one.name for one in (self.home / "state" / VOLUMES).iterdir())

    def is_member(self) -> bool:
        return self.opened.role > Role.NONE and len(self.host.require_open(NAME).membership.members()) == 2


@asynccontextmanager
async def guest_of(directory: Path, policy: str) -> AsyncIterator[Guest]:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            host, node = node_in(directory / "host", nursery), node_in(directory / "guest", nursery)
            host.start()
            node.start()
            opened = await host.open(NAME, trusts_root=False)
            opened.ruling.set_all(Policy.parse(policy))
            host_desk, desk = host.require_desk(), node.require_desk()
            share = await host_desk.share(opened, Role.WRITER)
            joined = await desk.join(share.ticket)
            here = await node.join(joined, NAME, is_ephemeral=True)
            while not here.peers.open_sessions:
                await here.peers.changed.wait()
            await here.peers.in_step()
            mounting = Mounting(node, nursery)
            members, reports = MemberDesk(node, mounting), Reports(node, mounting)
            yield Guest(node, host, members, directory / "guest", reports, mounting)
            await node.close()
            await host.close()
            nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "GRACE_S", 0.2)


async def _once_before(guest: Guest, act: Callable[[], Awaitable[None]]) -> None:
    """`act` while the first comparison of `end` waits: it has looked at the contents by then."""
    peers = guest.opened.peers
    in_step = peers.in_step

    async def acting(since: float | None = None) -> None:
        peers.in_step = in_step  # type: ignore[method-assign] # stops the code at the interesting line
        await act()
        await in_step(since)

    peers.in_step = acting  # type: ignore[method-assign] # as above


async def test_what_is_written_while_a_device_leaves_is_not_removed_with_it(tmp_path: Path) -> None:
    async with guest_of(tmp_path, "on-demand") as guest:
        await _once_before(guest, partial(guest.write, "late.txt"))
        with pytest.raises(Refusal, match="1 file") as refused:
            await guest.desk.end(NAME)
        assert refused.value.code == "unsent"
        assert await guest.read("late.txt") == THESIS
        assert guest.is_member()
        await guest.write("later.txt")  # it may write as before
        assert await guest.read("later.txt") == THESIS


async def test_what_is_written_here_and_not_published_is_not_removed_where_nothing_is_pushed(
    tmp_path: Path,
) -> None:
    async with guest_of(tmp_path, "on-demand") as guest:
        opened = guest.opened
        await guest.write("first.txt")
        publisher = opened.volume.publisher

        async def fails() -> bool:
            publisher.problem = "no room"
            publisher._progress.set()
            return False

        publisher.publish_point = fails  # type: ignore[method-assign] # a full disk
        with pytest.raises(Refusal, match="on this device"):
            await guest.desk.end(NAME)
        del publisher.publish_point
        assert guest.is_member()


async def test_while_it_is_counted_what_is_only_here_nobody_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "COUNT_S", 0.2)
    async with guest_of(tmp_path, "on-demand") as guest:
        monkeypatch.setattr(type(guest.opened.peers.custody), "is_counting", True)
        with pytest.raises(Refusal, match="not known yet"):
            await guest.desk.end(NAME)
        assert guest.is_member()


async def test_ignored_files_are_not_removed_with_a_membership(tmp_path: Path) -> None:
    async with guest_of(tmp_path, "2") as guest:
        await guest.write(".dittoignore", b"*.log\n")
        await guest.opened.volume.publisher.drain_all()
        guest.opened.volume.load_rules()
        await guest.write("build.log")
        with pytest.raises(Refusal, match=r"1 file that is ignored") as refused:
            await guest.desk.end(NAME)
        assert refused.value.code == "unsent"
        assert await guest.read("build.log") == THESIS
        assert guest.is_member()


async def test_what_only_the_history_of_a_device_has_is_not_removed_with_its_membership(
    tmp_path: Path,
) -> None:
    async with guest_of(tmp_path, "on-demand") as guest:
        await guest.write("thesis.txt")
        await guest.remove("thesis.txt")
        await guest.write("notes.txt", b"")
        with pytest.raises(
            Refusal, match=r"1 older version or removed file \(410 kB\) exists only"
        ) as refused:
            await guest.desk.end(NAME)
        assert refused.value.code == "unsent"
        assert guest.is_member()


async def test_a_past_that_another_device_keeps_too_holds_nobody_up(tmp_path: Path) -> None:
    async with guest_of(tmp_path, "2") as guest:
        await guest.write("thesis.txt")
        custody = guest.opened.peers.custody
        while custody.is_counting or custody.tally().only_here:
            await custody.changed.wait()
        await guest.remove("thesis.txt")
        journal = guest.opened.volume.replica.journal
        with journal.transaction():  # it was told, and has forgotten
            for key, _ in list(journal.scan_local(HOLD, b"")):
                journal.delete_local(HOLD, key)
        await guest.desk.end(NAME)
        assert guest.node.names() == []


async def test_who_has_nothing_of_its_own_leaves_and_keeps_nothing(tmp_path: Path) -> None:
    async with guest_of(tmp_path, "2") as guest:
        await guest.write("sent.txt")
        custody = guest.opened.peers.custody
        await guest.opened.volume.publisher.drain_all()
        while custody.is_counting or custody.tally().only_here:
            await custody.changed.wait()
        await guest.desk.end(NAME)
        assert (guest.node.names(), guest.kept()) == ([], [])
        opened = guest.host.require_open(NAME)
        assert len(opened.membership.members()) == 1
        _, parts = Browsing(opened.volume).read([b"sent.txt"], 0, -1)
        assert b"".join([part async for part in parts]) == THESIS


async def test_a_crash_while_a_volume_is_removed_leaves_nothing_of_it(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        one = node_in(tmp_path, nursery)
        one.start()
        for name in ("Gone", "Named", "Kept"):
            await one.open(name, trusts_root=False)
        places = {name: one.place(name) for name in one.names()}
        await one.forget("Gone")
        await one.close()
        nursery.cancel_scope.cancel()
    for name in ("Gone", "Named"):  # after the registry was replaced, and before
        places[name].rename(places[name].with_name(GONE + places[name].name))
    async with trio.open_nursery() as nursery:
        again = node_in(tmp_path, nursery)
        again.start()
        assert again.names() == ["Kept"]
        assert list((tmp_path / "state" / VOLUMES).iterdir()) == [places["Kept"]]
        await again.close()
        nursery.cancel_scope.cancel()


async def test_who_is_no_owner_is_told_where_roles_are_given_and_devices_removed(tmp_path: Path) -> None:
    async with guest_of(tmp_path, "on-demand") as guest:
        with pytest.raises(Refusal, match=r"only an owner can give roles, .* nothing was changed") as refused:
            await PeopleDesk(guest.node, guest.reports).grant(GrantRequest(NAME, "host", "reader"))
        assert refused.value.code == "forbidden"
        assert refused.value.mend == "Run it on an owner's device:  dittofs grant host reader Shared"
        with pytest.raises(Refusal, match="only an owner can remove devices") as refused:
            await guest.desk.remove(RemoveRequest(NAME, "host"))
        assert refused.value.mend == "Run it on an owner's device:  dittofs devices remove host Shared"


async def test_a_device_that_alone_holds_files_is_taken_out_only_on_purpose(tmp_path: Path) -> None:
    async with guest_of(tmp_path, "on-demand") as guest:
        await guest.write("thesis.txt")
        await guest.opened.volume.publisher.drain_all()
        await guest.opened.peers.in_step()
        host = guest.host.require_open(NAME)
        while host.peers.custody.is_counting or not host.peers.custody.tally().only_elsewhere:
            await host.peers.custody.changed.wait()
        members, people = MemberDesk(guest.host, guest.mounting), PeopleDesk(guest.host, guest.of_host)
        await people.user(UserRequest(NAME, "add", "ada", ("guest",)))
        for refuse in (
            members.remove(RemoveRequest(NAME, "guest")),
            people.grant(GrantRequest(NAME, "device:guest", "none")),
            people.grant(GrantRequest(NAME, "ada", "none")),
            people.grant(GrantRequest(NAME, "default", "none")),
            people.user(UserRequest(NAME, "remove", "ada")),
        ):
            with pytest.raises(Refusal, match=r"1 file \(410 kB\) is on guest alone") as refused:
                await refuse
            assert refused.value.fault.exit_code == 3
            assert "dittofs pin Shared:" in refused.value.mend
            assert "--force" in refused.value.mend
        assert guest.is_member()
        another = DeviceId(bytes(32))
        with host.volume.replica.journal.transaction():
            (lonely,) = host.peers.custody.lonely()
            host.volume.replica.journal.put_local(HOLD, another + lonely.root, b"")
        two = [DeviceId(guest.node.device_id), another]
        assert await alone_on(host.peers, two, 10.0) == Alone(1, len(THESIS)), "neither of them alone"
        assert await alone_on(host.peers, [another], 10.0) == Alone(), "the other one has it"
        result = await people.user(UserRequest(NAME, "remove", "ada", is_forced=True))
        assert [one.device for one in result.changed] == ["guest"]
        assert not guest.is_member()


async def test_a_device_with_no_role_is_not_told_that_its_files_will_be_sent(tmp_path: Path) -> None:
    async with guest_of(tmp_path, "on-demand") as guest:
        await guest.write("thesis.txt")
        await guest.opened.volume.publisher.drain_all()
        alone = "1 file (410 kB) exists only"
        assert "is sent while the daemon runs" in not_sent(guest.opened, alone, "/mnt").message
        people = PeopleDesk(guest.host, guest.of_host)
        await people.grant(GrantRequest(NAME, "device:guest", "none", is_forced=True))
        await until(lambda: guest.opened.role is Role.NONE)
        refusal = not_sent(guest.opened, alone, "/mnt")
        assert "1 file (410 kB) that only it has cannot be sent" in refusal.message
        assert "while the daemon runs" not in refusal.message
        assert "dittofs share Shared" in refusal.mend


async def test_a_device_whose_files_are_here_too_is_taken_out_at_once(tmp_path: Path) -> None:
    async with guest_of(tmp_path, "2") as guest:
        await guest.write("thesis.txt")
        await guest.opened.volume.publisher.drain_all()
        await guest.opened.peers.in_step()
        host = guest.host.require_open(NAME)
        while host.peers.custody.is_counting or host.peers.custody.tally() != Tally(is_counting=False):
            await host.peers.custody.changed.wait()
        people = PeopleDesk(guest.host, guest.of_host)
        await people.grant(GrantRequest(NAME, "device:guest", "none"))
        assert not guest.is_member()
